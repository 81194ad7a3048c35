"""A journal that is older than what was sent: restored from a backup, or lost. On both databases."""

from __future__ import annotations

import json
import shutil
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import URL, create_engine, make_url, text

from include.order_cancel.__main__ import main
from include.order_cancel.restoring import JournalBehind, note_restore
from include.simulator import ErpSimulator, plans
from tests.harness import Flow
from tests.integration.conftest import MakeFlow
from tests.integration.test_answers import responding
from tests.integration.test_windows import COMPLETED

LOST = 5004  # sent after the backup
LATER = 5005  # made after the restore
LOOKUP = {"url": "/documents?key={{ key }}", "found_path": "documentNumber"}

Backup = Callable[[Flow], str]


@pytest.fixture
def backup(tmp_path: Path) -> Iterator[Backup]:
    """Copies a flow's journal as it is now. Gives the copy's URL."""
    with ExitStack() as cleaning:

        def copy(flow: Flow) -> str:
            opened_anew(flow, flow.journal_url)
            url = make_url(flow.journal_url)
            if url.get_backend_name() == "sqlite":
                shutil.copy(str(url.database), tmp_path / "backup.db")
                return f"sqlite:///{tmp_path / 'backup.db'}"
            return copy_of_postgres(url, cleaning)

        yield copy


def copy_of_postgres(url: URL, cleaning: ExitStack) -> str:
    name = f"{url.database}_backup"

    def ask(words: str) -> None:
        engine = create_engine(url.set(database="postgres"), isolation_level="AUTOCOMMIT")
        with engine.connect() as connection:
            connection.execute(text(words))
        engine.dispose()

    ask(f"CREATE DATABASE {name} TEMPLATE {url.database}")
    cleaning.callback(ask, f"DROP DATABASE {name} WITH (FORCE)")
    return url.set(database=name).render_as_string(hide_password=False)


def opened_anew(flow: Flow, url: str) -> None:
    flow.close()
    flow._journal, flow.journal_url = None, url


def in_hours(hours: float) -> str:
    return (datetime.now(UTC) + timedelta(hours=hours)).isoformat()


def lost_and_restored(flow: Flow, backup: Backup) -> None:
    """After the backup the ERP takes 5001, which it had refused, and 5004, which Omnitron goes on listing."""
    flow.erp.simulator.fail("refuse", plan=5001, times=1)
    flow.run()
    assert flow.states() == {"5001": "failed", "5002": "done", "5003": "done"}
    older = backup(flow)
    flow.omnitron.simulator.put_plans(plans(8, 1, first_pk=LOST))
    flow.omnitron.simulator.fail("status", status=500, plan=LOST, method="PATCH")
    flow.omnitron.simulator.set(clock_skew_seconds=60)  # instead of waiting for a minute
    flow.run()
    flow.omnitron.simulator.faults.clear()
    assert Counter(effect.plan for effect in flow.erp.simulator.effects) == dict.fromkeys(
        range(5001, 5005), 1
    )
    opened_anew(flow, older)


def say_restored(flow: Flow) -> int:
    with flow.journal() as journal:
        return note_restore(journal, flow.name, "a tester")


def test_no_run_begins_on_an_older_journal(make_flow: MakeFlow, journal_url: str, backup: Backup) -> None:
    flow = make_flow(3, url=journal_url)
    lost_and_restored(flow, backup)
    sent = len(flow.sent())

    with pytest.raises(JournalBehind, match=r"order_cancel restored --flow cancels.*counts as in doubt"):
        flow.run()

    assert len(flow.sent()) == sent


@pytest.mark.parametrize("params", [{}, {"retry_only": True}, {"plan_ids": [5001]}], ids=str)
def test_a_copy_from_before_a_run_that_found_nothing_new_is_noticed(
    make_flow: MakeFlow, sqlite_url: str, backup: Backup, params: dict[str, Any]
) -> None:
    """Such a run leaves the last query time where it was, and sends what had failed."""
    flow = make_flow(1, url=sqlite_url, status="completed", **COMPLETED)
    flow.erp.simulator.fail("refuse", plan=5001, times=1)
    flow.run()
    last, older = flow.last_query, backup(flow)
    flow.run(**params)
    assert (flow.state(5001), flow.last_query) == ("done", last)
    opened_anew(flow, older)

    with pytest.raises(
        JournalBehind, match=r"the flow's newest run began at .* order_cancel_last_begun__cancels"
    ):
        flow.run()

    assert len(flow.erp.simulator.effects) == 1
    say_restored(flow)
    flow.run()
    assert (flow.state(5001), len(flow.erp.simulator.effects)) == ("in_doubt", 1)


def test_no_run_begins_on_an_empty_journal_after_others(make_flow: MakeFlow) -> None:
    flow = make_flow(1)
    flow.run()
    opened_anew(flow, f"{flow.journal_url}.new")

    with pytest.raises(JournalBehind, match="knows nothing of this flow"):
        flow.run()


def test_what_may_have_been_sent_waits_for_a_person(
    make_flow: MakeFlow, journal_url: str, backup: Backup
) -> None:
    flow = make_flow(3, url=journal_url, erp=ErpSimulator(auth="basic", idempotency=False))
    lost_and_restored(flow, backup)
    marked = say_restored(flow)
    flow.omnitron.simulator.put_plans(
        [{**plan, "created_date": in_hours(1)} for plan in plans(9, 1, first_pk=LATER)]
    )

    outcome = flow.run()

    assert marked == 1
    assert flow.states() == {
        "5001": "left",  # Omnitron has the write-back of the lost run
        "5002": "done",
        "5003": "done",
        "5004": "in_doubt",
        "5005": "done",
    }
    assert "in_doubt" in outcome.gate
    assert Counter(effect.plan for effect in flow.erp.simulator.effects) == dict.fromkeys(
        range(5001, 5006), 1
    )
    with flow.journal() as journal:
        journal.resolve(flow.row(LOST).id, arrived=True, who="a tester")
    assert flow.run().gate == "open"
    assert flow.state(LOST) == "done"
    assert flow.omnitron.simulator.status(LOST) == "approved"
    assert len([call for call in flow.sent() if call.pk == LOST]) == 1


def test_one_that_did_not_arrive_is_sent_once_a_person_says_so(
    make_flow: MakeFlow, journal_url: str, backup: Backup
) -> None:
    flow = make_flow(1, url=journal_url)
    flow.erp.simulator.fail("status", status=429, times=3)
    flow.run()
    older = backup(flow)
    flow.last_query = datetime.fromisoformat(in_hours(0.5))  # a run of which the journal has lost everything
    opened_anew(flow, older)
    assert say_restored(flow) == 1
    flow.last_query = None
    doubted = flow.run()
    before = len(flow.erp.simulator.effects)

    with flow.journal() as journal:
        journal.resolve(flow.row(5001).id, arrived=False, who="a tester")
    outcome = flow.run()

    assert (before, "in_doubt" in doubted.gate) == (0, True)
    assert (outcome.gate, flow.state(5001)) == ("open", "done")
    assert len(flow.erp.simulator.effects) == 1


def test_a_lookup_settles_what_was_lost(make_flow: MakeFlow, journal_url: str, backup: Backup) -> None:
    erp = ErpSimulator(auth="basic", idempotency=False)
    flow = make_flow(3, url=journal_url, erp=erp, erp__in_doubt="lookup", erp__lookup=LOOKUP)
    lost_and_restored(flow, backup)
    say_restored(flow)
    flow.omnitron.simulator.put_plans(plans(9, 1, first_pk=LATER))  # made before the restore, and never sent

    outcome = flow.run()

    assert outcome.gate == "open"
    assert {pk: flow.states()[pk] for pk in ("5004", "5005")} == {"5004": "done", "5005": "done"}
    assert Counter(effect.plan for effect in erp.effects) == dict.fromkeys(range(5001, 5006), 1)


def test_an_erp_that_knows_the_key_recognises_it(
    make_flow: MakeFlow, journal_url: str, backup: Backup
) -> None:
    flow = make_flow(3, url=journal_url, erp__in_doubt="resend")
    lost_and_restored(flow, backup)
    say_restored(flow)

    assert flow.run().gate == "open"

    assert flow.keys(LOST)[0] == flow.keys(LOST)[1]
    assert Counter(effect.plan for effect in flow.erp.simulator.effects) == dict.fromkeys(
        range(5001, 5005), 1
    )


@pytest.mark.parametrize("lane", [{}, {"fan_out": 0, "lots": 1}], ids=["own tasks", "lots"])
def test_a_window_that_is_scanned_again_sends_nothing_twice(
    make_flow: MakeFlow, backup: Backup, lane: dict[str, int]
) -> None:
    flow = make_flow(
        2,
        erp=ErpSimulator(auth="basic", idempotency=False),
        status="completed",
        omnitron__cancel_status="completed",
        omnitron__next_state=None,
        omnitron__start_from="2020-01-01T00:00:00Z",
        **lane,
    )
    flow.run()
    older = backup(flow)
    flow.omnitron.simulator.put_plans(
        plans(8, 1, first_pk=LOST, status="completed", start=in_hours(0).replace("+00:00", "Z"))
    )
    flow.run()
    opened_anew(flow, older)
    say_restored(flow)
    flow.last_query = None

    flow.run()

    assert flow.states() == {"5001": "done", "5002": "done", "5004": "in_doubt"}
    assert len(flow.erp.simulator.effects) == 3


NO_KEYS: dict[str, object] = {
    "status": "completed",
    "omnitron__cancel_status": "completed",
    "omnitron__next_state": None,
    "omnitron__start_from": "2020-01-01T00:00:00Z",
}


def test_a_dead_plan_of_an_older_journal_is_in_doubt_too(make_flow: MakeFlow, backup: Backup) -> None:
    """After the backup a person named it, and the ERP took it."""
    flow = make_flow(1, max_attempts=1, erp=ErpSimulator(auth="basic", idempotency=False), **NO_KEYS)
    flow.erp.simulator.fail("refuse", plan=5001, times=1)
    flow.run()
    assert flow.state(5001) == "dead"
    older = backup(flow)
    flow.run(plan_ids=[5001])
    opened_anew(flow, older)
    assert say_restored(flow) == 1

    flow.run(plan_ids=[5001])

    assert (flow.state(5001), len(flow.erp.simulator.effects_of(5001))) == ("in_doubt", 1)


def test_a_refusal_that_was_not_judged_in_the_copy_is_doubted(make_flow: MakeFlow, backup: Backup) -> None:
    """The backup fell between a refusal and the script's word; then the plan was sent again, and taken."""
    script = responding("return 'continue' if response.get('documentNumber') else 'x'")
    flow = make_flow(1, erp=ErpSimulator(auth="basic", idempotency=False), **NO_KEYS, **script)
    flow.erp.simulator.fail("refuse", plan=5001, times=1)
    flow.run()
    with flow.journal() as journal, journal.transaction() as (connection, _):
        connection.exec_driver_sql("UPDATE order_cancel_plans SET state = 'answered', relation = NULL")
    older = backup(flow)
    flow.run()
    flow.run()
    opened_anew(flow, older)
    assert say_restored(flow) == 1

    flow.run()
    flow.run()

    assert (flow.state(5001), len(flow.erp.simulator.effects_of(5001))) == ("in_doubt", 1)


@pytest.mark.thorough
def test_an_acceptance_that_was_not_judged_in_the_copy_is_judged(make_flow: MakeFlow, backup: Backup) -> None:
    script = responding("return 'continue'")
    flow = make_flow(1, **NO_KEYS, **script)
    flow.run()
    with flow.journal() as journal, journal.transaction() as (connection, _):
        connection.exec_driver_sql("UPDATE order_cancel_plans SET state = 'answered', relation = NULL")
    opened_anew(flow, backup(flow))
    assert say_restored(flow) == 0

    assert flow.run().gate == "open"

    assert (flow.state(5001), len(flow.sent())) == ("done", 1)


@pytest.mark.thorough
def test_a_plan_whose_date_has_no_offset_is_doubted_after_a_restore(
    make_flow: MakeFlow, backup: Backup
) -> None:
    """Omnitron writes the shop's own time (UTC+3) without an offset."""
    flow = make_flow(1, erp=ErpSimulator(auth="basic", idempotency=False), **NO_KEYS)
    flow.run()
    older = backup(flow)
    an_hour_ago = (datetime.now(UTC) + timedelta(hours=3 - 1)).replace(tzinfo=None).isoformat()
    (made,) = plans(8, 1, first_pk=LOST, status="completed")
    flow.omnitron.simulator.put_plans([{**made, "created_date": an_hour_ago}])
    flow.last_query = None
    flow.run()
    opened_anew(flow, older)
    say_restored(flow)
    flow.last_query = None

    flow.run()

    assert (flow.state(LOST), len(flow.erp.simulator.effects_of(LOST))) == ("in_doubt", 1)


def test_the_command_says_what_it_has_done(make_flow: MakeFlow, capsys: pytest.CaptureFixture[str]) -> None:
    flow = make_flow(1)
    flow.erp.simulator.fail("refuse", plan=5001)
    flow.run()

    code = main(["restored", "--flow", flow.name, "--journal", flow.journal_url])

    said = capsys.readouterr().out
    assert (code, said.startswith("flow cancels: 1 open plan in doubt")) == (0, True)
    assert flow.state(5001) == "in_doubt"
    assert flow.happened(5001)[-1] == "in doubt"
    assert json.loads(flow.sent()[0].raw)  # what was sent before stays in the journey
    assert main(["restored", "--flow", flow.name, "--journal", flow.journal_url, "--before", "soon"]) == 2


def test_the_command_says_how_many_of_them_were_dead(
    make_flow: MakeFlow, capsys: pytest.CaptureFixture[str]
) -> None:
    flow = make_flow(2, max_attempts=1)
    flow.erp.simulator.fail("refuse", plan=5001)
    flow.run()
    assert flow.states() == {"5001": "dead", "5002": "done"}

    assert main(["restored", "--flow", flow.name, "--journal", flow.journal_url]) == 0

    said = capsys.readouterr().out
    assert (
        "1 open plan in doubt (1 of them dead until now, which go on with the others: `dismiss` those" in said
    )


def test_before_a_moment_that_no_plan_is_older_than_nothing_is_doubted(make_flow: MakeFlow) -> None:
    flow = make_flow(1)
    flow.last_query = datetime(2026, 1, 1, tzinfo=UTC)
    with flow.journal() as journal:
        note_restore(journal, flow.name, "a tester", datetime(2000, 1, 1, tzinfo=UTC))

    assert flow.run().gate == "open"

    assert flow.states() == {"5001": "done"}
