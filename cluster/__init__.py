"""Training on a cluster of workers and parameter servers (paper, section 5.1.3)."""
