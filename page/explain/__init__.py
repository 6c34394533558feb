"""Explanations of the page: what an item's scores for a query are made of, its ranks, its neighbours, its clicks."""
