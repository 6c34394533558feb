"""The lexical searcher: items by the words of a query, ranked by BM25."""
