"""From a Variable's text and the flow folder's files to plain, bounded JSON values."""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path, PurePosixPath
from typing import Any

from include.order_cancel.errors import Problem
from include.order_cancel.fields import shown
from include.order_cancel.scripts.strict_json import fault

MAX_SETTINGS_BYTES = 1024 * 1024
MAX_SOURCE_BYTES = 256 * 1024
SOURCES = ("script", "mapping", "post_script", "erp.custom_response_script")
_MAX_DEPTH = 60
_LARGEST_INTEGER = 2**63 - 1
_FORMS = 'null, the text itself, or {"file": "path below the flows folder"}'


class UnreadableError(Exception):
    """The settings are no JSON object that could be looked at field by field."""


class _Object(dict[str, Any]):
    """A JSON object that remembers which keys stood in it twice."""

    twice: frozenset[str] = frozenset()


def _object(pairs: list[tuple[str, Any]]) -> _Object:
    found = _Object(pairs)
    if len(found) < len(pairs):
        found.twice = frozenset(
            name for name, count in Counter(name for name, _ in pairs).items() if count > 1
        )
    return found


def _constant(word: str) -> None:
    raise UnreadableError(
        f"is not JSON: the number {word} does not exist in JSON; give a finite number or null"
    )


def parse(text: str) -> Any:
    """The JSON text's value; raises UnreadableError with line and column."""
    if len(text.encode("utf-8", "surrogatepass")) > MAX_SETTINGS_BYTES:
        raise UnreadableError("is larger than 1 MB; move scripts and mappings into files")
    if not text.strip():
        raise UnreadableError("is empty; the settings are one JSON object")
    try:
        return json.loads(text, object_pairs_hook=_object, parse_constant=_constant)
    except json.JSONDecodeError as error:
        line, column, words = fault(error)
        place = f"line {line}, column {column}"
        raise UnreadableError(f"is not JSON: {place}: {words[0].lower()}{words[1:]}") from None
    except RecursionError:
        raise UnreadableError(f"is nested deeper than {_MAX_DEPTH} levels; flatten it") from None
    except ValueError:
        raise UnreadableError("holds a number of thousands of digits; give a smaller one") from None


def joined(path: str, name: object) -> str:
    return f"{path}.{shown(str(name))}" if path else shown(str(name))


def check_json(value: Any, path: str = "", depth: int = 0) -> Iterator[Problem]:
    """Whatever in `value` is no JSON that a database could keep."""
    if depth > _MAX_DEPTH:
        yield Problem(path, f"is nested deeper than {_MAX_DEPTH} levels; flatten it")
    elif isinstance(value, Mapping):
        yield from _check_object(value, path, depth)
    elif isinstance(value, (list, tuple)):
        for index, item in enumerate(value):
            yield from check_json(item, joined(path, index), depth + 1)
    elif (message := _wrong_scalar(value)) is not None:
        yield Problem(path, message)


def _check_object(value: Mapping[Any, Any], path: str, depth: int) -> Iterator[Problem]:
    for name in sorted(getattr(value, "twice", ())):
        yield Problem(joined(path, name), "stands twice in its object; keep one")
    for name, item in value.items():
        if not isinstance(name, str):
            yield Problem(path, f"holds a key that is not text but {type(name).__name__}; write it in quotes")
        elif (message := _wrong_scalar(name)) is not None:
            yield Problem(path, f"holds a key that {message}")
        else:
            yield from check_json(item, joined(path, name), depth + 1)


def _wrong_scalar(value: object) -> str | None:
    if value is None or isinstance(value, bool):
        return None
    if isinstance(value, str):
        return _wrong_text(value)
    if isinstance(value, int):
        return None if abs(value) <= _LARGEST_INTEGER else "is a number too large to keep; give a smaller one"
    if isinstance(value, float):
        return None if math.isfinite(value) else "is not a finite number; give one, or null"
    return f"is not a JSON value but {type(value).__name__}"


def _wrong_text(value: str) -> str | None:
    if "\x00" in value:
        return "holds a NUL character; remove it"
    if any("\ud800" <= character <= "\udfff" for character in value):
        return "holds half a character (a lone surrogate); write the whole character"
    return None


def plain(value: Any) -> Any:
    """A copy in dict and list, whatever mapping or tuple it came as."""
    if isinstance(value, Mapping):
        return {name: plain(item) for name, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    return value


def size(value: Any) -> int:
    """About as many bytes as the value would take as JSON text."""
    if isinstance(value, dict):
        return sum(size(name) + size(item) for name, item in value.items()) + 2
    if isinstance(value, list):
        return sum(size(item) for item in value) + 2
    return len(value.encode()) + 2 if isinstance(value, str) else 4


def read_sources(raw: dict[str, Any], files: Path | None) -> list[Problem]:
    """Put `{"text", "file"}` in the place of each script and mapping of `raw`.

    A source that cannot be had becomes null and a problem.
    """
    problems: list[Problem] = []
    for path in SOURCES:
        holder, name = _holder(raw, path)
        if holder is None or holder.get(name) is None:
            continue
        try:
            holder[name] = _source(path, holder[name], files)
        except _RefusedError as refused:
            problems.append(refused.problem)
            holder[name] = None
    return problems


def _holder(raw: dict[str, Any], path: str) -> tuple[dict[str, Any] | None, str]:
    section, _, name = path.rpartition(".")
    holder = raw.get(section) if section else raw
    return (holder if isinstance(holder, dict) else None), name


class _RefusedError(Exception):
    def __init__(self, path: str, message: str) -> None:
        self.problem = Problem(path, message)


def _source(path: str, value: Any, files: Path | None) -> dict[str, str | None]:
    if isinstance(value, dict) and "file" in value:
        return {"text": _from_file(path, value, files), "file": value["file"]}
    if path == "mapping" and isinstance(value, (list, dict)):
        value = json.dumps(value, ensure_ascii=False, indent=2)
    if not isinstance(value, str):
        raise _RefusedError(path, f"must be {_FORMS}")
    if not value.strip():
        raise _RefusedError(path, "is empty; use null to leave this step out")
    if len(value.encode()) > MAX_SOURCE_BYTES:
        raise _RefusedError(path, "is larger than 256 KB; shorten it")
    return {"text": value, "file": None}


def _from_file(path: str, value: dict[str, Any], files: Path | None) -> str:
    name = value["file"]
    if surplus := [other for other in value if other != "file"]:
        raise _RefusedError(joined(path, surplus[0]), "is unknown beside 'file'; remove it")
    if not isinstance(name, str) or not name.strip():
        raise _RefusedError(f"{path}.file", "must be the path of a file below the flows folder")
    if files is None:
        raise _RefusedError(
            f"{path}.file", "cannot be read here, where no flows folder is known; give the text itself"
        )
    try:
        return _read(f"{path}.file", name, files)
    except (OSError, RuntimeError, ValueError) as error:
        reason = (
            error.strerror if isinstance(error, OSError) and error.strerror else "the path cannot be read"
        )
        raise _RefusedError(f"{path}.file", f"'{shown(name)}' cannot be read: {reason.lower()}") from None


def _read(path: str, name: str, files: Path) -> str:
    if "\\" in name or PurePosixPath(name).is_absolute() or ".." in PurePosixPath(name).parts:
        raise _RefusedError(
            path, f"'{shown(name)}' must be relative to the flows folder, with '/' and without '..'"
        )
    folder = files.resolve()
    found = (folder / name).resolve()
    if not found.is_relative_to(folder):
        raise _RefusedError(
            path, f"'{shown(name)}' is a link that leads out of the flows folder; copy the file there"
        )
    if not found.exists():
        raise _RefusedError(path, f"'{shown(name)}' does not exist below the flows folder")
    if not found.is_file():
        raise _RefusedError(path, f"'{shown(name)}' is not a file")
    with found.open("rb") as file:
        content = file.read(MAX_SOURCE_BYTES + 1)
    if len(content) > MAX_SOURCE_BYTES:
        raise _RefusedError(path, f"'{shown(name)}' is larger than 256 KB; shorten it")
    return _decoded(path, name, content)


def _decoded(path: str, name: str, content: bytes) -> str:
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise _RefusedError(
            path, f"'{shown(name)}' is not UTF-8 text (byte {error.start}); save it as UTF-8"
        ) from None
    if not text.strip():
        raise _RefusedError(path, f"'{shown(name)}' is empty; use null to leave this step out")
    if (message := _wrong_text(text)) is not None:
        raise _RefusedError(path, f"'{shown(name)}' {message}")
    return text
