"""JSON without the liberties of Python's module: no NaN, no Infinity, no text that UTF-8 cannot carry.

How deep a document may be nested and what is said of a bad one are the same in every Python. Numbers stay as they
were written, see `exact_json`.
"""

from __future__ import annotations

import json
import math
import re
from typing import Any

from include.order_cancel import exact_json

MAX_DEPTH = 200  # levels; low enough that whatever walks a document by recursion comes to its end
TOO_DEEP = f"nested deeper than {MAX_DEPTH} levels"
_TOO_LONG = "a number of thousands of digits"
TEXT_OR_BRACKET = re.compile(r'"[^"\\]*(?:\\.[^"\\]*)*"?|[\[\]{}]', re.DOTALL)


class NotJson(ValueError):
    """The value or text is not JSON; the message says what and where."""


def loads(text: str | bytes) -> Any:
    """The value of a JSON text (UTF-8 where it is bytes). Raises NotJson."""
    try:
        if isinstance(text, bytes):
            text = text.decode("utf-8")
        if is_too_deep(text):
            raise NotJson(TOO_DEEP)
        value = _DECODER.decode(text)
    except NotJson:
        raise
    except json.JSONDecodeError as error:
        line, column, words = fault(error)
        raise NotJson(f"line {line} column {column}: {words}") from None
    except UnicodeDecodeError as error:
        raise NotJson(f"byte {error.start} is not UTF-8") from None
    except RecursionError:
        raise NotJson(TOO_DEEP) from None
    except ValueError:
        raise NotJson(_TOO_LONG) from None
    if "\\u" in text:
        dumps(value)
    return value


def dumps(value: Any) -> bytes:
    """The value as UTF-8 JSON. Raises NotJson with the dotted path of what cannot be written."""
    try:
        text = exact_json.encoded(value, _ENCODER)
        encoded = text.encode("utf-8")
    except RecursionError:
        raise NotJson(f"{TOO_DEEP}, or holding itself") from None
    except (TypeError, ValueError):
        raise NotJson(_culprit(value, "") or _TOO_LONG) from None
    if is_too_deep(text):
        raise NotJson(TOO_DEEP)
    return encoded


def is_too_deep(text: str) -> bool:
    """Whether a JSON text is nested deeper than MAX_DEPTH levels; in time that grows with its length alone."""
    if text.count("[") + text.count("{") <= MAX_DEPTH:
        return False
    depth = 0
    for found in TEXT_OR_BRACKET.finditer(text):
        if found[0] in "[{":
            depth += 1
            if depth > MAX_DEPTH:
                return True
        elif found[0] in "]}":
            depth -= 1
    return False


def fault(error: json.JSONDecodeError) -> tuple[int, int, str]:
    """Line, column and reason of a text that is no JSON, as Python 3.11 tells them.

    From 3.13 on Python names a comma before a closing bracket; before, it misses something where the bracket stands.
    """
    if not error.msg.startswith("Illegal trailing comma"):
        return error.lineno, error.colno, error.msg
    rest = error.doc[error.pos + 1 :]
    position = error.pos + 1 + len(rest) - len(rest.lstrip(" \t\n\r"))
    missed = (
        "Expecting value"
        if error.doc[position] == "]"
        else "Expecting property name enclosed in double quotes"
    )
    told = json.JSONDecodeError(missed, error.doc, position)
    return told.lineno, told.colno, told.msg


def _refuse_constant(word: str) -> Any:
    raise NotJson(f"{word} is not a JSON number")


# Made once: quicker than json.loads and json.dumps, and whatever a script does to those does not matter.
_DECODER = json.JSONDecoder(parse_constant=_refuse_constant, parse_float=exact_json.number)
_ENCODER = json.JSONEncoder(ensure_ascii=False, allow_nan=False)


def _culprit(value: Any, path: str, depth: int = 0) -> str | None:
    """What json.dumps stumbled over, as `path: what it is`; None where it is not found."""
    if depth > MAX_DEPTH:
        return f"{_at(path)}{TOO_DEEP}, or holding itself"
    if isinstance(value, dict):
        return _culprit_in_object(value, path, depth)
    if isinstance(value, list | tuple):
        parts = (_culprit(item, f"{path}[{index}]", depth + 1) for index, item in enumerate(value))
        return next((found for found in parts if found), None)
    if isinstance(value, str):
        return f"{_at(path)}text with half a surrogate pair" if _has_lone_surrogate(value) else None
    if isinstance(value, float) and not (isinstance(value, exact_json.Number) or math.isfinite(value)):
        return f"{_at(path)}{float(value)!r} is not a JSON number"
    if value is None or isinstance(value, bool | int | float):
        return None
    return f"{_at(path)}a value of type {type(value).__name__}"


def _culprit_in_object(value: dict[Any, Any], path: str, depth: int) -> str | None:
    for key, item in value.items():
        if not isinstance(key, str | int | float | bool | None):
            return f"{_at(path)}a key of type {type(key).__name__}"
        if isinstance(key, str) and _has_lone_surrogate(key):
            return f"{_at(path)}a key with half a surrogate pair"
        found = _culprit(item, f"{path}.{key}" if path else str(key), depth + 1)
        if found:
            return found
    return None


def _has_lone_surrogate(text: str) -> bool:
    return any("\ud800" <= character <= "\udfff" for character in text)


def _at(path: str) -> str:
    return f"{path[:200]}: " if path else ""
