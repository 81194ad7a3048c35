"""What a flow's runs measure. A metric's full name is `order_cancel.<flow>.<name>`.

incr    plans.<state>          plans that a run left in this state, counted once by its report
timing  erp.latency            milliseconds from a request's intent to its answer, or to the end of waiting for it
gauge   breaker_open           1 while the last run stopped because a system failed too often in a row, else 0
gauge   open_plans             open plans: not finished, so on the way, or waiting for the next run or a person
gauge   oldest_open_seconds    the age of the oldest of them, 0 where there is none
"""

from __future__ import annotations

from collections.abc import Callable

Measure = Callable[[str, str, float], None]  # kind (`incr`, `timing`, `gauge`), name, value


def unmeasured(kind: str, name: str, value: float) -> None:
    """Takes a metric and forgets it."""
