"""Judgements of people: records, their store, formats, agreement."""
