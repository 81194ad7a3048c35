"""Retention: what goes, what stays, and that a pruned plan is still known. On both databases."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import create_engine, func, select

from include.order_cancel import schema
from include.order_cancel.__main__ import main
from include.order_cancel.errors import OrderCancelError
from include.order_cancel.journal import RESTORES, Journal, idempotency_key
from include.order_cancel.placing import Placing
from include.order_cancel.pruning import Pruned, give_space_back, prune_flow
from include.order_cancel.restoring import check_not_behind, note_restore
from include.order_cancel.rows import FINISHED, Body, Event, Move, Relation, Row, State
from include.order_cancel.settings import Retention
from tests.journal_fixtures import (
    FLOW,
    a_run,
    let_pass,
    let_run_die,
    listed,
    settle,
    with_plans,
)

DAY = 86_400.0
KEEP = Retention(bodies_days=30, rows_days=365)


def over(
    journal: Journal, journal_url: str, *pks: int, days: float, state: State = State.DONE
) -> dict[str, Row]:
    """Plans of a run that ended, last moved so many days ago, with all that a plan's way leaves."""
    run, rows = with_plans(journal, *pks, key=f"run of {pks[0]}")
    for row in rows.values():
        held = journal.claim_one(row.id, run.id, "task")
        held.state, held.relation, held.outcome = state, Relation.CONTINUE, "accepted"
        held.key, held.erp_reference, held.error = idempotency_key(held), f"D{row.pk}", "a customer's name"
        held.attributes, held.owner, held.lease_until, held.claim_run = {"mail": "a@b.example"}, "", 0.0, None
        bodies = [Body("request", "{}"), Body("response", "{}")]
        assert journal.apply([Move(held, bodies, [Event("write_to_erp", "accepted")])]) == [None]
        let_pass(journal_url, schema.plans, row.id, updated_at=journal.now() - days * DAY)
    journal.finish_run(run.id)
    let_pass(journal_url, schema.runs, run.id, started_at=journal.now() - days * DAY)
    return {row.pk: journal.row(row.id) for row in rows.values()}


def left_of(journal: Journal, row: Row) -> tuple[int, int]:
    """How many events and bodies a row still has."""
    events, bodies = journal.journey(row.id)
    return len(events), len(bodies)


def counted(journal_url: str, table: str) -> int:
    engine = create_engine(journal_url)
    with engine.connect() as connection:
        found = connection.execute(
            select(func.count()).select_from(schema.metadata.tables[table])
        ).scalar_one()
    engine.dispose()
    return found


def test_bodies_go_first_and_the_journey_stays(journal: Journal, journal_url: str) -> None:
    old, young = over(journal, journal_url, 1, days=31)["1"], over(journal, journal_url, 2, days=29)["2"]

    done = prune_flow(journal, FLOW, KEEP)

    assert done == {"bodies": 1}
    assert left_of(journal, old) == (2, 0)
    assert left_of(journal, young) == (2, 3)
    assert (journal.row(old.id).pruned, journal.row(old.id).attributes) == (Pruned.BODIES, {})


def test_of_a_row_there_remains_what_became_of_the_plan(journal: Journal, journal_url: str) -> None:
    row = over(journal, journal_url, 1, days=366)["1"]

    prune_flow(journal, FLOW, KEEP)

    pruned = journal.row(row.id)
    assert left_of(journal, pruned) == (0, 0)
    assert (pruned.pruned, pruned.error, pruned.attributes) == (Pruned.JOURNEY, None, {})
    kept = ("pk", "generation", "state", "relation", "order_number", "amount", "currency", "digest", "key")
    assert {name: getattr(pruned, name) for name in kept} == {name: getattr(row, name) for name in kept}
    assert (pruned.erp_reference, pruned.updated_at) == ("D1", row.updated_at)


def test_what_is_not_over_stays_whole(journal: Journal, journal_url: str) -> None:
    for number, state in enumerate(set(State) - FINISHED, start=1):
        over(journal, journal_url, number, days=400, state=state)

    assert prune_flow(journal, FLOW, KEEP) == {}


@pytest.mark.parametrize("state", sorted(FINISHED))
def test_whatever_is_over_is_pruned(journal: Journal, journal_url: str, state: State) -> None:
    over(journal, journal_url, 1, days=400, state=state)

    assert prune_flow(journal, FLOW, KEEP) == {"bodies": 1, "rows": 1}


def test_a_row_that_a_task_holds_stays_whole(journal: Journal, journal_url: str) -> None:
    row = over(journal, journal_url, 1, days=400)["1"]
    run = a_run(journal, "clears the task")
    journal.claim_one(row.id, run.id, "task")

    assert prune_flow(journal, FLOW, KEEP) == {}


def test_the_rows_of_a_live_run_stay_whole(journal: Journal, journal_url: str) -> None:
    row = over(journal, journal_url, 1, days=400)["1"]
    run = a_run(journal, "lists it again")
    journal.take_page(run, [listed(1)], Placing(repeat_done=True))
    settle(journal, run, row, State.DONE)
    let_pass(journal_url, schema.plans, row.id, updated_at=1.0)

    assert prune_flow(journal, FLOW, KEEP) == {}
    let_run_die(journal_url, run)
    assert prune_flow(journal, FLOW, KEEP)["rows"] == 1


def test_another_flow_is_left_alone(journal: Journal, journal_url: str) -> None:
    over(journal, journal_url, 1, days=400)

    assert prune_flow(journal, "another", KEEP) == {}


def test_another_flow_s_runs_and_alerts_stay(journal: Journal, journal_url: str) -> None:
    first, ours = a_run(journal, flow="refunds"), a_run(journal)
    second = a_run(journal, "run 2", flow="refunds")
    for run in (ours, first, second):
        journal.finish_run(run.id)
        let_pass(journal_url, schema.runs, run.id, started_at=journal.now() - 366 * DAY)
    journal.remember_alerts("refunds", "doubt", ["1"], "somebody")
    with journal.transaction() as (connection, _):
        connection.execute(schema.alerts.update().values(at=1.0))

    assert prune_flow(journal, FLOW, KEEP) == {}
    assert [journal.run(run.id).flow for run in (ours, first, second)] == [FLOW, "refunds", "refunds"]
    assert journal.remember_alerts("refunds", "doubt", ["1"], "somebody") == []


def test_runs_without_plans_go_but_the_newest_stays(journal: Journal, journal_url: str) -> None:
    over(journal, journal_url, 1, days=400)
    over(journal, journal_url, 2, days=399)

    assert prune_flow(journal, FLOW, KEEP)["runs"] == 1
    assert counted(journal_url, "order_cancel_runs") == 1
    assert counted(journal_url, "order_cancel_members") == 0


def test_many_plans_go_in_small_transactions(journal: Journal, journal_url: str) -> None:
    over(journal, journal_url, *range(1, 26), days=400)
    pauses: list[float] = []

    done = prune_flow(journal, FLOW, KEEP, batch=10, pause=pauses.append)

    assert (done["bodies"], done["rows"]) == (25, 25)
    assert len(pauses) == 6
    assert counted(journal_url, "order_cancel_bodies") == counted(journal_url, "order_cancel_events") == 0


def test_a_flow_can_write_between_two_transactions(journal: Journal, journal_url: str) -> None:
    over(journal, journal_url, *range(1, 4), days=400)
    other = Journal.open(journal_url)
    taken: list[str] = []

    def write(_: float) -> None:
        taken.append(a_run(other, f"meanwhile {len(taken)}").run_key)

    prune_flow(journal, FLOW, KEEP, batch=1, pause=write)

    assert len(taken) >= 6
    other.close()


def test_a_pruned_plan_that_is_listed_again_is_known(journal: Journal, journal_url: str) -> None:
    over(journal, journal_url, 1, days=400)
    prune_flow(journal, FLOW, KEEP)

    counts = journal.take_page(a_run(journal, "later"), [listed(1)], Placing())

    assert counts == {"known": 1}


def test_a_pruned_plan_with_other_content_is_changed_and_prunable_again(
    journal: Journal, journal_url: str
) -> None:
    row = over(journal, journal_url, 1, days=400)["1"]
    prune_flow(journal, FLOW, KEEP)

    counts = journal.take_page(a_run(journal, "later"), [listed(1, content="other")], Placing())

    assert counts == {"changed": 1}
    assert journal.row(row.id).pruned == Pruned.NOTHING


def test_a_pruned_transaction_is_remembered(journal: Journal, journal_url: str) -> None:
    over(journal, journal_url, 1, days=400)
    journal.note_transactions("omnitron.example", FLOW, ["7"], "mapped")

    prune_flow(journal, FLOW, KEEP)

    assert journal.known_transactions("omnitron.example", FLOW, ["7"]) == {"7"}


def test_a_new_generation_of_a_pruned_plan_has_no_document(journal: Journal, journal_url: str) -> None:
    row = over(journal, journal_url, 1, days=400)["1"]
    prune_flow(journal, FLOW, KEEP)

    again = journal.resend(row.id, who="a person", reason="asked for")

    assert (again.generation, again.digest, again.order_number) == (2, "", "N1")
    assert journal.body(again.id, "document") is None
    assert journal.row(row.id).state is State.DONE


def test_resolving_a_pruned_plan_is_refused(journal: Journal, journal_url: str) -> None:
    row = over(journal, journal_url, 1, days=400)["1"]
    prune_flow(journal, FLOW, KEEP)

    with pytest.raises(OrderCancelError, match="not in doubt"):
        journal.resolve(row.id, arrived=False, who="a person")


def test_an_sqlite_file_gives_its_pages_back(tmp_path: Path) -> None:
    file = tmp_path / "order_cancel.db"
    journal = Journal.open(f"sqlite:///{file}")
    run, rows = with_plans(journal, *range(1, 40))
    for row in rows.values():
        held = journal.claim_one(row.id, run.id, "task")
        held.state, held.owner, held.lease_until = State.DONE, "", 0.0
        journal.apply([Move(held, [Body("document", "x" * 50_000)])])
        let_pass(f"sqlite:///{file}", schema.plans, row.id, updated_at=1.0)
    journal.finish_run(run.id)
    prune_flow(journal, FLOW, KEEP)
    before = file.stat().st_size

    assert journal.release_pages(100) == 100
    assert give_space_back(journal, pages=100, pause=lambda seconds: None) > 300

    journal.close()
    assert file.stat().st_size < before / 4


def test_the_commands_tell_what_became_of_a_pruned_plan(
    journal: Journal, journal_url: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    over(journal, journal_url, 1, days=366)
    settings = tmp_path / "settings.json"
    settings.write_text(
        '{"omnitron": {"channel_type": "web", "cancel_status": "waiting", "next_state": "approved"}, '
        '"erp": {"cancellation_api_url": "/x"}}'
    )
    place = ["--flow", FLOW, "--journal", journal_url]

    assert main(["prune", *place, "--file", str(settings)]) == 0
    assert "journeys of 1 plans" in capsys.readouterr().out
    assert main(["plans", *place]) == 0
    assert "done" in capsys.readouterr().out
    assert main(["plan", "1", *place]) == 0
    told = capsys.readouterr().out
    assert all(words in told for words in ("state          done", "D1", "kept no longer"))
    assert main(["export", *place, "--from", "2000-01-01", "--to", "2100-01-01"]) == 0
    assert "1,N1,1,cancel,12.50,TRY,continue,done,D1," in capsys.readouterr().out
    assert main(["resend", "1", *place, "--reason", "asked for"]) == 0
    assert "reads the plan again from Omnitron" in capsys.readouterr().out


def a_finished_run(journal: Journal, journal_url: str, key: str, days: float, **values: Any) -> int:
    run = a_run(journal, key)
    journal.finish_run(run.id)
    let_pass(journal_url, schema.runs, run.id, started_at=journal.now() - days * DAY, **values)
    return run.id


def kept_of(journal: Journal, *runs: int) -> list[int]:
    found = {run_id for (run_id,) in journal.ask(select(schema.runs.c.id))}
    return [run_id for run_id in runs if run_id in found]


def test_the_run_that_asked_last_stays_though_narrowed_and_later_ones_came(
    journal: Journal, journal_url: str
) -> None:
    asked = journal.now() - 400 * DAY
    last = a_finished_run(journal, journal_url, "asked last", 400, queried_at=asked)
    earlier = a_finished_run(journal, journal_url, "by a clock behind", 399, queried_at=asked - 60)
    narrowed = a_finished_run(journal, journal_url, "retry_only", 398)
    newest = a_finished_run(journal, journal_url, "plan_ids", 397)

    prune_flow(journal, FLOW, KEEP)

    assert kept_of(journal, last, earlier, narrowed, newest) == [last, newest]
    check_not_behind(journal, FLOW, datetime.fromtimestamp(asked, UTC))


def test_a_restore_and_the_last_run_before_it_stay(journal: Journal, journal_url: str) -> None:
    run = a_finished_run(journal, journal_url, "before", 402)
    note_restore(journal, FLOW, "somebody")
    note_restore(journal, FLOW, "somebody else")
    with journal.transaction() as (connection, now):
        restores = schema.runs.c.home == RESTORES
        connection.execute(schema.runs.update().where(restores).values(started_at=now - 400 * DAY))
    first, last = (found for (found,) in journal.ask(select(schema.runs.c.id).where(restores)))
    later = a_finished_run(journal, journal_url, "later", 399, queried_at=journal.now() + DAY)

    prune_flow(journal, FLOW, KEEP)

    assert kept_of(journal, run, first, last, later) == [last, later]
    fresh = a_run(journal, "fresh")
    journal.take_page(fresh, [listed(1)], Placing())
    assert journal.run_rows(fresh.id)[0].state is State.IN_DOUBT  # it may have been sent before the restore


def test_the_last_run_on_each_omnitron_and_the_last_success_stay(journal: Journal, journal_url: str) -> None:
    good = a_finished_run(journal, journal_url, "good", 403, succeeded_at=journal.now() - 403 * DAY)
    there = a_finished_run(journal, journal_url, "there", 402, host="another.example")
    red = a_finished_run(journal, journal_url, "red", 401)
    newest = a_finished_run(journal, journal_url, "newest", 400)
    silent_since = journal.silent_since(FLOW)

    prune_flow(journal, FLOW, KEEP)

    assert kept_of(journal, good, there, red, newest) == [good, there, newest]
    assert journal.silent_since(FLOW) == silent_since
