"""The memory searcher: what people clicked for a query before."""
