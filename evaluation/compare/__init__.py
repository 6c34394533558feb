"""Comparisons of several models on one benchmark."""
