"""What became of the demo's plans, beside what was to become of them."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

COLUMNS = ("flow", "plan", "order", "outcome", "ERP document", "in Omnitron", "error")
WIDEST = 60


@dataclass(frozen=True)
class FlowOutcome:
    """One flow after its run: the run's state, its plans as `plans --json` prints them, and what the
    simulators have seen: statuses in Omnitron and bookings in the ERP, both by plan, and the transactions
    that are mapped in Omnitron, the flow's or not."""

    flow: str
    run: str
    plans: Sequence[Mapping[str, Any]]
    statuses: Mapping[str, str]
    bookings: Mapping[str, int]
    mapped: Sequence[str] = ()


def expected() -> dict[str, Any]:
    """The outcome that the demo is made for, by flow."""
    text = Path(__file__).with_name("expected.json").read_text(encoding="utf-8")
    content: dict[str, Any] = json.loads(text)
    return content


def differences(wanted: Mapping[str, Any], found: FlowOutcome) -> list[str]:
    """Each way in which a flow went otherwise than wanted, in words; empty when all is as it should be."""
    texts = []
    if found.run != wanted["run"]:
        texts.append(f"{found.flow}: the run is {found.run}, not {wanted['run']}")
    if "mapped" in wanted and sorted(found.mapped) != wanted["mapped"]:
        texts.append(f"{found.flow}: mapped transactions are {sorted(found.mapped)}, not {wanted['mapped']}")
    states = {str(plan["pk"]): plan["state"] for plan in found.plans}
    for pk in sorted(wanted["plans"].keys() | states.keys()):
        actual = {
            "state": states.get(pk),
            "omnitron": found.statuses.get(pk),
            "bookings": found.bookings.get(pk, 0),
        }
        for name, value in wanted["plans"].get(pk, {"state": None}).items():
            if actual[name] != value:
                texts.append(f"{found.flow}, plan {pk}: {name} is {actual[name]}, not {value}")
    return texts


def table(outcomes: Sequence[FlowOutcome]) -> str:
    """The plans of all flows, one line each, in columns."""
    rows = [COLUMNS, *(_row(outcome, plan) for outcome in outcomes for plan in outcome.plans)]
    widths = [max(len(row[column]) for row in rows) for column in range(len(COLUMNS))]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) for row in rows]
    lines.insert(1, "  ".join("-" * width for width in widths))
    return "\n".join(line.rstrip() for line in lines)


def _row(outcome: FlowOutcome, plan: Mapping[str, Any]) -> tuple[str, ...]:
    pk = str(plan["pk"])
    cells = (
        outcome.flow,
        pk,
        plan["order_number"],
        plan["state"],
        plan["erp_reference"],
        outcome.statuses.get(pk),
        plan["error"],
    )
    return tuple(_shortened(str(cell or "")) for cell in cells)


def _shortened(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= WIDEST else line[: WIDEST - 1] + "…"
