"""A journal of the version before, with plans in every state, goes on under this one."""

from __future__ import annotations

import json
import shutil
import sqlite3
from collections import Counter
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from include.order_cancel.http import Endpoint
from include.order_cancel.omnitron import content_digest
from include.simulator import OmnitronSimulator, plans
from tests.data.keep_journal import KEPT
from tests.integration.conftest import SEED, MakeFlow

BEFORE = "0004"
# What becomes of each state in two ordinary runs, and how often the plan is booked in them.
THEN = {
    "fetched": ("done", 1),
    "prepared": ("done", 1),
    "sending": ("in_doubt", 0),
    "answered": ("done", 0),
    "written_back": ("done", 0),
    "done": ("done", 1),  # a person had begun a second generation
    "rejected": ("rejected", 0),
    "passed": ("passed", 0),
    "left": ("left", 0),
    "dismissed": ("dismissed", 0),
    "held": ("done", 1),
    "failed": ("done", 1),
    "in_doubt": ("in_doubt", 0),
    "dead": ("dead", 0),
    "changed": ("changed", 0),
}
IN_OMNITRON = {"rejected": "rejected", "passed": "approved", "left": "approved", "dismissed": "approved"}


@pytest.fixture
def kept(tmp_path: Path) -> Path:
    """The kept journal, as it was written."""
    file = tmp_path / "kept.db"
    shutil.copy(KEPT / f"{BEFORE}.sqlite", file)
    return file


def states_in(file: Path) -> dict[str, str]:
    """Each plan's state in its first generation, by number."""
    with closing(sqlite3.connect(file)) as database:
        found = database.execute("SELECT pk, state FROM order_cancel_plans WHERE generation = 1")
        return dict(found.fetchall())


def moved_to(file: Path, omnitron: str, erp: str, documents: dict[str, dict[str, Any]]) -> None:
    """Let the kept plans be of these simulators."""
    with closing(sqlite3.connect(file)) as database, database:
        for table in ("plans", "runs", "transactions"):
            database.execute(f"UPDATE order_cancel_{table} SET host = ?", (omnitron,))  # noqa: S608
        for pk, document in documents.items():
            digest = content_digest(document)
            database.execute("UPDATE order_cancel_plans SET digest = ? WHERE pk = ?", (digest, pk))
            database.execute(
                "UPDATE order_cancel_bodies SET content = ? WHERE kind = 'document' AND plan_id IN "
                "(SELECT id FROM order_cancel_plans WHERE pk = ?)",
                (json.dumps(document), pk),
            )
        bodies = database.execute("SELECT id, plan_id, meta FROM order_cancel_bodies WHERE kind = 'request'")
        for number, plan_id, meta in bodies.fetchall():
            pk, key = database.execute(
                "SELECT pk, key FROM order_cancel_plans WHERE id = ?", (plan_id,)
            ).fetchone()
            headers = {"Idempotency-Key": key, "Content-Type": "application/json"}
            told = {**json.loads(meta), "url": f"{erp}/cancellations", "headers": headers}
            database.execute(
                "UPDATE order_cancel_bodies SET content = ?, meta = ? WHERE id = ?",
                (json.dumps({"pk": int(pk)}), json.dumps(told), number),
            )


def test_plans_in_every_state_go_on(make_flow: MakeFlow, kept: Path) -> None:
    before = states_in(kept)
    documents = plans(SEED, len(before), status="waiting", first_pk=1)
    for document in documents:
        document["status"] = IN_OMNITRON.get(before[str(document["pk"])], "waiting")
    flow = make_flow(0, omnitron=OmnitronSimulator(documents), url=f"sqlite:///{kept}")
    omnitron = Endpoint("omnitron", flow.omnitron.url).host
    moved_to(kept, omnitron, flow.erp.url, {str(document["pk"]): document for document in documents})

    flow.run()
    flow.run()

    effects = Counter(str(effect.plan) for effect in flow.erp.simulator.effects)
    found = {state: (flow.rows()[pk].state, effects[pk]) for pk, state in before.items()}
    assert found == THEN


def test_a_lookup_waits_for_a_doubt_of_the_version_before(make_flow: MakeFlow, kept: Path) -> None:
    before = states_in(kept)
    documents = plans(SEED, len(before), status="waiting", first_pk=1)
    lookup = {"url": "/documents?key={{ key }}", "found_path": "documentNumber", "after_seconds": 80_000}
    flow = make_flow(
        0,
        omnitron=OmnitronSimulator(documents),
        url=f"sqlite:///{kept}",
        erp__in_doubt="lookup",
        erp__lookup=lookup,
    )
    (pk,) = [int(pk) for pk, state in before.items() if state == "in_doubt"]
    with closing(sqlite3.connect(kept)) as database, database:
        database.execute("UPDATE order_cancel_plans SET updated_at = unixepoch('now')")
    omnitron = Endpoint("omnitron", flow.omnitron.url).host
    moved_to(kept, omnitron, flow.erp.url, {str(document["pk"]): document for document in documents})
    waits: list[float] = []

    async def sleep(seconds: float) -> None:
        waits.append(seconds)

    flow.http = {"sleep": sleep}

    flow.run(plan_ids=[pk])

    assert sum(waits) == pytest.approx(80_000, abs=100)
    assert (flow.state(pk), len(flow.erp.simulator.effects_of(pk))) == ("done", 1)
