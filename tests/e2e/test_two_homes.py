"""Two Airflow installations that share one journal and serve the same flow at the same time."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path

import pytest

from include.demo.airflow_server import AirflowServer
from include.order_cancel.rows import State
from include.simulator import ErpSimulator, OmnitronSimulator, plans, running
from tests.e2e.place import PATIENCE, Place, connection
from tests.harness import journal_connection, settings

pytestmark = pytest.mark.thorough

DAG = "order_cancel__shared"
COUNT = 6


def test_no_plan_is_taken_by_both(tmp_path: Path, postgres_url: str) -> None:
    with (
        running(OmnitronSimulator(plans(7, COUNT))) as omnitron,
        running(ErpSimulator(auth="basic", idempotency=False, latency_ms=200)) as erp,
    ):
        connections = {
            "omnitron": connection(omnitron.url, "omnitron"),
            "erp": connection(erp.url, "erp"),
            "order_cancel_journal": journal_connection(postgres_url),
        }
        variables = {"order_cancel_flows": '["shared"]', "order_cancel_flow__shared": json.dumps(settings())}
        homes = [
            AirflowServer(tmp_path / name, connections=connections, variables=variables, patience=0)
            for name in ("a", "b")
        ]
        with ExitStack() as stack, ThreadPoolExecutor() as side_by_side:
            list(side_by_side.map(stack.enter_context, homes))
            for home in homes:
                home.wait_for_dag(DAG)
            runs = [(home, home.trigger(DAG)) for home in homes]
            ended = [home.wait(DAG, run, PATIENCE) for home, run in runs]
            indexes = [
                {name for name in home.states(DAG, run) if name.startswith("plan.write_to_erp[")}
                for home, run in runs
            ]

        assert ended == ["success", "success"]
        rows = Place(homes[0], "shared", omnitron, erp, postgres_url).rows()
        assert {row.state for row in rows.values()} == {State.DONE}
        assert len(erp.simulator.effects) == COUNT
        assert {pk: len(erp.simulator.effects_of(int(pk))) for pk in rows} == dict.fromkeys(rows, 1)
        assert sum(map(len, indexes)) == COUNT, "each plan is a member of one run only"
