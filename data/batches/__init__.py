"""Batches of a dataset: features, joins, steps and augmentation, inside the graph."""
