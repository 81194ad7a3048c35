"""Searches find what they should, page by page, and along an index."""

from __future__ import annotations

import random

import pytest
from sqlalchemy import create_engine, event, insert, text

from include.order_cancel import schema
from include.order_cancel.journal import Journal
from include.order_cancel.placing import Placing
from include.order_cancel.rows import Relation, State
from include.order_cancel.searching import (
    Wanted,
    by_day,
    counts_by_state,
    has_snapshot,
    last_runs,
    narrowed,
    oldest_open,
    places_of,
    plan_at,
    runs_named,
    search,
    snapshots,
)
from tests.journal_fixtures import FLOW, HOST, a_run, listed, settle, with_plans

OTHER = "refunds"


def fill(journal_url: str, count: int, seed: int = 7) -> None:
    """Plans straight into the table: most of them done, a few in every other state, some with errors."""
    chance = random.Random(seed)
    states = [State.DONE] * 30 + list(State)
    values = []
    for number in range(count):
        state = chance.choice(states)
        relation = {State.DONE: "continue", State.REJECTED: "failure", State.PASSED: "do_nothing"}.get(state)
        values.append(
            {
                "host": HOST, "flow": chance.choice([FLOW, FLOW, OTHER]), "pk": str(number), "generation": 1,
                "state": state, "order_number": f"N{number // 2}", "digest": "", "relation": relation,
                "outcome": "accepted" if state is State.DONE else "refused", "progress": "", "body_number": 1,
                "attributes": "{}", "post": "", "attempts": 1, "next_attempt_at": 0.0, "snapshot": "",
                "error": f"customer {number} is 100% blocked" if state is State.FAILED else None,
                "request_deadline": 0.0, "owner": "", "lease_until": 0.0, "fence": 0,
                "created_at": 1000.0 + number, "updated_at": 1000.0 + number // 3,
            }
        )  # fmt: skip
    engine = create_engine(journal_url)
    with engine.begin() as connection:
        connection.execute(insert(schema.plans), values)
        connection.execute(text("ANALYZE"))
    engine.dispose()


def every(journal: Journal, wanted: Wanted, limit: int = 20) -> list[str]:
    found = search(journal, wanted, limit)
    pks = [row.pk for row in found.rows]
    while found.after is not None:
        found = search(journal, narrowed(wanted, found.after), limit)
        pks += [row.pk for row in found.rows]
    return pks


def test_pages_together_hold_every_plan_once_the_last_moved_first(journal: Journal, journal_url: str) -> None:
    fill(journal_url, 300)

    pks = every(journal, Wanted((FLOW, OTHER)))

    assert sorted(pks, key=int) == [str(number) for number in range(300)]
    moved = [1000.0 + int(pk) // 3 for pk in pks]
    assert moved == sorted(moved, reverse=True)


@pytest.mark.parametrize(
    ("wanted", "fits"),
    [
        (Wanted((FLOW,)), lambda row: True),
        (Wanted((FLOW, OTHER), states=(State.FAILED, State.DEAD)), lambda row: row.state in ("failed", "dead")),
        (Wanted((FLOW, OTHER), relation=Relation.FAILURE), lambda row: row.relation == "failure"),
        (Wanted((FLOW, OTHER), relation=Relation.CONTINUE), lambda row: row.relation == "continue"),
        (Wanted((FLOW, OTHER), relation=Relation.DO_NOTHING), lambda row: row.relation == "do_nothing"),
        (Wanted((FLOW, OTHER), since=1020.0, until=1040.0), lambda row: 1020.0 <= row.updated_at < 1040.0),
        (Wanted((FLOW, OTHER), number="N17"), lambda row: row.order_number == "N17"),
        (Wanted((FLOW, OTHER), number="17"), lambda row: row.pk == "17"),
        (Wanted((FLOW, OTHER), error="00% BLOCK"), lambda row: row.error is not None),
        (Wanted((FLOW, OTHER), error="_"), lambda row: False),
        (Wanted((FLOW, OTHER), number="N17", states=(State.DEAD,)),
         lambda row: row.order_number == "N17" and row.state == "dead"),
    ],
)  # fmt: skip
def test_a_search_finds_exactly_what_fits(journal: Journal, journal_url: str, wanted: Wanted, fits) -> None:
    fill(journal_url, 200)
    rows = [row for flow in wanted.flows for row in journal.find(flow)]

    assert sorted(every(journal, wanted)) == sorted(row.pk for row in rows if fits(row))


def test_no_search_shows_a_flow_that_was_not_named(journal: Journal, journal_url: str) -> None:
    fill(journal_url, 100)

    assert search(journal, Wanted(())).rows == []
    assert all(row.flow == OTHER for row in search(journal, Wanted((OTHER,), number="N3")).rows)


SEARCHES = {
    "all": Wanted((FLOW, OTHER)),
    "state": Wanted((FLOW,), states=(State.DEAD,)),
    "relation": Wanted((FLOW, OTHER), relation=Relation.FAILURE),
    "date": Wanted((FLOW, OTHER), since=1500.0, until=1600.0),
    "order": Wanted((FLOW, OTHER), number="N17"),
    "plan": Wanted((FLOW, OTHER), number="17"),
    "error": Wanted((FLOW, OTHER), error="blocked"),
    "next page": Wanted((FLOW, OTHER), before=(1500.0, 1500)),
}


def test_every_search_follows_an_index(journal: Journal, journal_url: str) -> None:
    fill(journal_url, 20_000)  # of a few plans, looking through all is the quickest
    asked: list[tuple[str, object]] = []

    @event.listens_for(journal._reader, "before_cursor_execute")
    def _remember(connection, cursor, statement, parameters, context, many) -> None:
        asked.append((statement, parameters))

    for wanted in SEARCHES.values():
        search(journal, wanted)
    explain = "EXPLAIN QUERY PLAN " if journal_url.startswith("sqlite") else "EXPLAIN "
    questions = [one for one in asked if "order_cancel_plans" in one[0]]
    with journal._reader.connect() as connection:
        plans_of = [
            "\n".join(
                str(tuple(line)) for line in connection.exec_driver_sql(explain + statement, parameters)
            )
            for statement, parameters in questions
        ]

    assert len(plans_of) >= len(SEARCHES)  # most are one statement each
    for plan in plans_of:
        assert "SCAN order_cancel_plans'" not in plan, plan
        assert "Seq Scan on order_cancel_plans" not in plan, plan


def test_counts_are_by_flow_and_state(journal: Journal, journal_url: str) -> None:
    fill(journal_url, 200)

    counts = counts_by_state(journal, (FLOW, OTHER))
    days = by_day(journal, (FLOW, OTHER), 0.0)

    assert sum(number for states in counts.values() for number in states.values()) == 200
    assert counts[FLOW][State.DONE] == len(journal.find(FLOW, [State.DONE]))
    assert sum(number for *_, number in days) == 200
    assert {day for day, *_ in days} == {0}


def test_the_oldest_open_plan_is_no_finished_one(journal: Journal) -> None:
    run, rows = with_plans(journal, 1, 2)
    settle(journal, run, rows["1"], State.DONE)

    assert oldest_open(journal, (FLOW,)) == pytest.approx(rows["2"].created_at)
    assert oldest_open(journal, (OTHER,)) is None


def test_a_plan_is_found_by_its_mapped_index_and_knows_it(journal: Journal) -> None:
    run, rows = with_plans(journal, 3, 1, 2)
    order = [row.pk for row in journal.run_rows(run.id)]

    assert [plan_at(journal, run.id, index) for index in range(4)] == [*(rows[pk].id for pk in order), None]
    assert [places_of(journal, rows[pk].id)[run.id].map_index for pk in order] == [0, 1, 2]
    assert last_runs(journal, (FLOW, OTHER))[FLOW].run_key == run.run_key


def test_what_is_asked_of_one_flow_shows_nothing_of_another(journal: Journal) -> None:
    for flow in (FLOW, OTHER):
        run = a_run(journal, flow=flow)
        journal.take_page(run, [listed(5001)], Placing())
        journal.save_snapshot(flow, f"digest of {flow}", {})

    assert [row.flow for row in search(journal, Wanted((OTHER,), number="5001")).rows] == [OTHER]
    assert list(last_runs(journal, (OTHER,))) == [OTHER]
    assert [run.flow for run in runs_named(journal, OTHER, "run 1")] == [OTHER]
    assert counts_by_state(journal, (OTHER,)) == {OTHER: {State.FETCHED: 1}}
    assert sum(number for *_, number in by_day(journal, (OTHER,), 0.0)) == 1
    assert [snapshot.digest for snapshot in snapshots(journal, OTHER)] == [f"digest of {OTHER}"]
    assert has_snapshot(journal, OTHER, f"digest of {OTHER}")
    assert not has_snapshot(journal, OTHER, f"digest of {FLOW}")


def test_a_plan_number_finds_one_plan_of_each_host(journal: Journal) -> None:
    for host in (HOST, "two.example"):
        run = journal.begin_run(FLOW, "run 1", f"home of {host}", host, {})
        journal.take_page(run, [listed(5001)], Placing())

    found = search(journal, Wanted((FLOW,), number="5001")).rows

    assert sorted(row.host for row in found) == sorted([HOST, "two.example"])
