"""Guesses about raw inputs that have no configuration yet: roles of columns, and a training recipe (`dpsr init`)."""
