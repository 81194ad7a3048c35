"""How things stand: plans by outcome and day, the oldest open one, how often the ERP did not accept."""

from __future__ import annotations

import time
from collections import Counter
from dataclasses import dataclass
from datetime import UTC, datetime

from fastapi import Request, Response

from include.order_cancel.rows import FOR_A_PERSON, State
from include.order_cancel.searching import by_day, counts_by_state, oldest_open, open_by_state
from include.order_cancel_page import shell
from include.order_cancel_page.door import NoJournal, Right
from include.order_cancel_page.rights import allowed_flows, door_of, needs, router

routes = router()
_DAYS = 14
_DAY = 86400
_HEIGHT = 160.0
_STEP = 40
_BAR = 28
GROUPS = {
    "done": (State.DONE, State.WRITTEN_BACK),
    "rejected": (State.REJECTED,),
    "left": (State.LEFT, State.PASSED, State.DISMISSED),
    "waiting": (State.HELD, State.CHANGED, State.FETCHED, State.PREPARED, State.SENDING, State.ANSWERED),
    "failed": (State.FAILED, State.IN_DOUBT, State.DEAD),
}
_GROUP = {state: group for group, states in GROUPS.items() for state in states}


@dataclass(frozen=True)
class Part:
    """One piece of a bar: its outcome, how many plans, and where it stands in the picture."""

    group: str
    number: int
    x: int
    y: float
    height: float


@dataclass(frozen=True)
class Day:
    """One day: how many plans by outcome, and how many of the ERP's last answers were no acceptance."""

    name: str
    counts: dict[str, int]
    asked: int
    not_accepted: int
    parts: list[Part]
    x: int

    @property
    def rate(self) -> str:
        """The share of plans whose last answer was no acceptance, in percent."""
        return f"{100 * self.not_accepted / self.asked:.1f} %" if self.asked else "-"


@routes.get("/")
@needs(Right.SIGNED_IN)
def overview(request: Request) -> Response:
    """The numbers of the flows that the person may see."""
    flows, now = allowed_flows(request), time.time()
    first = int(now // _DAY) - _DAYS + 1
    try:
        journal = door_of(request).journal()
    except NoJournal:
        return shell.page(request, "overview.html", days=None)
    counts: Counter[State] = Counter()
    for states in counts_by_state(journal, flows).values():
        counts.update(states)
    opened: Counter[State] = Counter()
    for states in open_by_state(journal, flows).values():
        opened.update(states)
    days = _days(by_day(journal, flows, float(first * _DAY)), first)
    oldest = oldest_open(journal, flows)
    return shell.page(
        request,
        "overview.html",
        days=days,
        counts=[(state, counts[state]) for state in State if counts[state]],
        open=opened.total(),
        for_a_person=sum(opened[state] for state in FOR_A_PERSON),
        oldest=None if oldest is None else now - oldest,
        groups=list(GROUPS),
        most=max((sum(day.counts.values()) for day in days), default=0),
        width=_DAYS * _STEP,
        bar=_BAR,
        asked=sum(day.asked for day in days),
        rate=_rate(days),
    )


def _rate(days: list[Day]) -> str:
    asked = sum(day.asked for day in days)
    return f"{100 * sum(day.not_accepted for day in days) / asked:.1f} %" if asked else "-"


def _days(found: list[tuple[int, State, str, int]], first: int) -> list[Day]:
    counts: dict[int, Counter[str]] = {first + place: Counter() for place in range(_DAYS)}
    asked: Counter[int] = Counter()
    bad: Counter[int] = Counter()
    for day, state, outcome, number in found:
        if day not in counts:
            continue
        counts[day][_GROUP[state]] += number
        if outcome:
            asked[day] += number
            bad[day] += number if outcome != "accepted" else 0
    most = max((sum(of_day.values()) for of_day in counts.values()), default=0) or 1
    return [
        Day(
            datetime.fromtimestamp(day * _DAY, UTC).strftime("%Y-%m-%d"),
            {group: of_day[group] for group in GROUPS},
            asked[day],
            bad[day],
            _parts(of_day, place * _STEP + (_STEP - _BAR) // 2, most),
            place * _STEP,
        )
        for place, (day, of_day) in enumerate(counts.items())
    ]


def _parts(counts: Counter[str], x: int, most: int) -> list[Part]:
    parts, top = [], _HEIGHT
    for group in GROUPS:
        if counts[group]:
            height = _HEIGHT * counts[group] / most
            top -= height
            parts.append(Part(group, counts[group], x, round(top, 1), round(height, 1)))
    return parts
