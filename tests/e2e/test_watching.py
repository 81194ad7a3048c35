"""In a real Airflow: a notifier that is told once, an asset that another DAG follows, the maintenance, the watch."""

from __future__ import annotations

import json
import shutil
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import create_engine, update

from include.demo.airflow_server import ROOT, AirflowServer
from include.order_cancel import schema
from include.order_cancel.rows import State
from include.simulator import ErpSimulator, OmnitronSimulator, plans, running
from tests.e2e.place import PATIENCE, Place, connection
from tests.harness import settings

pytestmark = pytest.mark.thorough

CONSUMER = """
import json
from airflow.sdk import DAG, Asset, task

with DAG("consumer", schedule=[Asset("order_cancel/watched")], is_paused_upon_creation=False):

    @task
    def follow(triggering_asset_events=None):
        (events,) = triggering_asset_events.values()
        print("followed", json.dumps(events[0].extra))

    follow()
"""


@contextmanager
def listener() -> Iterator[tuple[str, list[dict[str, Any]]]]:
    """An HTTP server that remembers what is posted."""
    heard: list[dict[str, Any]] = []

    class Listening(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            heard.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            self.send_response(204)
            self.end_headers()

        def log_message(self, *words: Any) -> None:
            """Nothing on the tests' output."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Listening)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/hook", heard
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def grow_old(url: str) -> None:
    """Two years pass for plans and runs."""
    past = 2 * 366 * 86_400
    engine = create_engine(url)
    with engine.begin() as connection:
        connection.execute(update(schema.plans).values(updated_at=schema.plans.c.updated_at - past))
        connection.execute(update(schema.runs).values(started_at=schema.runs.c.started_at - past))
        connection.execute(update(schema.runs).values(succeeded_at=None))
    engine.dispose()


def test_a_flow_is_watched_followed_and_kept(tmp_path: Path) -> None:
    dags = tmp_path / "dags"
    shutil.copytree(ROOT / "dags", dags, ignore=shutil.ignore_patterns("__pycache__"))
    (dags / "consumer.py").write_text(CONSUMER)
    with (
        listener() as (hook, heard),
        running(OmnitronSimulator(plans(7, 2))) as omnitron,
        running(ErpSimulator(auth="basic")) as erp,
    ):
        alert = {
            "on": ["gate_failed", "no_success"],
            "no_success_minutes": 30,
            "notifier": "tests.e2e.notifier.HttpNotifier",
            "arguments": {
                "url": hook,
                "text": "{{ order_cancel.event }} of {{ order_cancel.flow }} in {{ dag.dag_id }}",
                "secret": "{{ conn.erp.password }}",
            },
        }
        server = AirflowServer(
            tmp_path / "airflow",
            dags=dags,
            patience=0,
            connections={
                "omnitron": connection(omnitron.url, "omnitron"),
                "erp": connection(erp.url, "erp"),
            },
            variables={
                "order_cancel_flows": '["watched"]',
                "order_cancel_flow__watched": json.dumps(settings(alerts=[alert])),
            },
        )
        erp.simulator.fail("status", plan=5001, status=422)
        with server:
            place = Place(server, "watched", omnitron, erp, f"sqlite:///{server.home / 'order_cancel.db'}")
            server.wait_for_dag("consumer")
            run, ended = place.run()

            assert ended == "failed"
            told = {"text": "gate_failed of watched in order_cancel__watched", "secret": "secret"}
            assert heard == [told]
            server.clear(place.dag_id, run, ["gate"])
            assert place.ended(run) == "failed"
            assert heard == [told], "a cleared gate tells nobody again"

            runs = "/dags/consumer/dagRuns"
            place.await_(lambda: server.api("GET", runs)["dag_runs"], "the run of the consumer")
            follower = server.api("GET", runs)["dag_runs"][0]["dag_run_id"]
            assert server.wait("consumer", follower, PATIENCE) == "success"
            (followed,) = server.task_instances("consumer", follower)
            assert '"outcomes": {"failed": 1, "done": 1}' in server.log(followed).replace(
                '"outcomes": {"done": 1, "failed": 1}', '"outcomes": {"failed": 1, "done": 1}'
            )

            grow_old(place.journal_url)
            for _ in range(2):
                watch = server.trigger("order_cancel_watch")
                assert server.wait("order_cancel_watch", watch, PATIENCE) == "success"
            assert heard[1:] == [{"text": "no_success of watched in order_cancel_watch", "secret": "secret"}]

            kept = server.trigger("order_cancel_maintenance")
            assert server.wait("order_cancel_maintenance", kept, PATIENCE) == "success"
        rows = place.rows()
        assert {(row.state, row.pruned) for row in rows.values()} == {(State.DONE, 2), (State.FAILED, 0)}
