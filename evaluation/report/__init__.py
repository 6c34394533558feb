"""Reports: tables, JSON, a web page, files of TREC."""
