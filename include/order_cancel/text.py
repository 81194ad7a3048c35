"""Text from elsewhere, made fit for a log line or a message."""

from __future__ import annotations

import re
from typing import Any

from include.order_cancel import exact_json

# Control characters, line separators and bidirectional marks could forge or hide a line.
_UNPRINTABLE = r"[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]"
# Airflow's page folds what follows `::group::`, wherever in a line that stands.
_FOLDING = r":(?=:(?:end)?group::)"
_UNFIT = re.compile(f"{_UNPRINTABLE}|{_FOLDING}")
UNPRINTABLE = re.compile(_UNPRINTABLE)
_UNPRINTABLE_BUT_BREAKS = re.compile(r"(?!\n)" + _UNPRINTABLE)
_SHORT = {"\n": r"\n", "\r": r"\r", "\t": r"\t"}


def printable(text: str | bytes, limit: int = 500) -> str:
    """`text` as one line: what could forge or hide one is escaped; at most `limit` characters and an ellipsis.

    Bytes are read as UTF-8, what cannot be read is replaced.
    """
    if isinstance(text, bytes):
        text = text[: 4 * limit + 4].decode("utf-8", "replace")
    if len(text) <= limit and text.isprintable() and "::" not in text:
        return text
    line = _UNFIT.sub(_escape, text[: limit + 1])
    return line if len(line) <= limit else line[:limit] + "…"


def in_unicode(text: str) -> str:
    """A header's text without what was no UTF-8 in it, which no journal could keep."""
    return text.encode("utf-8", "surrogateescape").decode("utf-8", "replace")


def json_text(document: Any) -> str:
    """A parsed document as JSON text for the journal, readable; half a surrogate pair stays an escape."""
    text = exact_json.dumps(document, ensure_ascii=False)
    try:
        text.encode()
    except UnicodeEncodeError:
        return exact_json.dumps(document)
    return text


def printable_json(text: str) -> str:
    """A JSON text, broken into lines or not, with all else that is unprintable as the escapes of JSON."""
    return _UNPRINTABLE_BUT_BREAKS.sub(lambda found: f"\\u{ord(found[0]):04x}", text)


def _escape(found: re.Match[str]) -> str:
    character = found[0]
    return _SHORT.get(character) or f"\\u{ord(character):04x}"
