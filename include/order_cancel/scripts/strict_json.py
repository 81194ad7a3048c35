"""JSON without the liberties of Python's module: no NaN, no Infinity, no text that UTF-8 cannot carry."""

from __future__ import annotations

import json
import math
from typing import Any


class NotJson(ValueError):
    """The value or text is not JSON; the message says what and where."""


def loads(text: str | bytes) -> Any:
    """The value of a JSON text (UTF-8 where it is bytes). Raises NotJson."""
    try:
        if isinstance(text, bytes):
            text = text.decode("utf-8")
        value = _DECODER.decode(text)
    except NotJson:
        raise
    except json.JSONDecodeError as error:
        raise NotJson(f"line {error.lineno} column {error.colno}: {error.msg}") from None
    except UnicodeDecodeError as error:
        raise NotJson(f"byte {error.start} is not UTF-8") from None
    except RecursionError:
        raise NotJson("nested too deep") from None
    except ValueError as error:
        raise NotJson(str(error)) from None
    if "\\u" in text:
        dumps(value)
    return value


def dumps(value: Any) -> bytes:
    """The value as UTF-8 JSON. Raises NotJson with the dotted path of what cannot be written."""
    try:
        return _ENCODER.encode(value).encode("utf-8")
    except RecursionError:
        raise NotJson("nested too deep, or holding itself") from None
    except (TypeError, ValueError) as error:
        raise NotJson(_culprit(value, "") or str(error)) from None


def _refuse_constant(word: str) -> Any:
    raise NotJson(f"{word} is not a JSON number")


def _finite(digits: str) -> float:
    number = float(digits)
    if math.isinf(number):
        raise NotJson(f"{digits[:40]} is too large a number")
    return number


# Made once: quicker than json.loads and json.dumps, and whatever a script does to those does not matter.
_DECODER = json.JSONDecoder(parse_constant=_refuse_constant, parse_float=_finite)
_ENCODER = json.JSONEncoder(ensure_ascii=False, allow_nan=False)


def _culprit(value: Any, path: str, depth: int = 0) -> str | None:
    """What json.dumps stumbled over, as `path: what it is`; None where it is not found."""
    if depth > 100:
        return f"{_at(path)}nested too deep, or holding itself"
    if isinstance(value, dict):
        return _culprit_in_object(value, path, depth)
    if isinstance(value, list | tuple):
        parts = (_culprit(item, f"{path}[{index}]", depth + 1) for index, item in enumerate(value))
        return next((found for found in parts if found), None)
    if isinstance(value, str):
        return f"{_at(path)}text with half a surrogate pair" if _has_lone_surrogate(value) else None
    if isinstance(value, float) and not math.isfinite(value):
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
