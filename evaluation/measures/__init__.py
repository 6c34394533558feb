"""Measures of ranked lists and scores, and the slices that they are taken on."""
