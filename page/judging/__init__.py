"""Books of queries: figures of columns on them, sampling, snapshots."""
