"""Our own share of a large run, by part: `python -m tests.bench.own OMNITRON ERP JOURNAL [--profile]`.

The run's tasks in one process without Airflow, all plans in one lot. Prints one JSON object: seconds, CPU seconds by
part, peak memory; with `--profile` instead where the time of `bulk` goes, by function.
"""

from __future__ import annotations

import argparse
import cProfile
import io
import json
import logging
import pstats
import re
import resource
import time
from collections import defaultdict
from collections.abc import Coroutine, Generator
from types import SimpleNamespace
from typing import Any

from aiohttp.client_proto import ResponseHandler

from include.order_cancel import flow as flow_module
from include.order_cancel.http import Caller
from include.order_cancel.journal import Journal
from include.order_cancel.params import Params
from include.order_cancel.scripts.process import ScriptProcess
from tests.harness import Flow, settings

FLOW = "bench"
MOST = 1_000_000
JOURNAL_CALLS = ("apply", "claim", "bodies", "stay_alive", "stopped", "now", "snapshot")
_SHOWN = 18


class Parts(defaultdict[str, float]):
    """CPU seconds by part, of the calls that are watched."""

    def __init__(self) -> None:
        super().__init__(float)

    def watch(self, part: str, owner: Any, name: str) -> None:
        """Count the CPU time of a method's thread."""
        call = getattr(owner, name)

        def counted(*args: Any, **kwargs: Any) -> Any:
            before = time.thread_time()
            try:
                return call(*args, **kwargs)
            finally:
                self[part] += time.thread_time() - before

        setattr(owner, name, counted)

    def watch_coroutine(self, part: str, owner: Any, name: str) -> None:
        """Count the CPU time of a coroutine method's steps, not what other plans do in between."""
        call = getattr(owner, name)

        async def counted(*args: Any, **kwargs: Any) -> Any:
            return await _Stepped(call(*args, **kwargs), self, part)

        setattr(owner, name, counted)


class _Stepped:
    def __init__(self, coroutine: Coroutine[Any, Any, Any], parts: Parts, part: str) -> None:
        self._coroutine, self._parts, self._part = coroutine, parts, part

    def __await__(self) -> Generator[Any, Any, Any]:
        thrown: BaseException | None = None
        while True:
            try:
                waited_for = self._step(thrown)
            except StopIteration as over:
                return over.value
            try:
                yield waited_for
            except BaseException as error:  # a deadline's cancellation is the coroutine's to handle
                thrown = error
            else:
                thrown = None

    def _step(self, thrown: BaseException | None) -> Any:
        before = time.thread_time()
        try:
            return self._coroutine.send(None) if thrown is None else self._coroutine.throw(thrown)
        finally:
            self._parts[self._part] += time.thread_time() - before


def watched() -> Parts:
    """The parts of a bulk task: what is in none of them is the steps and the event loop."""
    parts = Parts()
    for name in JOURNAL_CALLS:
        parts.watch("journal", Journal, name)
    parts.watch("HTTP", ResponseHandler, "data_received")
    parts.watch_coroutine("HTTP", Caller, "send")
    for name in ("map", "map_text"):
        parts.watch_coroutine("mapping", ScriptProcess, name)
    return parts


def flow(omnitron: str, erp: str, journal_url: str) -> Flow:
    """The flow of all measurements, in one lot."""
    raw = settings(fan_out=0, lots=1, omnitron__max_plans=MOST)
    return Flow(SimpleNamespace(url=omnitron), SimpleNamespace(url=erp), journal_url, raw, name=FLOW)


def measured(of: Flow) -> dict[str, Any]:
    """Login, listing and bulk; what bulk used is told by part."""
    began, started = time.perf_counter(), _cpu(resource.RUSAGE_SELF)
    run, lots = _fetched(of)
    listed_at = time.perf_counter()
    listing = _cpu(resource.RUSAGE_SELF)
    parts = watched()
    for lot in lots:
        flow_module.bulk(of.around, run, lot, False)
    carried_at = time.perf_counter()
    own, helper = _cpu(resource.RUSAGE_SELF) - listing, _cpu(resource.RUSAGE_CHILDREN)
    parts["steps and event loop"] = own - sum(parts.values())
    parts["mapping"] += helper
    return {
        "fetch_seconds": listed_at - began,
        "bulk_seconds": carried_at - listed_at,
        "fetch_cpu": listing - started,
        "bulk_cpu": own + helper,
        "parts": dict(parts),
        "task_mb": _peak_mb(resource.RUSAGE_SELF),
        "script_process_mb": _peak_mb(resource.RUSAGE_CHILDREN),
    }


def profiled(of: Flow) -> str:
    """The functions in which bulk spends its time, the most expensive first."""
    run, lots = _fetched(of)
    profile = cProfile.Profile()
    for lot in lots:
        profile.runcall(flow_module.bulk, of.around, run, lot, False)
    text = io.StringIO()
    pstats.Stats(profile, stream=text).sort_stats("tottime").print_stats(_SHOWN)
    return re.sub(r"(?m)(?<= )/\S+/(?=[^/\s]+/[^/\s]+:\d+\()", "", text.getvalue()).strip()


def _fetched(of: Flow) -> tuple[int, list[int]]:
    run = flow_module.login(of.around, "bench", Params())
    assert run is not None
    return run, flow_module.get_data(of.around, run, Params())


def _cpu(whose: int) -> float:
    used = resource.getrusage(whose)
    return used.ru_utime + used.ru_stime


def _peak_mb(whose: int) -> float:
    return resource.getrusage(whose).ru_maxrss / 1024


if __name__ == "__main__":
    logging.basicConfig(level=logging.ERROR)
    parser = argparse.ArgumentParser()
    parser.add_argument("addresses", nargs=3)
    parser.add_argument("--profile", action="store_true")
    given = parser.parse_args()
    of = flow(*given.addresses)
    print(profiled(of) if given.profile else json.dumps(measured(of)))
