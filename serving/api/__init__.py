"""Protocols of the server: gRPC, REST, health."""
