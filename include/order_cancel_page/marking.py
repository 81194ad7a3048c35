"""Where in a text a mistake is: the lines that an error's message speaks of."""

from __future__ import annotations

import re
from collections.abc import Iterator

_LINE = re.compile(r"\bline (\d{1,6})\b")
_STEP = re.compile(r"step (\d{1,6}) \([^)]*\)(?: at (.+?): )?")
_TOKEN = re.compile(r'"(?:\\.|[^"\\])*"|//[^\n]*|/\*.*?\*/|[{}\[\]:,]|[^\s{}\[\]:,"/]+', re.DOTALL)


def lines(kind: str, text: str, error: str) -> list[int]:
    """The lines, from 1, that the error is about; the innermost last."""
    if kind == "mapping" and (found := _STEP.search(error)) is not None:
        path = found[2].split(" > ") if found[2] else []
        line = _line_of(text, int(found[1]) - 1, path)
        return [line] if line is not None else []
    most = text.count("\n") + 1
    return [number for number in map(int, _LINE.findall(error)) if 1 <= number <= most]


def _line_of(text: str, step: int, path: list[str]) -> int | None:
    """The line of a place in a step's spec, or of the nearest place around it."""
    places = dict(reversed(list(_places(text))))
    for front in ((step,), ()):
        for length in range(len(path), -1, -1):
            line = places.get((*front, "spec", *path[:length]))
            if line is not None:
                return line
    return None


def _places(text: str) -> Iterator[tuple[tuple[str | int, ...], int]]:
    """Each key of a JSON text, as the path that leads to it, with its line."""
    path: list[str | int] = []
    kinds: list[str] = []
    key, line, at = "", 1, 0
    for token in _TOKEN.finditer(text):
        line += text.count("\n", at, token.start())
        at = token.start()
        word = token[0]
        if word in "{[":
            kinds.append(word)
            path.append(0 if word == "[" else "")
        elif word in "}]":
            if not kinds:
                return
            kinds.pop()
            path.pop()
        elif word == "," and kinds and kinds[-1] == "[":
            path[-1] = int(path[-1]) + 1
        elif word == ":":
            if kinds:
                path[-1] = key
                yield tuple(path), line
        elif word.startswith('"'):
            key = word[1:-1]
