"""Text encoders: the input of a tower that maps the tokens of a text to one vector."""
