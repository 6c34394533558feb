"""The dense searcher: nearest neighbours of the query heads, by ScaNN or exactly."""
