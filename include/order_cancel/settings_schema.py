"""The JSON Schema of a flow's settings, and the same as rows of a table."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from include.order_cancel.settings_model import FlowSettings


def json_schema() -> dict[str, Any]:
    """The JSON Schema (2020-12) of a flow's settings, as a user types them."""
    schema = FlowSettings.model_json_schema()
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **schema, "title": "Order cancel flow"}


@dataclass(frozen=True)
class SettingsRow:
    """One field for a table of the settings: dotted path, allowed values, default, what it does."""

    path: str
    values: str
    default: str
    description: str


def settings_table() -> list[SettingsRow]:
    """Every field of the settings, sections before their fields' fields, from the JSON schema."""
    schema = json_schema()
    return list(_rows(schema, schema["$defs"], ""))


def _rows(node: dict[str, Any], definitions: dict[str, Any], prefix: str) -> Iterator[SettingsRow]:
    for name, entry in node["properties"].items():
        path = prefix + name
        inner = _definition(entry, definitions)
        if inner is None or "$ref" not in entry:
            values = _values_in_words(entry)
            yield SettingsRow(
                path, values, _default(entry, name in node.get("required", ())), entry["description"]
            )
        if inner is not None:
            yield from _rows(inner, definitions, f"{path}.")


def _definition(entry: dict[str, Any], definitions: dict[str, Any]) -> dict[str, Any] | None:
    parts = (entry, *entry.get("anyOf", ()), entry.get("items", {}))
    references = [part["$ref"] for part in parts if "$ref" in part]
    return definitions[references[0].rpartition("/")[2]] if references else None


def _default(entry: dict[str, Any], required: bool) -> str:
    return "required" if required else json.dumps(entry.get("default"), ensure_ascii=False)


def _values_in_words(entry: dict[str, Any]) -> str:
    if "x-values" in entry:
        return str(entry["x-values"])
    if "anyOf" in entry:
        return ", ".join(_values_in_words(part) for part in entry["anyOf"])
    if "enum" in entry:
        return ", ".join(entry["enum"])
    if entry.get("format") == "date-time":
        return "ISO time"
    kind = str(entry.get("type", "object"))
    word = {"string": "text", "boolean": "true, false"}.get(kind, kind)
    return word + _range_in_words(entry)


def _range_in_words(entry: dict[str, Any]) -> str:
    low = entry.get("minimum", entry.get("exclusiveMinimum"))
    if low is None:
        return ""
    above = "above " if "exclusiveMinimum" in entry else ""
    return f", {above}{low} to {entry['maximum']}"
