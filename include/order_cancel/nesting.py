"""Documents nested so deep that whatever walks them by recursion would not come to its end."""

from __future__ import annotations

import json
from typing import Any

from include.order_cancel import exact_json
from include.order_cancel.scripts.strict_json import MAX_DEPTH, TEXT_OR_BRACKET, TOO_DEEP

# Deeper than a plan may be nested, so that a plan that was cut is refused and never sent.
KEPT_LEVELS = MAX_DEPTH + 10


def loads(text: str, **options: Any) -> Any:
    """As `exact_json.loads`; what is nested deeper than KEPT_LEVELS becomes a text, the JSON that stands there.

    Raises ValueError.
    """
    try:
        value = exact_json.loads(text, **options)
    except RecursionError:
        return _loads_cut(text, **options)
    _cut(value)
    return value


def _loads_cut(text: str, **options: Any) -> Any:
    try:
        return exact_json.loads(_cut_text(text), **options)
    except RecursionError:  # what was opened is never closed
        raise ValueError(TOO_DEEP) from None


def _cut(value: Any) -> None:
    """Put texts in the place of what stands too deep. Level by level: most documents end after a few."""
    level = [value] if isinstance(value, dict | list) else []
    for _ in range(KEPT_LEVELS - 1):
        level = [part for outer in level for part in _parts(outer) if isinstance(part, dict | list)]
        if not level:
            return
    for outer in level:
        for key, part in list(outer.items() if isinstance(outer, dict) else enumerate(outer)):
            if isinstance(part, dict | list):
                outer[key] = exact_json.dumps(part)


def _parts(value: Any) -> Any:
    return value.values() if isinstance(value, dict) else value


def _cut_text(text: str) -> str:
    pieces: list[str] = []
    depth = begin = done = 0
    for found in TEXT_OR_BRACKET.finditer(text):
        if found[0] in "[{":
            depth += 1
            if depth == KEPT_LEVELS + 1:
                begin = found.start()
        elif found[0] in "]}":
            if depth == KEPT_LEVELS + 1:
                pieces += [text[done:begin], json.dumps(text[begin : found.end()])]
                done = found.end()
            depth -= 1
    return "".join(pieces) + text[done:]
