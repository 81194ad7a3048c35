"""JSON whose numbers stay as they were written: what is read and not computed with is written as it came.

A number that Python's float would write otherwise (1.10, 1e-5, 12345678901234567.89, 1E400) is read as a `Number`.
"""

from __future__ import annotations

import json
import marshal
import os
import re
import threading
from collections.abc import Callable
from typing import Any

_LEAVES = frozenset({str, int, float, bool, type(None)})
# Whether this process has met a Number: most never do, and then none is searched for.
_MET = threading.Event()


class Number(float):
    """A float that remembers how it was written. Whatever is computed from it is a plain float."""

    __slots__ = ("literal",)
    literal: str

    def __new__(cls, literal: str) -> Number:
        number = super().__new__(cls, literal)
        number.literal = literal
        _MET.set()
        return number

    def __getnewargs__(self) -> tuple[str]:  # type: ignore[override]  # for copies, which are exact, too
        return (self.literal,)


def number(literal: str) -> float:
    """The JSON number of a fraction or an exponent: a plain float where that is written the same."""
    plain = float(literal)
    return plain if float.__repr__(plain) == literal else Number(literal)


def as_text(value: str | float) -> str:
    """A text as it is, a number as `str` has it, a Number as it was written."""
    return value.literal if isinstance(value, Number) else str(value)


def loads(text: str, *, parse_constant: Callable[[str], Any] | None = None) -> Any:
    """As `json.loads`, but numbers stay as they were written, whole ones of any length too.

    Raises JSONDecodeError, RecursionError and what `parse_constant` raises.
    """
    decoder = _DECODER if parse_constant is None else _decoder(parse_constant)
    try:
        return decoder.decode(text)
    except json.JSONDecodeError:
        raise
    except ValueError:  # a number of more digits than Python makes an int of
        return _decoder(parse_constant, parse_int=_whole).decode(text)


def dumps(value: Any, **options: Any) -> str:
    """As `json.dumps`, but a Number is written as it was read."""
    return encoded(value, json.JSONEncoder(**options))


def encoded(value: Any, encoder: json.JSONEncoder) -> str:
    """The value as `encoder` writes it, but each Number as it was read."""
    return (
        _with_numbers(value, encoder) if _MET.is_set() and _may_hold_number(value) else encoder.encode(value)
    )


def _may_hold_number(value: Any) -> bool:
    try:
        marshal.dumps(value)  # quicker than a search: it refuses all but Python's own types
    except ValueError:
        return True
    return False


def _with_numbers(value: Any, encoder: json.JSONEncoder) -> str:
    """Python's encoder takes a Number for a plain float: it gets a mark in its place, which is replaced afterwards."""
    mark, literals = os.urandom(16).hex(), list[str]()

    def marked(part: Any) -> Any:
        if isinstance(part, dict):
            return {key: item if type(item) in _LEAVES else marked(item) for key, item in part.items()}
        if isinstance(part, list | tuple):
            return [item if type(item) in _LEAVES else marked(item) for item in part]
        if isinstance(part, Number):
            literals.append(part.literal)
            return f"{mark}{len(literals) - 1}"
        return part

    text = encoder.encode(marked(value))
    return re.sub(f'"{mark}([0-9]+)"', lambda found: literals[int(found[1])], text) if literals else text


def _whole(digits: str) -> int | float:
    try:
        return int(digits)
    except ValueError:
        return Number(digits)


def _decoder(
    parse_constant: Callable[[str], Any] | None, parse_int: Callable[[str], Any] | None = None
) -> json.JSONDecoder:
    return json.JSONDecoder(parse_float=number, parse_int=parse_int, parse_constant=parse_constant)


_DECODER = _decoder(None)
