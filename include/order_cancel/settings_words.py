"""What pydantic found wrong, in the words of the person who typed it."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from difflib import get_close_matches
from functools import cache
from typing import Any, get_args

from pydantic import BaseModel
from pydantic.fields import FieldInfo
from pydantic_core import ErrorDetails

from include.order_cancel.errors import Problem
from include.order_cancel.fields import shown

_KINDS = {
    "int_type": "a whole number",
    "int_from_float": "a whole number",
    "float_type": "a number",
    "bool_type": "true or false",
    "string_type": "text",
    "dict_type": "an object in braces",
    "model_type": "an object in braces",
}
_BOUNDS = {
    "greater_than": ("gt", "more than"),
    "greater_than_equal": ("ge", "at least"),
    "less_than": ("lt", "less than"),
    "less_than_equal": ("le", "at most"),
}
_SECRET_PLACES = ("erp.login",)


def problems(errors: list[ErrorDetails], model: type[BaseModel]) -> list[Problem]:
    """One problem for each of pydantic's errors, each with the field's dotted path."""
    return [Problem(_path(found), _message(found, model)) for found in errors]


def _path(found: ErrorDetails) -> str:
    return ".".join(shown(str(part)) for part in found["loc"])


def _message(found: ErrorDetails, model: type[BaseModel]) -> str:
    kind, context = found["type"], found.get("ctx", {})
    if kind == "value_error":
        return str(context["error"])
    if kind == "missing":
        return _missing(_field(model, found["loc"]))
    if kind == "extra_forbidden":
        return _unknown(model, found["loc"])
    if kind == "literal_error":
        return _not_one_of(found["input"], re.findall(r"'([^']*)'", context["expected"]))
    if kind in _KINDS:
        return _wrong_kind(_KINDS[kind], found, _field(model, found["loc"]))
    if kind in _BOUNDS:
        bound, words = _BOUNDS[kind]
        return f"must be {words} {_number(context[bound])}, not {_number(found['input'])}"
    return f"is not valid: {found['msg'].lower()}"


def _number(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) and abs(value) < 1e6 else str(value)


def _missing(field: FieldInfo | None) -> str:
    if field is None:
        return "is required"
    if choices := get_args(field.annotation):
        return f"is required: one of {', '.join(map(str, choices))}"
    example = f", for example {json.dumps(field.examples[0])}" if field.examples else ""
    return f"is required{example}"


def _not_one_of(value: Any, choices: list[str]) -> str:
    return f"{_shown_value(value)} is not one of {', '.join(choices)}{suggestion(value, choices)}"


def suggestion(value: Any, choices: Iterable[str]) -> str:
    by_folded = {choice.lower(): choice for choice in choices}
    word = re.sub(r"[\s-]+", "_", value.strip().lower()) if isinstance(value, str) else ""
    close = get_close_matches(word[:100], by_folded, n=1)
    return f"; did you mean '{by_folded[close[0]]}'?" if close else ""


def _unknown(model: type[BaseModel], loc: tuple[int | str, ...]) -> str:
    name = str(loc[-1])
    here = list(_model_at(model, loc[:-1]).model_fields)
    if close := suggestion(name, here):
        return f"is not a setting{close}"
    elsewhere = [path for path in leaf_paths(model) if path.rpartition(".")[2] == name]
    if elsewhere:
        return f"is not a setting; did you mean '{elsewhere[0]}'?"
    return f"is not a setting; known here are {', '.join(here)}"


def _wrong_kind(kind: str, found: ErrorDetails, field: FieldInfo | None) -> str:
    value = found["input"]
    if value is None:
        optional = field is not None and not field.is_required()
        return f"must be {kind}, not null" + ("; leave the field out for its default" if optional else "")
    if _path(found).startswith(_SECRET_PLACES):
        return f"must be {kind}"
    quotes = kind in ("a whole number", "a number", "true or false") and isinstance(value, str)
    mend = "; write it without quotes" if quotes and re.fullmatch(r"-?\d+(\.\d+)?|true|false", value) else ""
    return f"must be {kind}, not {_shown_value(value)}{mend}"


def _shown_value(value: Any) -> str:
    if isinstance(value, str):
        return f"'{shown(value)}'"
    if isinstance(value, dict):
        return "an object"
    if isinstance(value, (list, tuple)):
        return "a list"
    return json.dumps(value)


def nested(field: FieldInfo) -> type[BaseModel] | None:
    """The model that the field holds, also where it may be null."""
    candidates = (field.annotation, *get_args(field.annotation))
    return next(
        (found for found in candidates if isinstance(found, type) and issubclass(found, BaseModel)), None
    )


def _field(model: type[BaseModel], loc: tuple[int | str, ...]) -> FieldInfo | None:
    return _model_at(model, loc[:-1]).model_fields.get(str(loc[-1]))


def _model_at(model: type[BaseModel], loc: tuple[int | str, ...]) -> type[BaseModel]:
    for part in loc:
        field = model.model_fields.get(str(part))
        inner = nested(field) if field else None
        if inner is None:
            break
        model = inner
    return model


@cache
def leaf_paths(model: type[BaseModel], prefix: str = "") -> list[str]:
    """Every field's dotted path, sections included."""
    paths: list[str] = []
    for name, field in model.model_fields.items():
        paths.append(prefix + name)
        if (inner := nested(field)) is not None:
            paths += leaf_paths(inner, f"{prefix}{name}.")
    return paths
