"""The web server of the page: one aiohttp process beside a model server."""
