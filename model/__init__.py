"""The two towers and their training."""
