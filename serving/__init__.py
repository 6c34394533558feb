"""The server of a servable and its client."""
