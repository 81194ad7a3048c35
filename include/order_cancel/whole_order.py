"""Whether all plans of an order are settled: pure rules. Only then may its transaction be mapped.

A mapping hides the transaction from every flow, with all plans of its order that nobody has carried yet.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from include.order_cancel.omnitron import pk_of, shown_number
from include.order_cancel.profile import Words
from include.order_cancel.rows import Row, State
from include.order_cancel.text import printable

# What a plan's journey says of its order transaction.
MAPPED, SETTLED = "mapped", "settled"
NOT_YET, NOBODYS = "not mapped yet", "not mapped: a plan is nobody's"
DELIVERED = frozenset({State.DONE, State.WRITTEN_BACK})


@dataclass(frozen=True)
class Standing:
    """How far the plans of an order are.

    `waits`: which of them are not settled and why, in words; empty where all are. `unclaimed`: one of these is
    completed, and no flow of the journal has it. `delivered`: all that were carried are delivered.
    """

    waits: str
    unclaimed: bool
    delivered: bool

    @property
    def word(self) -> str:
        """What the journey says of a transaction that waits."""
        return NOBODYS if self.unclaimed else NOT_YET


def pks_of(documents: Iterable[Mapping[str, Any]], path: str = "pk") -> list[str]:
    """The plans' numbers, which stand at `path`, in each form in which the journal may hold them."""
    shown = {shown_number(document, path) for document in documents}
    return sorted(shown | {pk.strip() for pk in shown})


def standing(
    documents: Iterable[Mapping[str, Any]], rows: Iterable[Row], words: Words, path: str = "pk"
) -> Standing:
    """Judge Omnitron's `documents` of all plans of an order by the journal's newest `rows` of them in every flow.

    `path`: where a plan's number stands.
    """
    carried: defaultdict[str, list[Row]] = defaultdict(list)
    for row in rows:
        carried[row.pk.strip()].append(row)
    open_plans, unclaimed = [], False
    for document in documents:
        pk = pk_of(document, path) or ""
        why, nobody = _open(document, carried[pk], words)
        unclaimed = unclaimed or nobody
        if why:
            open_plans.append(f"plan {printable(pk, 60)} {why}")
    found = [row for some in carried.values() for row in some if row.state is not State.LEFT]
    return Standing(
        "; ".join(open_plans),
        unclaimed,
        all(row.state in DELIVERED for row in found),
    )


def is_open(row: Row) -> bool:
    """Whether the row's flow has still to carry it to an end; a post script does not count."""
    return not row.finished and row.state is not State.WRITTEN_BACK


def _open(document: Mapping[str, Any], rows: Sequence[Row], words: Words) -> tuple[str, bool]:
    """Why a plan is not settled, or nothing; and whether that is because no flow takes it."""
    for row in rows:
        if is_open(row):
            return f"is {row.state} in flow {row.flow}", False
    if any(row.state is not State.LEFT for row in rows):
        return "", False
    status = document.get("status")
    if status == words.rejected:
        return "", False
    if status == words.completed:
        return "is completed, and no flow has carried it", True
    return f"is {printable(status, 60)}" if isinstance(status, str) else "shows no status", False
