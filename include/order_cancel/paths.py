"""Where a value stands in JSON: `a.b.0.c`, `a[0].b` or `$.a[0].b`; in an HTTP answer also `header:Name`.

A number between dots is an item of a list or a key of an object, whichever stands there. A number in brackets is
an item of a list: in an object nothing stands there.
"""

from __future__ import annotations

import functools
import re
import unicodedata
from typing import TYPE_CHECKING, Any

from include.order_cancel.text import in_unicode

if TYPE_CHECKING:
    from include.order_cancel.http import Answer

FORMS = "a.b.0.c, a[0].b or $.a[0].b"
HEADER = "header:"
_PART = re.compile(r"([^\[\]]*)((?:\[[0-9]{1,9}\])*)")
_HEADER_NAME = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")
_MEANS_A_HEADER = re.compile(r"headers?\s*:", re.IGNORECASE)
_IN_NAMES = frozenset("_-$@#: ")


def at_path(document: Any, path: str) -> Any:
    """What stands at `path`, None where nothing stands there. Raises ValueError for a text that is no path."""
    value = document
    for step in steps(path):
        if isinstance(value, dict):
            value = value.get(step)
        elif isinstance(value, list):
            value = _item(value, step)
        else:
            return None
    return value


def in_answer(answer: Answer, path: str) -> Any:
    """What stands at `path` of an answer: a header's text, or what its JSON holds there; None where nothing does.

    Raises BadAnswer where the body is needed and is not JSON.
    """
    name = header_name(path)
    if name is None:
        return at_path(answer.json(), path)
    texts = (text for key, text in answer.headers.items() if key.lower() == name.lower())
    return in_unicode(next(texts, "").strip()) or None


def header_name(path: str) -> str | None:
    """The header that `header:Name` names, None for a path into the body."""
    name = path.removeprefix(HEADER)
    return name if name != path and _HEADER_NAME.fullmatch(name) else None


@functools.lru_cache(maxsize=1024)
def steps(path: str) -> tuple[str | int, ...]:
    """The steps of a path into JSON: names, and whole numbers for what stood in brackets. Raises ValueError."""
    found: list[str | int] = []
    for position, part in enumerate(_without_root(path).split(".")):
        read = _PART.fullmatch(part)
        if read is None or not (_is_name(read[1]) or (read[1] == "" and read[2] and position == 0)):
            raise ValueError(f"{path!r} is not a path")
        found += [read[1]] if read[1] else []
        found += [int(number) for number in re.findall("[0-9]+", read[2])]
    if _MEANS_A_HEADER.match(path):
        raise ValueError(f"{path!r} is not a path into JSON")
    return tuple(found)


def _without_root(path: str) -> str:
    return path.removeprefix("$").removeprefix(".") if path.startswith(("$.", "$[")) else path


def _is_name(text: str) -> bool:
    """Whether a key is called so, and no other notation means something by it: `*`, `-1`, `?(...)`, quotes."""
    return (
        text == text.strip()
        and any(char.isalnum() or char == "_" for char in text)
        and all(char in _IN_NAMES or unicodedata.category(char)[0] in "LMN" for char in text)
        and not re.fullmatch("-[0-9]+", text)
    )


def _item(items: list[Any], step: str | int) -> Any:
    if isinstance(step, str) and not (step.isascii() and step.isdigit() and len(step) < 10):
        return None
    return items[int(step)] if int(step) < len(items) else None
