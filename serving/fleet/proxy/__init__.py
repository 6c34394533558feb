"""The proxy: HAProxy, its configuration and Lua script, and the agent that keeps it in line with the routes."""
