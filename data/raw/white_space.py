"""White space at the ends of values: one rule for datasets and servables.

White space is what Python's ``str.isspace`` says, that is, Unicode's property White_Space and U+001C to U+001F; Arrow's
``utf8_trim_whitespace``, which strips the columns of a dataset, has the same 29 code points. TensorFlow's
``tf.strings.strip`` knows the six of ASCII only, so servables strip by the pattern of this module instead.
"""

from __future__ import annotations

WHITE_SPACE = (
    "\t\n\v\f\r\x1c\x1d\x1e\x1f \x85\xa0\u1680\u2000\u2001\u2002\u2003\u2004\u2005\u2006\u2007\u2008\u2009\u200a"
    "\u2028\u2029\u202f\u205f\u3000"
)
"""Every code point that is white space."""
_CLASS = "[" + "".join(f"\\x{{{ord(character):x}}}" for character in WHITE_SPACE) + "]+"
AT_ENDS = f"^{_CLASS}|{_CLASS}$"
"""RE2 pattern of the white space at both ends of a text; bytes that are not UTF-8 stay as they are."""
