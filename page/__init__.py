"""A web page on which people search, compare, judge and teach."""
