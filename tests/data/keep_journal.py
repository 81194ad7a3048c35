"""Writes a journal of today's schema into tests/data/journals, for each release: `python -m tests.data.keep_journal`.

The tests open each of these files with the newest code. It holds a plan in every state, each with what its way left.
"""

from __future__ import annotations

import shutil
import sqlite3
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from sqlalchemy import create_engine, make_url, text

from include.order_cancel import schema
from include.order_cancel.journal import Journal, idempotency_key
from include.order_cancel.placing import Placing
from include.order_cancel.rows import Body, Event, Move, Relation, Row, State
from tests.databases import fresh_database
from tests.journal_fixtures import FLOW, HOST, a_run, listed

KEPT = Path(__file__).with_name("journals")
SENT: Mapping[State, Mapping[str, Any]] = {
    State.SENDING: {"outcome": ""},
    State.ANSWERED: {"outcome": "accepted", "relation": Relation.CONTINUE, "http_status": 201},
    State.WRITTEN_BACK: {"outcome": "accepted", "relation": Relation.CONTINUE, "http_status": 201},
    State.DONE: {"outcome": "accepted", "relation": Relation.CONTINUE, "http_status": 201},
    State.REJECTED: {"outcome": "refused", "relation": Relation.FAILURE, "http_status": 422},
    State.PASSED: {"outcome": "accepted", "relation": Relation.DO_NOTHING, "http_status": 200},
    State.HELD: {"outcome": "accepted", "relation": Relation.DO_NOTHING, "http_status": 200},
    State.FAILED: {"outcome": "refused", "http_status": 422, "error": "the ERP refused it: 422"},
    State.IN_DOUBT: {"outcome": "unknown", "error": "it is not known whether the ERP took it: no answer"},
    State.DEAD: {"outcome": "refused", "http_status": 422, "error": "the ERP refused it: 422"},
    State.CHANGED: {"outcome": "accepted", "relation": Relation.CONTINUE, "http_status": 201},
}


def fill(journal: Journal) -> None:
    """A plan in every state, from 1 on in their order; a second generation; a transaction, a token, a stop."""
    journal.save_snapshot(FLOW, "d" * 64, {"omnitron": {"channel_type": "web"}})
    run = a_run(journal, "kept")
    journal.set_snapshot(run.id, "d" * 64)
    journal.take_page(run, [listed(number) for number in range(1, len(State) + 1)], Placing())
    journal.commit_run(run, fan_out=50, lots=4, counts={"new": len(State)}, queried_at=1_750_000_000.0)
    for row, state in zip(journal.run_rows(run.id), State, strict=True):
        held = journal.claim_one(row.id, run.id, "task")
        journal.apply([_moved(held, state)])
    journal.resend(journal.run_rows(run.id, [State.DONE])[0].id, who="a person", reason="kept")
    journal.note_transactions(HOST, FLOW, ["900"], "mapped")
    assert journal.token_claim("omnitron", 0, "task", 30)
    journal.token_write("omnitron", 1, b"\x00secret", "task")
    journal.stop(run.id, "nothing more is sent")
    journal.finish_run(run.id)


def _moved(row: Row, state: State) -> Move:
    row.state, row.attempts, row.snapshot = state, 1, "d" * 64
    row.attributes = {"channel_type": "web"}
    row.owner, row.lease_until, row.claim_run = "", 0.0, None
    move = Move(row, events=[Event("plan", str(state))])
    if state in SENT:
        row.key, row.progress = idempotency_key(row), "request"
        meta = {"method": "POST", "url": "http://erp.example/x", "key": row.key, "headers": {}}
        move.bodies.append(Body("request", '{"plan": 1}', meta))
        for name, value in SENT[state].items():
            setattr(row, name, value)
    if row.http_status is not None:
        said = {"status": row.http_status, "reason": "OK", "url": "http://erp.example/x"}
        move.bodies.append(Body("response", '{"documentNumber": "D1"}', said))
        row.erp_reference = "D1" if row.http_status < 300 else None
    return move


def main() -> None:
    """Keep both files; those of an earlier run of the same schema are written anew."""
    KEPT.mkdir(exist_ok=True)
    _keep_sqlite(KEPT / f"{schema.HEAD}.sqlite")
    _keep_postgresql(KEPT / f"{schema.HEAD}.sql")


def _keep_sqlite(file: Path) -> None:
    file.unlink(missing_ok=True)
    _fill(f"sqlite:///{file}")
    connection = sqlite3.connect(file, isolation_level=None)
    connection.execute("PRAGMA journal_mode=DELETE")  # all of it in one file
    connection.execute("VACUUM")
    connection.close()
    file.chmod(0o644)


def _keep_postgresql(file: Path) -> None:
    with fresh_database() as url:
        _fill(url)
        plain = make_url(url).set(drivername="postgresql").render_as_string(hide_password=False)
        options = ("--inserts", "--no-owner", "--no-privileges", f"--dbname={plain}")
        dump = subprocess.run(
            [str(shutil.which("pg_dump")), *options], check=True, capture_output=True, text=True
        ).stdout
    # psql's own commands are nothing for the server.
    file.write_text("".join(line for line in dump.splitlines(True) if not line.startswith("\\")))


def load(file: Path, url: str) -> None:
    """Put a kept PostgreSQL journal into the empty database at `url`."""
    engine = create_engine(url, isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        connection.execute(text(file.read_text().replace(":", r"\:")))
    engine.dispose()


def _fill(url: str) -> None:
    journal = Journal.open(url)
    fill(journal)
    journal.close()


if __name__ == "__main__":
    main()
