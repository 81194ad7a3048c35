"""What Airflow makes of the conf of a run, and the flow of that: whole runs by `dag.test()`, without a server."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from include.demo.airflow_server import ROOT, AirflowServer
from include.simulator import ErpSimulator, OmnitronSimulator, plans, running
from tests.e2e.place import connection
from tests.harness import settings

SCRIPT = """
import json, os, sys
from airflow.dag_processing.dagbag import DagBag

states = []
for overrides, conf in json.loads(sys.argv[2]):
    os.environ["AIRFLOW__CORE__DAG_RUN_CONF_OVERRIDES_PARAMS"] = overrides
    run = DagBag(dag_folder=sys.argv[1]).dags["order_cancel__cancels"].test(run_conf=conf)
    states.append({ti.task_id: str(ti.state) for ti in run.get_task_instances()})
print(json.dumps(states), file=open(sys.argv[3], "w"))
"""
ON, OFF = "True", "False"
PATIENCE = 300.0


class Runs(AirflowServer):
    """An Airflow home with a database and one flow over two systems, in which nothing runs by itself."""

    def ended(self, *runs: tuple[str, Any]) -> tuple[list[dict[str, str]], str]:
        """The states of the tasks of each run, and the log of them all."""
        answer, script = self.home / "answer.json", self.home / "runs.py"
        script.write_text(SCRIPT)
        with self._kept("runs", sys.executable, script, ROOT / "dags", json.dumps(runs), answer) as kept:
            assert kept.wait(PATIENCE) == 0, kept.tail()
        return json.loads(answer.read_text()), (self.home / "runs.log").read_text()


def test_a_run_is_what_was_asked_for_or_fails_whatever_airflow_makes_of_its_conf(tmp_path: Path) -> None:
    with running(OmnitronSimulator(plans(1, 3))) as omnitron, running(ErpSimulator()) as erp:
        runs = Runs(
            tmp_path / "home",
            connections={"omnitron": connection(omnitron.url, "omnitron"), "erp": connection(erp.url, "erp")},
            variables={
                "order_cancel_flows": json.dumps(["cancels"]),
                "order_cancel_flow__cancels": json.dumps(settings()),
            },
        )
        runs._prepare(PATIENCE)

        states, told = runs.ended(
            (OFF, {"dry_run": True}),
            (ON, {"dryrun": True}),
            (ON, {"dry_run": True}),
            (ON, {"plan_ids": [5002], "limit": None, "dry_run": False}),
            (OFF, {"limit": None}),
        )
        sent = [effect.plan for effect in erp.simulator.effects]

    assert [of_run["login"] for of_run in states] == ["failed", "failed", "success", "success", "success"]
    assert [of_run["gate"] for of_run in states] == ["failed", "failed", "success", "success", "success"]
    assert "params.dry_run: was asked for, but has not become a Param" in told
    assert "params.dryrun: is no Param of a run; did you mean 'dry_run'?" in told
    assert (sent[:1], sorted(sent[1:])) == ([5002], [5001, 5003])
