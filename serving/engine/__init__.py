"""A loaded SavedModel: its session, validation, batching and warm-up."""
