"""What is measured, part by part: each gives its tables and says which targets it meets."""

from __future__ import annotations

import json
import resource
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple
from urllib.parse import urlsplit

from include.demo.airflow_server import COMPONENTS, ROOT, AirflowServer
from tests.bench import dags, journals
from tests.bench.document import table
from tests.bench.journals import SQLITE
from tests.bench.own import FLOW
from tests.bench.systems import Ports, ceilings, systems

THREADS, ASYNCIO = "16 threads", "asyncio, 64"
LANE_PLANS = 20
OLD_ROWS = 100_000
SCRIPT_PLANS, MOST_SCRIPT_MS = 10_000, 1.0
SHARES = {1000: 1.0, 10_000: 0.4}
MOST_CPU_MS, MOST_MB, MOST_LANE, MOST_GROWTH = 1.5, 300.0, 1.25, 1.15
VARIANTS: dict[str, dict[str, Any]] = {
    "as `make run` sets them": {},
    "`[scheduler] scheduler_idle_sleep_time` 1, not 0.1": {
        "env": {"AIRFLOW__SCHEDULER__SCHEDULER_IDLE_SLEEP_TIME": "1"}
    },
    "`[core] parallelism` 32, not 8": {"env": {"AIRFLOW__CORE__PARALLELISM": "32"}},
    "`[core] parallelism` 2, not 8": {"env": {"AIRFLOW__CORE__PARALLELISM": "2"}},
    "`[dag_processor] min_file_process_interval` 30, not 5": {
        "env": {"AIRFLOW__DAG_PROCESSOR__MIN_FILE_PROCESS_INTERVAL": "30"}
    },
    "our modules not loaded in the scheduler": {"preload": ()},
    "no bytecode kept": {"env": {"PYTHONDONTWRITEBYTECODE": "1", "PYTHONPYCACHEPREFIX": "/nonexistent"}},
}


class Target(NamedTuple):
    """What is wanted, what was found, and whether it is met."""

    wanted: str
    found: str
    met: bool


@dataclass
class Part:
    """One part's text for the document, and its targets."""

    title: str
    paragraphs: list[str] = field(default_factory=list)
    targets: list[Target] = field(default_factory=list)

    @property
    def text(self) -> str:
        """The part in Markdown."""
        return "\n\n".join([f"### {self.title}", *self.paragraphs])


@dataclass
class Bench:
    """Where it is measured, on which journals, and how often a run of so many plans."""

    folder: Path
    journals: Sequence[str]
    repeat: Callable[[int], int]
    ports: Ports = field(default_factory=Ports.free)


def say(text: str) -> None:
    """A line of progress."""
    print(f"[{time.strftime('%H:%M:%S')}] {text}", flush=True)


# The simulators' own limits


def ceiling(bench: Bench, _plans: Sequence[int]) -> Part:
    """What the simulators can answer, with nothing to wait for."""
    rows = []
    for found in ceilings(bench.folder):
        say(f"ceiling: {found.system} {found.per_second:.0f} requests a second")
        rows.append([found.system, f"{found.per_second:,.0f}", f"{found.cpu_ms:.2f}"])
    head = ["simulator", "requests a second", "its CPU for one, ms"]
    return Part("The simulators' own ceiling", [table(head, rows)])


# Whole runs


def runs(bench: Bench, plans: Sequence[int]) -> Part:
    """Whole runs of our DAG and of the scripts, one after the other in each repetition."""
    found: dict[tuple[int, str], list[Any]] = defaultdict(list)
    with dags.airflow(bench.folder, bench.ports, say=say) as server:
        warm_up(bench, server)
        for count in plans:
            for _ in range(bench.repeat(count)):
                for script in (THREADS, ASYNCIO):
                    found[count, script].append(script_run(bench, script, count))
                for kind in bench.journals:
                    found[count, kind].append(dag_run(bench, server, kind, count))
    return Part(
        "Whole runs",
        [_runs_table(bench, plans, found), *(_tasks_table(plans, found, kind) for kind in bench.journals)],
        [_share_target(count, found, kind) for count in plans if count in SHARES for kind in bench.journals],
    )


def warm_up(bench: Bench, server: AirflowServer) -> None:
    """A run that does not count: the first one compiles and loads."""
    dag_run(bench, server, SQLITE, 1)
    dags.measured(server, dags.EMPTY)


@dataclass(frozen=True)
class ScriptRun:
    """One run of a bare script: seconds of its whole process, and its CPU seconds."""

    seconds: float
    cpu: float


def script_run(bench: Bench, script: str, plans: int) -> ScriptRun:
    """One run of a bare script, its start included."""
    how = "threads" if script == THREADS else "asyncio"
    with systems(bench.ports, plans, bench.folder) as started:
        command = [sys.executable, "-m", "tests.bench.bare", how, *started.urls]
        before, began = _children_cpu(), time.monotonic()
        subprocess.run(command, cwd=ROOT, check=True)
        run = ScriptRun(time.monotonic() - began, _children_cpu() - before)
        started.check_all_once(plans)
    say(f"{plans} plans, {script}: {run.seconds:.2f} s")
    return run


def dag_run(bench: Bench, server: AirflowServer, kind: str, plans: int) -> dags.DagRun:
    """One run of our DAG with an empty journal."""
    with (
        systems(bench.ports, plans, bench.folder) as started,
        journals.journal(kind, bench.folder) as url,
    ):
        dags.use_journal(server, url)
        run = replace(dags.measured(server, dags.DAG), journal_mb=journals.size_mb(url))
        started.check_all_once(plans)
    say(f"{plans} plans, our DAG, {kind}: {run.seconds:.2f} s, CPU {run.cpu:.1f} s, {run.peak_mb:.0f} MB")
    return run


def _children_cpu() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def _runs_table(bench: Bench, plans: Sequence[int], found: dict[tuple[int, str], list[Any]]) -> str:
    rows = []
    for count in plans:
        threads, asynchronous = (_seconds(found[count, script]) for script in (THREADS, ASYNCIO))
        ours = [
            f"{seconds:.1f} s = {seconds / threads:.2f} x, {seconds / asynchronous:.2f} x"
            for seconds in (_seconds(found[count, kind]) for kind in bench.journals)
        ]
        rows.append(
            [f"{count:,}", str(bench.repeat(count)), f"{threads:.1f} s", f"{asynchronous:.1f} s", *ours]
        )
    return table(["plans", "runs", THREADS, ASYNCIO, *(f"our DAG, {kind}" for kind in bench.journals)], rows)


def _tasks_table(plans: Sequence[int], found: dict[tuple[int, str], list[Any]], kind: str) -> str:
    shown = ("login", "get_data_from_omnitron", "bulk", "plan")
    rows = []
    for count in plans:
        ran = found[count, kind]
        tasks = [median(run.tasks[name] for run in ran) for name in shown]
        others = median(sum(run.tasks.values()) for run in ran) - sum(tasks)
        cpu = [median(run.cpu_of[name] for run in ran) for name in COMPONENTS]
        cells = [*tasks, others, median(run.between for run in ran), *cpu]
        peak = f"{max(run.peak_mb for run in ran):.0f}"
        rows.append([f"{count:,}", *(f"{cell:.1f}" for cell in cells), peak])
    cpu_heads = ("CPU: API server", "scheduler and tasks", "dag-processor")
    head = [f"{kind}: plans", *shown, "the other tasks", "between tasks", *cpu_heads, "largest task, MB"]
    return table(head, rows)


def _share_target(count: int, found: dict[tuple[int, str], list[Any]], kind: str) -> Target:
    share = _seconds(found[count, kind]) / _seconds(found[count, THREADS])
    wanted = f"{count:,} plans, {kind}: at most {SHARES[count]} x the script with 16 threads"
    return Target(wanted, f"{share:.2f} x", share <= SHARES[count])


def _seconds(ran: Sequence[Any]) -> float:
    return float(median(run.seconds for run in ran))


# Our own share


def own(bench: Bench, plans: Sequence[int]) -> Part:
    """A large run's tasks without Airflow: CPU by part, and memory."""
    counts = [count for count in plans if count >= min(SHARES)]
    part = Part("Our own CPU and memory")
    if not counts:
        return part
    cases = [(kind, count, 0) for kind in bench.journals for count in counts]
    cases += [(kind, counts[-1], OLD_ROWS) for kind in bench.journals]
    ran = {case: [own_run(bench, *case) for _ in range(bench.repeat(case[1]))] for case in cases}
    part.paragraphs.append(_own_table(ran))
    for kind in bench.journals:
        part.targets += _own_targets(kind, counts, ran)
    if not all(target.met for target in part.targets):
        with systems(bench.ports, counts[0], bench.folder) as started, _journal(bench, SQLITE) as url:
            text = _own_output(*started.urls, url, "--profile")
        part.paragraphs.append(f"Where `bulk` spends its time, {counts[0]:,} plans:\n\n```\n{text}\n```")
    return part


def _journal(bench: Bench, kind: str) -> Any:
    return journals.journal(kind, bench.folder)


def own_run(bench: Bench, kind: str, plans: int, old_rows: int) -> dict[str, Any]:
    """One run's tasks in one process; `old_rows` finished plans are in the journal before."""
    with systems(bench.ports, plans, bench.folder) as started, _journal(bench, kind) as url:
        if old_rows:
            journals.fill(url, old_rows, FLOW, urlsplit(started.omnitron).netloc)
        run: dict[str, Any] = json.loads(_own_output(*started.urls, url))
        started.check_all_once(plans)
    run["cpu_ms"] = run["bulk_cpu"] / plans * 1000
    run["fetch_ms"] = run["fetch_cpu"] / plans * 1000
    run["parts"] = {name: seconds / plans * 1000 for name, seconds in run["parts"].items()}
    say(f"{plans} plans in one process, {kind}, {old_rows} older rows: {run['cpu_ms']:.2f} ms of CPU a plan")
    return run


def _own_output(*words: str) -> str:
    command = [sys.executable, "-m", "tests.bench.own", *words]
    return subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.PIPE, text=True).stdout


def _own_table(ran: dict[tuple[str, int, int], list[dict[str, Any]]]) -> str:
    parts = ("HTTP", "journal", "mapping", "steps and event loop")
    rows = []
    for (kind, count, old_rows), of_case in ran.items():
        by_part = [median(run["parts"][name] for run in of_case) for name in parts]
        rest = [median(run[name] for run in of_case) for name in ("cpu_ms", "fetch_ms", "bulk_seconds")]
        memory = [max(run[name] for run in of_case) for name in ("task_mb", "script_process_mb")]
        rows.append(
            [f"{kind}, {count:,}", f"{old_rows:,}"]
            + [f"{cell:.2f}" for cell in by_part + rest[:2]]
            + [f"{rest[2]:.1f} s", *(f"{cell:.0f}" for cell in memory)]
        )
    head = ["journal, plans", "older rows", *parts, "bulk, all", "login and listing", "bulk took"]
    return table([*head, "task, MB", "its script process, MB"], rows)


def _own_targets(
    kind: str, counts: Sequence[int], ran: dict[tuple[str, int, int], list[dict[str, Any]]]
) -> list[Target]:
    cpu = {count: median(run["cpu_ms"] for run in ran[kind, count, 0]) for count in counts}
    targets = [
        Target(
            f"{kind}, {count:,} plans: at most {MOST_CPU_MS} ms of CPU for a plan in `bulk`",
            f"{found:.2f} ms",
            found <= MOST_CPU_MS,
        )
        for count, found in cpu.items()
    ]
    if len(counts) > 1:
        growth = cpu[counts[-1]] / cpu[counts[0]]
        wanted = (
            f"{kind}: as much for each of {counts[-1]:,} plans as of {counts[0]:,} (at most {MOST_GROWTH} x)"
        )
        targets.append(Target(wanted, f"{growth:.2f} x", growth <= MOST_GROWTH))
    memory = max(run["task_mb"] for run in ran[kind, counts[-1], OLD_ROWS])
    wanted = f"{kind}, {counts[-1]:,} plans, {OLD_ROWS:,} older rows: the task below {MOST_MB:.0f} MB"
    return [*targets, Target(wanted, f"{memory:.0f} MB", memory < MOST_MB)]


# Scripts


def scripts(bench: Bench, _plans: Sequence[int]) -> Part:
    """What a script adds to a plan."""
    part = Part("Scripts")
    command = [sys.executable, "-m", "tests.bench.scripts", str(SCRIPT_PLANS)]
    ran: list[dict[str, dict[str, float]]] = []
    for _ in range(bench.repeat(SCRIPT_PLANS)):
        out = subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.PIPE, text=True).stdout
        ran.append(json.loads(out))
        say(f"{SCRIPT_PLANS} script calls: {ran[-1]}")
    rows = []
    for name in ran[0]:
        cost = median(run[name]["cpu_ms"] for run in ran)
        starts = max(run[name]["starts"] for run in ran)
        rows.append([name, f"{cost:.2f}", f"{starts:.0f}"])
        wanted = f"{name}: at most {MOST_SCRIPT_MS} ms of CPU a plan over {SCRIPT_PLANS:,} plans, one process"
        met = cost <= MOST_SCRIPT_MS and starts == 1
        part.targets.append(Target(wanted, f"{cost:.2f} ms, {starts:.0f} started", met))
    part.paragraphs.append(table([f"{SCRIPT_PLANS:,} calls of", "CPU of a call, ms", "processes"], rows))
    return part


# The lane with tasks of its own for each plan


def lane(bench: Bench, _plans: Sequence[int]) -> Part:
    """A run of 20 plans against the same arrows with nothing in them."""
    ours, empty = [], []
    with dags.airflow(bench.folder, bench.ports, say=say) as server:
        warm_up(bench, server)
        for _ in range(bench.repeat(LANE_PLANS)):
            ours.append(dag_run(bench, server, SQLITE, LANE_PLANS))
            empty.append(dags.measured(server, dags.EMPTY, {"plans": LANE_PLANS}))
            say(f"{LANE_PLANS} x 3 empty tasks: {empty[-1].seconds:.2f} s")
    share = _seconds(ours) / _seconds(empty)
    head = ["20 plans, 3 tasks each", "took", "CPU of all"]
    rows = [
        [name, f"{_seconds(ran):.1f} s", f"{median(run.cpu for run in ran):.1f} s"]
        for name, ran in (("our DAG", ours), ("the same arrows, empty tasks", empty))
    ]
    target = Target(
        f"{LANE_PLANS} plans: at most {MOST_LANE} x the same number of empty mapped tasks",
        f"{share:.2f} x",
        share <= MOST_LANE,
    )
    return Part("The lane with tasks for each plan", [table(head, rows)], [target])


# Airflow's settings


def airflow_settings(bench: Bench, _plans: Sequence[int]) -> Part:
    """The same small run under Airflow's settings as `make run` has them, and with one of them taken back."""
    rows = []
    for name, changes in VARIANTS.items():
        with dags.airflow(bench.folder, bench.ports, **changes) as server:
            warm_up(bench, server)
            seconds = [
                median(dag_run(bench, server, SQLITE, count).seconds for _ in range(bench.repeat(count)))
                for count in (1, LANE_PLANS)
            ]
        say(f"{name}: {seconds}")
        rows.append([name, *(f"{took:.1f} s" for took in seconds)])
    return Part("Airflow's settings", [table(["settings", "1 plan", f"{LANE_PLANS} plans"], rows)])


PARTS: dict[str, Callable[[Bench, Sequence[int]], Part]] = {
    "ceiling": ceiling,
    "runs": runs,
    "own": own,
    "scripts": scripts,
    "lane": lane,
    "settings": airflow_settings,
}
