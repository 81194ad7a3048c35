"""How the commands show things: aligned tables, UTC times, JSON."""

from __future__ import annotations

import getpass
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from typing import Any, NamedTuple

from include.order_cancel import exact_json
from include.order_cancel.errors import OrderCancelError
from include.order_cancel.text import printable, printable_json

_CELL = 200


class Said(NamedTuple):
    """What a command prints, and the exit code: 1 where what was asked for is not so."""

    text: str
    code: int = 0


class UsageError(OrderCancelError):
    """The command was called in a way that cannot work; exit code 2."""


class NoSuchPlan(OrderCancelError):
    """The journal has no such plan."""

    def __init__(self, pk: str, flow: str) -> None:
        super().__init__(
            f"the journal knows no plan {pk} of flow {flow}; `plans --flow {flow}` lists those it knows"
        )


def utc(seconds: float) -> str:
    """Seconds since the epoch as ISO 8601 in UTC, to the millisecond."""
    moment = datetime.fromtimestamp(seconds, UTC)
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def table(head: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """Aligned columns under their heads, two blanks apart; each cell one bounded line."""
    lines = [list(head), *([_cell(value) for value in row] for row in rows)]
    widths = [max(len(line[column]) for line in lines) for column in range(len(head))]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip()
        for line in lines
    )


def _cell(value: object) -> str:
    return "-" if value in (None, "") else printable(str(value), _CELL)


def counted(number: int, noun: str) -> str:
    """`1 plan`, `2 plans`."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def pretty(value: Any) -> str:
    """JSON for people and programs alike. Letters of all languages stay as they are."""
    return printable_json(exact_json.dumps(value, indent=2, ensure_ascii=False))


def person() -> str:
    """Who is at the keyboard, for the journal."""
    try:
        return printable(getpass.getuser(), 60)
    except (KeyError, OSError, ImportError):
        return "an unnamed user"
