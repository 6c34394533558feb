"""Comparison of the variants of an A/B alias: access log and outcomes -> intervals, tests, a decision."""
