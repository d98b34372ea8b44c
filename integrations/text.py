"""Text from outside, such as names of files and classes, as it is shown: nothing in it acts.

A name can hold any character: line breaks, escape sequences that a terminal obeys, marks that turn
the direction of what follows, and lone surrogates, which stand for bytes of a file name that are
not UTF-8 and which nothing can print.
"""

import re

# Control characters, direction marks, separators of lines, and surrogates.
_ACTING = re.compile(
    "[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ufff9-\ufffb"
    "\U000e0001\ud800-\udfff]"
)
_FORMULA = ("=", "+", "-", "@")


def printable(text: str) -> str:
    """The text in one line, with backslash escapes for all that would act or cannot be printed."""
    return _ACTING.sub(lambda found: found[0].encode("unicode_escape").decode(), text)


def printable_json(text: str) -> str:
    """JSON with the same characters escaped as JSON does; it is the same value."""
    return _ACTING.sub(_as_utf16, text)


def csv_cell(text: str) -> str:
    """A cell that a spreadsheet takes as text: what would be a formula gets a leading `'`."""
    shown = printable(text)
    return f"'{shown}" if shown.startswith(_FORMULA) else shown


def _as_utf16(found: re.Match[str]) -> str:
    units = found[0].encode("utf-16-be", "surrogatepass").hex()
    return "".join(f"\\u{units[start : start + 4]}" for start in range(0, len(units), 4))
