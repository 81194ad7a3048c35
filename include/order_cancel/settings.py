"""A flow's settings: one frozen value, validated whole before any plan is touched.

`load` and `loads` are the doors. Every mistake is reported at once, each by its field's path with the
mend in words; nothing of the environment is read here. Jolt is imported only for a flow that has a mapping:
it would cost every parse of every flow 70 ms.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from copy import deepcopy
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from include.order_cancel import fields, settings_reading, settings_words
from include.order_cancel.errors import MappingFailed, Problem, ScriptFailed, SettingsError
from include.order_cancel.scripts.reading import check_script
from include.order_cancel.settings_model import (
    Alert,
    ErpLogin,
    ErpLookup,
    ErpSettings,
    FlowSettings,
    OmnitronSettings,
    RenderedLogin,
    Retention,
    ScriptLimits,
    Source,
)
from include.order_cancel.settings_rules import crossing, overlaps
from include.order_cancel.settings_schema import SettingsRow, json_schema, settings_table

__all__ = [
    "DAG_PREFIX",
    "FLOW_NAME",
    "Alert",
    "ErpLogin",
    "ErpLookup",
    "ErpSettings",
    "FlowSettings",
    "OmnitronSettings",
    "RenderedLogin",
    "Retention",
    "ScriptLimits",
    "SettingsRow",
    "Source",
    "check_flow_name",
    "from_snapshot",
    "json_schema",
    "load",
    "loads",
    "overlaps",
    "settings_table",
]

DAG_PREFIX = "order_cancel__"  # and the flow's name: its DAG's id
FLOW_NAME = re.compile(r"[a-z][a-z0-9_]{0,39}")
_MAX_PROBLEMS = 200


def check_flow_name(name: str) -> str:
    """The name, if a flow can be called so; raises SettingsError."""
    if problem := _wrong_flow_name(name):
        raise SettingsError([problem])
    return name


def _wrong_flow_name(name: str) -> Problem | None:
    if FLOW_NAME.fullmatch(name):
        return None
    rule = "begin with a letter a to z, then use a to z, 0 to 9 and '_', at most 40 characters"
    return Problem("flow", f"'{fields.shown(name)}' cannot be a flow's name; {rule}")


def loads(text: str, *, flow: str, files: Path | None = None) -> FlowSettings:
    """The settings in a JSON text; see `load`. Raises SettingsError, for a syntax error with its place."""
    try:
        raw = settings_reading.parse(text)
    except settings_reading.UnreadableError as unreadable:
        raise SettingsError([Problem("", str(unreadable))]) from None
    return load(raw, flow=flow, files=files)


def load(raw: Mapping[str, Any], *, flow: str, files: Path | None = None) -> FlowSettings:
    """Validated settings, with the scripts and mappings read from `files` (the flows folder) and compiled.

    Raises SettingsError with every problem at once.
    """
    named = _wrong_flow_name(flow)
    given = _plain_object(raw, settings_reading.MAX_SETTINGS_BYTES)
    problems = [named] if named else []
    problems += settings_reading.read_sources(given, files)
    settings, found = _validated(given)
    problems += found
    if settings is not None:
        problems += _compiled(settings)
    if settings is None or problems:
        raise SettingsError(_bounded(problems))
    return settings


def from_snapshot(raw: Mapping[str, Any], *, flow: str) -> FlowSettings:
    """The settings that `snapshot()` wrote; no file is read and nothing compiled again.

    Raises SettingsError for a snapshot that this version cannot use.
    """
    check_flow_name(flow)
    settings, problems = _validated(_plain_object(raw, limit=None))
    if settings is None or problems:
        raise SettingsError(_bounded(problems))
    return settings


def _plain_object(raw: Any, limit: int | None) -> dict[str, Any]:
    if not isinstance(raw, Mapping):
        raise SettingsError([Problem("", "must be one JSON object in braces")])
    if problems := list(settings_reading.check_json(raw)):
        raise SettingsError(_bounded(problems))
    given: dict[str, Any] = settings_reading.plain(raw)
    if limit is not None and settings_reading.size(given) > limit:
        raise SettingsError([Problem("", "is larger than 1 MB; move scripts and mappings into files")])
    given.setdefault("omnitron", {})
    given.setdefault("erp", {})
    return given


def _bounded(problems: list[Problem]) -> list[Problem]:
    if len(problems) <= 2 * _MAX_PROBLEMS:
        return problems
    return [*problems[:_MAX_PROBLEMS], Problem("", f"and {len(problems) - _MAX_PROBLEMS} more problems")]


def _validated(given: dict[str, Any]) -> tuple[FlowSettings | None, list[Problem]]:
    """The settings, or as much of them as can be read, and what is wrong with them."""
    try:
        settings = FlowSettings.model_validate(given)
    except ValidationError as error:
        found = error.errors(include_url=False)
        places = [tuple(str(part) for part in one["loc"]) for one in found]
        rest = _mended(given, places)
        problems = settings_words.problems(found[:_MAX_PROBLEMS], FlowSettings)
        if len(found) > _MAX_PROBLEMS:
            problems.append(Problem("", f"and {len(found) - _MAX_PROBLEMS} more problems of this kind"))
        problems += crossing(rest, {".".join(place) for place in places}) if rest else []
        return rest, problems
    return settings, list(crossing(settings, set()))


_STAND_INS: dict[str, Any] = {
    "omnitron": {"channel_type": "any", "cancel_status": "waiting"},
    "omnitron.channel_type": "any",
    "omnitron.cancel_status": "waiting",
    "erp": {"cancellation_api_url": "/"},
    "erp.cancellation_api_url": "/",
    "erp.login.url": "/",
    "erp.lookup.url": "/",
}


def _mended(given: dict[str, Any], places: Iterable[tuple[str, ...]]) -> FlowSettings | None:
    """The settings without their wrong fields, so that the rules between the others can still speak."""
    for place in sorted(places, key=len):
        _drop(given, place)
    try:
        return FlowSettings.model_validate(given)
    except ValidationError:
        return None


def _drop(given: dict[str, Any], place: tuple[str, ...]) -> None:
    holder = given
    for depth, name in enumerate(place, start=1):
        inner = holder.get(name)
        if depth < len(place) and isinstance(inner, dict):
            holder = inner
            continue
        holder.pop(name, None)
        if (stand_in := _STAND_INS.get(".".join(place[:depth]))) is not None:
            holder[name] = deepcopy(stand_in)
        return


def _compiled(settings: FlowSettings) -> list[Problem]:
    """What is wrong inside the mapping and the scripts."""
    checks: list[tuple[str, Source | None, Callable[[str], object]]] = [
        ("script", settings.script, lambda text: check_script(text, "script")),
        ("mapping", settings.mapping, _compile_mapping),
        (
            "erp.custom_response_script",
            settings.erp.custom_response_script,
            lambda text: check_script(text, "response"),
        ),
        ("post_script", settings.post_script, lambda text: check_script(text, "post")),
    ]
    return [
        problem for path, source, check in checks if source for problem in _compile(path, source.text, check)
    ]


def _compile(path: str, text: str, check: Callable[[str], object]) -> Iterator[Problem]:
    try:
        check(text)
    except (MappingFailed, ScriptFailed) as error:
        yield Problem(path, str(error))


def _compile_mapping(text: str) -> object:
    from include.order_cancel.mapping import compile_mapping  # noqa: PLC0415 (see the module's docstring)

    return compile_mapping(text)
