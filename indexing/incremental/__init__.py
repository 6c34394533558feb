"""Exports that start from a published version: what changed since, and an index in segments."""
