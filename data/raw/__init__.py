"""Raw inputs as a shop's systems write them: file formats, readers, rejected rows, User Behavior Insights."""
