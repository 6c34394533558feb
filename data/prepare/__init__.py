"""``dpsr prepare``: from raw inputs to a dataset directory, on one machine or on Spark."""
