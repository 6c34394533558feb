"""Searches of the page: lists of a model server and of baselines, with the items' texts, facets and agreement."""
