"""Models and versions of a server, and the changes between them."""
