"""Dotted paths into JSON: `data.documents.0.number`."""

from __future__ import annotations

from typing import Any


def at_path(document: Any, path: str) -> Any:
    """What stands at the dotted `path`; a number selects from a list. None where nothing stands there."""
    value = document
    for step in path.split("."):
        if isinstance(value, dict):
            value = value.get(step)
        elif isinstance(value, list):
            value = _item(value, step)
        else:
            return None
    return value


def _item(items: list[Any], step: str) -> Any:
    if not (step.isascii() and step.isdigit() and len(step) < 10):
        return None
    return items[int(step)] if int(step) < len(items) else None
