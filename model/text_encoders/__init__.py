"""Text encoders: the part of a tower that maps the tokens of a text to one vector."""
