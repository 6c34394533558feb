"""From item vectors to a published servable."""
