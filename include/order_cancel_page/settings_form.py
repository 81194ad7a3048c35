"""The settings as a form: what it asks, from the JSON schema; values out of stored settings and back into them.

A value in the form is a text, true or false, or `{"form", "text", "file"}` for a script or mapping. What the form
leaves at its default is not written, unless it was written before.
"""

from __future__ import annotations

import json
import re
from copy import deepcopy
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

from include.order_cancel.errors import Problem
from include.order_cancel.scripts import strict_json
from include.order_cancel.settings import from_snapshot
from include.order_cancel.settings_reading import SOURCES, UnreadableError, parse
from include.order_cancel.settings_schema import json_schema

Values = dict[str, Any]
_MISSING = object()


@dataclass(frozen=True)
class Field:
    """One field. `kind`: `choice`, `yes_no`, `number`, `text`, `ids`, `json` or `source`."""

    path: str
    title: str
    help: str
    kind: str
    default: Any
    required: bool
    nullable: bool
    choices: list[str] = field(default_factory=list)
    example: str = ""
    language: str = ""

    @property
    def usual(self) -> str:
        """The default in words, empty for none."""
        if self.default in (None, _MISSING, [], {}):
            return ""
        return self.default if isinstance(self.default, str) else json.dumps(self.default)


@dataclass(frozen=True)
class Section:
    """Fields that stand together. `optional`: the whole section may be null."""

    path: str
    title: str
    help: str
    optional: bool
    entries: list[Field | Section]


class BadValue(Exception):
    """A value that is not what its field holds."""


@lru_cache(maxsize=1)
def form() -> Section:
    """The whole form."""
    schema = json_schema()
    return Section("", "Settings", "", False, _entries(schema, schema["$defs"], ""))


def _entries(node: dict[str, Any], definitions: dict[str, Any], prefix: str) -> list[Field | Section]:
    found: list[Field | Section] = []
    for name, entry in node["properties"].items():
        path = prefix + name
        parts = (entry, *entry.get("anyOf", ()))
        inner = [definitions[part["$ref"].rpartition("/")[2]] for part in parts if "$ref" in part]
        if inner:
            optional = "anyOf" in entry
            entries = _entries(inner[0], definitions, f"{path}.")
            found.append(Section(path, _title(name, entry), _help(entry, inner[0]), optional, entries))
        else:
            found.append(_field(path, name, entry, name in node.get("required", ())))
    return found


def _field(path: str, name: str, entry: dict[str, Any], required: bool) -> Field:
    parts = [part for part in entry.get("anyOf", [entry]) if part.get("type") != "null"]
    nullable = len(parts) < len(entry.get("anyOf", [entry]))
    kind = _kind(path, parts)
    example = entry.get("examples", [""])[0]
    return Field(
        path,
        _title(name, entry),
        _help(entry, {}),
        kind,
        entry.get("default", _MISSING if required else None),
        required,
        nullable,
        list(parts[0].get("enum", ())),
        example if isinstance(example, str) else json.dumps(example),
        entry.get("x-language", ""),
    )


def _kind(path: str, parts: list[dict[str, Any]]) -> str:
    if path in SOURCES:
        return "source"
    types = [part.get("type") for part in parts]
    if "array" in types and "string" in types:
        return "ids"
    if "enum" in parts[0]:
        return "choice"
    return {"boolean": "yes_no", "integer": "number", "number": "number", "string": "text"}.get(
        str(types[0]), "json"
    )


def _title(name: str, entry: dict[str, Any]) -> str:
    return str(entry.get("title") or name.replace("_", " ").capitalize())


def _help(entry: dict[str, Any], inner: dict[str, Any]) -> str:
    """The description in a form's words: a field that is null is left empty there."""
    return re.sub(r"\bnull\b", "empty", str(entry.get("description") or inner.get("description") or ""))


# Values out of the settings


def readable(text: str | None) -> tuple[dict[str, Any], list[Problem]]:
    """The settings in a text as an object, empty with the problem where they are none."""
    if text is None:
        return {}, []
    try:
        raw = parse(text)
    except UnreadableError as unreadable:
        return {}, [Problem("", str(unreadable))]
    return (raw, []) if isinstance(raw, dict) else ({}, [Problem("", "must be one JSON object in braces")])


def values(raw: dict[str, Any]) -> Values:
    """What the form shows for these settings, by path."""
    found: Values = {}
    _read(form(), raw, found)
    return found


def _read(section: Section, raw: dict[str, Any], found: Values) -> None:
    for entry in section.entries:
        value = _at(raw, entry.path)
        if isinstance(entry, Section):
            if entry.optional:
                found[entry.path] = isinstance(value, dict)
            _read(entry, raw, found)
        else:
            found[entry.path] = _shown(entry, value)


def _at(raw: Any, path: str) -> Any:
    for name in path.split("."):
        if not isinstance(raw, dict) or name not in raw:
            return _MISSING
        raw = raw[name]
    return raw


def _shown(entry: Field, value: Any) -> Any:
    if entry.kind == "source":
        return _shown_source(value)
    if value is _MISSING:
        value = None if entry.default is _MISSING else entry.default
    if entry.kind == "yes_no":
        return value if isinstance(value, bool) else bool(entry.default)
    if value is None or (entry.kind in ("ids", "json") and not value):
        return ""
    if entry.kind == "ids" and isinstance(value, list):
        return ", ".join(map(str, value))
    if isinstance(value, str) and entry.kind != "json":
        return value
    return json.dumps(value, indent=2, ensure_ascii=False)


def _shown_source(value: Any) -> dict[str, str]:
    if value is None or value is _MISSING:
        return {"form": "none", "text": "", "file": ""}
    if isinstance(value, dict) and set(value) == {"file"}:
        return {"form": "file", "text": "", "file": str(value["file"])}
    text = value if isinstance(value, str) else json.dumps(value, indent=2, ensure_ascii=False)
    return {"form": "text", "text": text, "file": ""}


# Values back into the settings


def assembled(base: dict[str, Any], given: Values) -> tuple[dict[str, Any], list[Problem]]:
    """The settings `base` with the form's values in them, and what in the form cannot be read at all."""
    raw = deepcopy(base)
    problems: list[Problem] = []
    _write(form(), raw, given, problems)
    return raw, problems


def _write(section: Section, raw: dict[str, Any], given: Values, problems: list[Problem]) -> None:
    for entry in section.entries:
        if isinstance(entry, Section):
            if entry.optional and not given.get(entry.path):
                if _at(raw, entry.path) not in (_MISSING, None):
                    _put(raw, entry.path, None)
                continue
            if entry.optional and not isinstance(_at(raw, entry.path), dict):
                _put(raw, entry.path, {})
            _write(entry, raw, given, problems)
        elif entry.path in given:
            try:
                value = _parsed(entry, given[entry.path])
            except BadValue as bad:
                problems.append(Problem(entry.path, str(bad)))
                continue
            before = _at(raw, entry.path)
            if _shown(entry, before) == given[entry.path]:
                continue
            if before is not _MISSING or not _is_default(entry, value):
                _put(raw, entry.path, None if value is _MISSING else value)


def _is_default(entry: Field, value: Any) -> bool:
    return value is _MISSING or json.dumps(value) == json.dumps(
        None if entry.default is _MISSING else entry.default
    )


def _parsed(entry: Field, value: Any) -> Any:
    if entry.kind == "source":
        return _parsed_source(entry, value)
    if entry.kind == "yes_no":
        return bool(value)
    text = str(value)
    if entry.kind == "json":
        return _json(text) if text.strip() else entry.default
    if entry.kind == "ids":
        return text
    if not text.strip() and entry.nullable:
        return None
    if entry.kind == "number":
        return _number(text)
    if not text and entry.required:
        return _MISSING
    return text


def _parsed_source(entry: Field, value: Any) -> Any:
    if not isinstance(value, dict) or value.get("form") not in ("text", "file"):
        return None
    if value["form"] == "file":
        return {"file": str(value.get("file", ""))}
    text = str(value.get("text", ""))
    if entry.path == "mapping":
        try:
            found = json.loads(text)
        except (ValueError, RecursionError):
            return text
        return found if isinstance(found, list | dict) and "file" not in found else text
    return text


def _json(text: str) -> Any:
    try:
        return strict_json.loads(text)
    except strict_json.NotJson as error:
        raise BadValue(f"is not JSON: {error}") from None


def _number(text: str) -> Any:
    try:
        return int(text)
    except ValueError:
        pass
    try:
        return float(text)
    except ValueError:
        return text


def _put(raw: dict[str, Any], path: str, value: Any) -> None:
    *sections, last = path.split(".")
    for name in sections:
        if not isinstance(raw.get(name), dict):
            raw[name] = {}
        raw = raw[name]
    raw[last] = value


# Settings as text


def text_of(raw: Any) -> str:
    """The settings as they are written into the Variable."""
    return json.dumps(raw, indent=2, ensure_ascii=False)


def typed(snapshot: dict[str, Any], flow: str) -> dict[str, Any]:
    """A snapshot as a person types settings: defaults left out, scripts and mapping in place of their files.

    Raises SettingsError for a snapshot that this version cannot use.
    """
    kept = from_snapshot(snapshot, flow=flow).model_dump(mode="json", exclude_defaults=True)
    for path in SOURCES:
        source = _at(kept, path)
        if isinstance(source, dict):
            text = source["text"]
            _put(
                kept,
                path,
                _parsed_source(
                    Field(path, "", "", "source", None, False, True), {"form": "text", "text": text}
                ),
            )
    return kept
