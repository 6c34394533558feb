"""From raw logs to the dataset directory, and from it to training batches."""
