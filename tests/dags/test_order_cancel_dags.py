"""The DAGs as the dag-processor and a worker build them, on Airflow's own DagBag."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from functools import cache
from typing import Any

import pytest

from include.demo.airflow_server import ROOT, AirflowServer
from tests.harness import settings
from tests.shares import thorough

SCRIPT = """
import json, os, sys
from contextlib import nullcontext
from airflow.dag_processing.dagbag import DagBag
from airflow.sdk.definitions._internal.dag_parsing_context import _airflow_parsing_context_manager

asked = sys.argv[2] if len(sys.argv) > 3 and sys.argv[2] else None
if len(sys.argv) > 4:
    os.environ["AIRFLOW_VAR_ORDER_CANCEL_FLOWS"] = sys.argv[3]
with _airflow_parsing_context_manager(dag_id=asked) if asked else nullcontext():
    bag = DagBag(dag_folder=sys.argv[1])
shape = {
    dag.dag_id: {
        "tasks": dag.task_ids,
        "upstream": {task.task_id: sorted(task.upstream_task_ids) for task in dag.tasks},
        "schedule": repr(dag.schedule),
        "tags": sorted(dag.tags),
        "max_active_runs": dag.max_active_runs,
        "catchup": dag.catchup,
        "params": {name: dag.params.get_param(name).description for name in dag.params},
        "doc": dag.doc_md or "",
        "description": dag.description or "",
        "retries": {task.task_id: task.retries for task in dag.tasks},
    }
    for dag in bag.dags.values()
}
print(json.dumps({"errors": bag.import_errors, "dags": shape}), file=open(sys.argv[-1], "w"))
"""
TOLD = """
import json, sys
from types import SimpleNamespace
from include.order_cancel import airflow_bridge as bridge
from include.order_cancel.errors import RetryLater

told = {}
run = SimpleNamespace(conf={})
context = {"run_id": "manual 7", "params": {}, "dag_run": run, "ti": SimpleNamespace(try_number=1)}
bridge._context, bridge._failed_tasks = lambda: context, lambda: []
calls = {
    "get_data": lambda: bridge.get_data_from_omnitron("cancels", 1),
    "bulk": lambda: bridge.bulk("cancels", 1, 0),
    "open_plans": lambda: bridge.open_plans("cancels", 1),
    "carry_one": lambda: bridge.carry_one("cancels", 1, "mapping"),
    "report": lambda: bridge.report("cancels", 1),
    "gate": lambda: bridge.gate("cancels", 1),
}
for name, call in calls.items():
    def task(around, *given):
        told[name] = [around.flow, around.run_key]
        raise RetryLater
    setattr(bridge.flow_module, name, task)
    try:
        call()
    except RetryLater:
        pass
print(json.dumps(told), file=open(sys.argv[-1], "w"))
"""
CHECKED = """
import json, sys
from airflow.sdk.exceptions import AirflowFailException
from include.order_cancel import airflow_bridge as bridge

told = []
for text in sys.argv[1:-1]:
    bridge._task_variable = lambda name: text
    for task in (bridge.check_index, bridge.task_index):
        try:
            told.append(task())
        except AirflowFailException as error:
            told.append(f"failed: {error}")
print(json.dumps(told), file=open(sys.argv[-1], "w"))
"""
VALIDATED = """
import io, json, os, sys
from contextlib import redirect_stdout
from include.order_cancel.__main__ import main

os.environ["AIRFLOW_VAR_ORDER_CANCEL_FLOWS"] = sys.argv[1]
with redirect_stdout(io.StringIO()) as out:
    code = main(["validate"])
print(json.dumps([code, out.getvalue()]), file=open(sys.argv[-1], "w"))
"""
TASKS = ["login", "get_data_from_omnitron", "bulk", "open_plans", "report", "gate"]
FIXED = {"order_cancel_maintenance", "order_cancel_watch"}  # not of one flow
INDEX = "order_cancel_flows"
PRESETS = {
    "@hourly": "'0 * * * *'",
    "@daily": "'0 0 * * *'",
    "@weekly": "'0 0 * * 0'",
    "@monthly": "'0 0 1 * *'",
    "@quarterly": "'0 0 1 */3 *'",
    "@yearly": "'0 0 1 1 *'",
}
ALL_STEPS = [
    f"plan.{step}" for step in ("script", "mapping", "write_to_erp", "write_to_omnitron", "post_script")
]


class Bag(AirflowServer):
    """An Airflow home with a database, in which DAG files are parsed but nothing runs."""

    def said(self, text: str, *words: Any) -> dict[str, Any]:
        """What a script writes as JSON into the file that it is given last."""
        answer = self.home / "answer.json"
        script = self.home / "script.py"
        script.write_text(text)
        with self._kept("script", sys.executable, script, *words, answer) as running:
            assert running.wait(60) == 0, running.tail()
        found: dict[str, Any] = json.loads(answer.read_text())
        return found

    def parse(self, *words: str) -> dict[str, Any]:
        found = self.said(SCRIPT, ROOT / "dags", *words)
        assert found["errors"] == {}
        dags: dict[str, Any] = found["dags"]
        return dags


@pytest.fixture(scope="module")
def bag(tmp_path_factory: pytest.TempPathFactory) -> Bag:
    flows = {
        "cancels": settings(schedule="*/5 * * * *", timezone="Europe/Istanbul"),
        "scripted": settings(script="def transform(plan, attributes):\n    return plan\n"),
        "wrong": {"schedule": "@hourly", "omnitron": {}},
        "once": settings(schedule="@once", timezone="Europe/Istanbul"),
    }
    presets = {f"preset_{name[1:]}": settings(schedule=name, timezone="Europe/Istanbul") for name in PRESETS}
    bag = Bag(
        tmp_path_factory.mktemp("bag") / "home",
        variables={
            "order_cancel_flows": json.dumps([*flows, "missing"]),
            **{f"order_cancel_flow__{name}": json.dumps(raw) for name, raw in {**flows, **presets}.items()},
        },
    )
    bag._prepare(120)
    return bag


@pytest.fixture(scope="module")
def parse(bag: Bag) -> Callable[..., dict[str, Any]]:
    return cache(bag.parse)  # a parse takes three seconds


def test_each_flow_of_the_index_has_a_dag_with_its_configured_steps(
    parse: Callable[..., dict[str, Any]],
) -> None:
    dags = parse()

    flows = [f"order_cancel__{name}" for name in ("cancels", "missing", "once", "scripted", "wrong")]
    assert sorted(dags.keys() - FIXED) == flows
    steps = ["plan.mapping", "plan.write_to_erp", "plan.write_to_omnitron"]
    assert sorted(dags["order_cancel__cancels"]["tasks"]) == sorted([*TASKS, *steps])
    assert "plan.script" in dags["order_cancel__scripted"]["tasks"]


def test_a_broken_flow_keeps_its_usual_shape_without_a_schedule(parse: Callable[..., dict[str, Any]]) -> None:
    dags = parse()

    for name in ("wrong", "missing"):
        dag = dags[f"order_cancel__{name}"]
        assert sorted(dag["tasks"]) == sorted([*TASKS, *ALL_STEPS])
        assert dag["schedule"] == "None"


def test_the_gate_hangs_on_every_task_before_it(parse: Callable[..., dict[str, Any]]) -> None:
    dag = parse()["order_cancel__cancels"]

    before = {name for name in dag["tasks"] if name != "gate"}
    assert before - {"plan.mapping", "plan.write_to_erp"} <= set(dag["upstream"]["gate"])
    assert "plan.mapping" in dag["upstream"]["plan.write_to_erp"]
    assert dag["retries"]["gate"] == 0
    assert dag["retries"]["plan.write_to_erp"] == 3


def test_a_dag_says_what_the_contract_says(parse: Callable[..., dict[str, Any]]) -> None:
    dag = parse()["order_cancel__cancels"]

    assert dag["tags"] == ["order_cancel"]
    assert dag["max_active_runs"] == 1
    assert dag["catchup"] is False
    assert "'*/5 * * * *'" in dag["schedule"]
    assert "Europe/Istanbul" in dag["schedule"]
    assert sorted(dag["params"]) == sorted(
        ["plan_ids", "limit", "dry_run", "retry_only", "since", "until", "resend_ids", "max_plans"]
    )
    assert all(dag["params"].values()), "every Param is described in the trigger form"
    assert "safe to clear" in dag["doc"]


def test_every_preset_is_read_in_the_flows_time_zone(parse: Callable[..., dict[str, Any]]) -> None:
    dags = parse("", json.dumps([f"preset_{name[1:]}" for name in PRESETS]))

    schedules = {name: dags[f"order_cancel__preset_{name[1:]}"]["schedule"] for name in PRESETS}
    assert {name: PRESETS[name] in said for name, said in schedules.items()} == dict.fromkeys(PRESETS, True)
    assert {name: "Europe/Istanbul" in said for name, said in schedules.items()} == dict.fromkeys(
        PRESETS, True
    )
    assert "@once" in parse()["order_cancel__once"]["schedule"], "a moment, which has no time zone"


@pytest.mark.parametrize(
    ("index", "flows", "told"),
    [
        ('["cancels", 7]', ["cancels"], "entry 2 is not a text"),
        thorough(
            '["Not a name", "cancels"]',
            ["cancels"],
            "entry 1 has no DAG: 'Not a name' cannot be a flow's name",
        ),
        thorough(
            '["cancels", "cancels", "wrong"]', ["cancels", "wrong"], "entry 2 'cancels' stands in the list"
        ),
        thorough('["cancels", null, ""]', ["cancels"], "entry 3 has no DAG"),
        thorough('{"cancels": true}', [], "is not a list"),
        thorough('["cancels"', [], "is not JSON"),
        thorough("[" * 100_000, [], "is not JSON"),
        thorough('["cancels", "\\ud800 x.md"]', ["cancels"], "entry 2 has no DAG"),
    ],
)
def test_a_wrong_entry_is_told_by_a_dag_of_its_own_and_takes_no_other_flow_away(
    parse: Callable[..., dict[str, Any]], index: str, flows: list[str], told: str
) -> None:
    dags = parse("", index)

    assert dags.keys() - FIXED == {INDEX, *(f"order_cancel__{flow}" for flow in flows)}
    dag = dags[INDEX]
    assert (dag["tags"], dag["schedule"], dag["tasks"]) == (["order_cancel"], "None", ["check"])
    assert told in dag["description"]
    assert told in dag["doc"]
    dag["doc"].encode()


def test_the_task_of_that_dag_fails_with_every_problem_and_the_daily_tasks_go_on_with_the_good_flows(
    bag: Bag,
) -> None:
    told = bag.said(CHECKED, '["cancels", 7, "B"]', '["cancels"]', "7")

    assert told[0].startswith("failed: ")
    assert "entry 2 is not a text" in told[0]
    assert "entry 3 has no DAG: 'B'" in told[0]
    assert told[1] == told[3] == ["cancels"]
    assert "is in order" in told[2]
    assert told[4] == told[5]
    assert "is not a list" in told[5]


def test_validate_tells_the_problems_of_the_index_and_looks_at_the_good_flows(bag: Bag) -> None:
    code, told = bag.said(VALIDATED, '["cancels", 7]')

    assert code == 1
    assert "order_cancel_flows: entry 2 is not a text" in told
    assert "flow cancels: valid" in told


def test_a_worker_builds_the_dag_of_the_index_without_reading_it(
    parse: Callable[..., dict[str, Any]],
) -> None:
    assert parse(INDEX).keys() - FIXED == {INDEX}


def test_a_worker_reads_no_variable_and_builds_all_steps(parse: Callable[..., dict[str, Any]]) -> None:
    dags = parse("order_cancel__unknown_to_the_index")

    assert list(dags.keys() - FIXED) == ["order_cancel__unknown_to_the_index"]
    assert sorted(dags["order_cancel__unknown_to_the_index"]["tasks"]) == sorted([*TASKS, *ALL_STEPS])


def test_the_maintenance_prunes_each_flow_daily(parse: Callable[..., dict[str, Any]]) -> None:
    dag = parse()["order_cancel_maintenance"]

    assert "'17 3 * * *'" in dag["schedule"]
    assert dag["upstream"] == {"flows": [], "prune": ["flows"], "give_space_back": ["prune"]}
    assert "safe to clear" in dag["doc"]


def test_every_task_of_a_run_is_told_which_run_is_its_own(bag: Bag) -> None:
    tasks = ["get_data", "bulk", "open_plans", "carry_one", "report", "gate"]

    assert bag.said(TOLD) == {name: ["cancels", "manual 7"] for name in tasks}
