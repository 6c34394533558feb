"""Metrics, baselines and the tables of results."""
