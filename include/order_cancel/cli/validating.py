"""The command `validate`: every problem of the settings by field path, warnings, flows that overlap."""

from __future__ import annotations

import argparse
from pathlib import Path

from include.order_cancel.cli import places
from include.order_cancel.cli.output import Said, UsageError, counted, pretty
from include.order_cancel.errors import Problem, SettingsError
from include.order_cancel.settings import FLOW_NAME, FlowSettings, json_schema, overlaps


def validate(given: argparse.Namespace) -> Said:
    """The settings of one flow, of files, or of all flows that Airflow knows."""
    if given.schema:
        return Said(pretty(json_schema()))
    sources, of_index = _sources(given)
    lines = [str(problem) for problem in of_index]
    valid: dict[str, FlowSettings] = {}
    wrong = len(of_index)
    for flow, file, asked in sources:
        try:
            valid[flow] = places.settings(flow, file)
        except SettingsError as error:
            wrong += asked
            lines += _wrong(flow, error) if asked else []
        else:
            lines += _right(flow, valid[flow]) if asked else []
    named = [given.flow] if given.flow and not given.file else list(valid)
    systems = {} if given.file else places.systems(one.omnitron.conn_id for one in valid.values())
    both = [words for words in overlaps(valid, systems) if any(f"'{name}'" in words for name in named)]
    return Said("\n".join([*lines, *(f"overlap: {words}" for words in both)]), 1 if wrong else 0)


def _sources(given: argparse.Namespace) -> tuple[list[tuple[str, Path | None, bool]], list[Problem]]:
    """The flows to read: name, file, and whether it was asked for or is only compared with.

    And what is wrong with Airflow's list of the flows, where all of them are asked for.
    """
    files: list[Path] = given.file or []
    if files:
        if given.flow and len(files) > 1:
            raise UsageError("--flow names one flow; with several files each is named by its file")
        found: list[tuple[str, Path | None, bool]] = [
            (given.flow or _name_of(file), file, True) for file in files
        ]
        if len({flow for flow, _, _ in found}) < len(found):
            raise UsageError("two of the files have the same name; give each flow its own")
        return found, []
    if given.flow is None:
        names, problems = places.flows()
        return [(flow, None, True) for flow in names], problems
    try:
        others = [flow for flow in places.flows()[0] if flow != given.flow]
    except SettingsError:
        others = []
    return [(given.flow, None, True), *((flow, None, False) for flow in others)], []


def _name_of(file: Path) -> str:
    return file.stem if FLOW_NAME.fullmatch(file.stem) else "flow"


def _wrong(flow: str, error: SettingsError) -> list[str]:
    return [f"flow {flow}: {counted(len(error.problems), 'problem')}"] + [
        f"  {problem}" for problem in error.problems
    ]


def _right(flow: str, settings: FlowSettings) -> list[str]:
    return [
        f"flow {flow}: valid ({' > '.join(settings.steps)})",
        *(f"  warning: {warning}" for warning in settings.warnings),
    ]
