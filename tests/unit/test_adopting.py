"""Whose rows a flow has when its Connection points elsewhere, and what a person's word does to them."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from sqlalchemy import select

from include.order_cancel import schema
from include.order_cancel.adopting import (
    Inside,
    Naming,
    OtherOmnitron,
    adopt,
    as_known,
    check_known,
    keep_apart,
    others,
)
from include.order_cancel.errors import OrderCancelError, RowBusy
from include.order_cancel.http import Endpoint
from include.order_cancel.journal import Journal, idempotency_key
from include.order_cancel.placing import Placing
from include.order_cancel.rows import FINISHED, Move, Relation, Row, State
from tests.journal_fixtures import FLOW, HOST, a_run, let_lease_lapse, listed, settle
from tests.shares import thorough

NEW = "new.example"


def a_plan(journal: Journal, host: str, state: State = State.FETCHED, pk: int = 1, **values: Any) -> Row:
    """A plan of an Omnitron, in any state, in a run that is over."""
    run = journal.begin_run(FLOW, f"{host} {pk} {state}", "home", host, {})
    journal.take_page(run, [listed(pk)], Placing())
    journal.commit_run(run, fan_out=50, lots=4, counts={}, queried_at=None)
    settle(journal, run, journal.run_rows(run.id)[0], state, **values)
    journal.finish_run(run.id)
    return journal.run_rows(run.id)[0]


def word(other: str = HOST, identity: str = NEW) -> Naming:
    return Naming(FLOW, other, identity, "a person", "moved")


def rows(journal: Journal) -> list[Row]:
    return sorted(journal.find(FLOW, all_generations=True), key=lambda row: row.generation)


def happened(journal: Journal, row: Row) -> list[tuple[str, str]]:
    return [(event.what, event.detail) for event in journal.journey(row.id)[0] if event.step == "adopt"]


# Who has to be asked about


_ASKED_ABOUT = (State.FETCHED, State.IN_DOUBT, State.CHANGED, State.DONE)


@pytest.mark.parametrize("state", [state if state in _ASKED_ABOUT else thorough(state) for state in State])
def test_what_is_open_under_another_name_has_to_be_asked_about(journal: Journal, state: State) -> None:
    a_plan(journal, HOST, state)

    assert others(journal, FLOW, NEW) == ({} if state in FINISHED else {HOST: 1})
    assert others(journal, FLOW, HOST) == {}
    assert others(journal, "another_flow", NEW) == {}


def test_every_other_name_is_counted_by_itself(journal: Journal) -> None:
    for pk in (1, 2):
        a_plan(journal, HOST, State.FAILED, pk)
    a_plan(journal, "third.example", State.IN_DOUBT, 1)
    a_plan(journal, NEW, State.FAILED, 1)

    assert others(journal, FLOW, NEW) == {HOST: 2, "third.example": 1}


def test_an_earlier_generation_is_not_open(journal: Journal) -> None:
    row = a_plan(journal, HOST, State.CHANGED)
    journal.resend(row.id, who="a person", reason="once more")
    journal.dismiss(rows(journal)[-1].id, who="a person", reason="by hand")

    assert others(journal, FLOW, NEW) == {}


def test_rows_from_before_base_paths_are_asked_about_even_if_finished(journal: Journal) -> None:
    tenant = f"{HOST}/tenant-a"
    a_plan(journal, HOST, State.DONE)
    before = others(journal, FLOW, tenant)

    adopt(journal, word(HOST, tenant))

    assert before == {HOST: 0}
    assert others(journal, FLOW, f"{NEW}/tenant-a") == {}
    assert others(journal, FLOW, f"{HOST}/tenant-b") == {}
    assert [row.host for row in rows(journal)] == [tenant]


def test_tenants_of_one_host_have_rows_of_their_own(journal: Journal) -> None:
    for tenant in ("a", "b"):
        a_plan(journal, f"{HOST}/{tenant}", State.DONE)

    assert [(row.host, row.generation) for row in rows(journal)] == [(f"{HOST}/a", 1), (f"{HOST}/b", 1)]


@pytest.mark.parametrize("state", [State.DONE, thorough(State.LEFT), thorough(State.DISMISSED)])
def test_where_finished_plans_are_listed_again_a_new_name_is_asked_about(
    journal: Journal, state: State
) -> None:
    a_plan(journal, HOST, state)

    assert others(journal, FLOW, NEW, lists_finished=True) == {HOST: 0}
    assert others(journal, FLOW, HOST, lists_finished=True) == {}
    keep_apart(journal, word())
    assert others(journal, FLOW, NEW, lists_finished=True) == {}


def test_of_two_names_with_finished_plans_the_one_that_ran_last_goes_on(journal: Journal) -> None:
    a_plan(journal, HOST, State.DONE)
    a_plan(journal, NEW, State.DONE)

    assert others(journal, FLOW, NEW, lists_finished=True) == {}
    assert others(journal, FLOW, HOST, lists_finished=True) == {NEW: 0}


def test_names_that_were_called_the_same_are_asked_about_even_if_finished(journal: Journal) -> None:
    a_plan(journal, HOST, State.DONE)
    adopt(journal, word())
    adopt(journal, word(NEW, "third.example"))

    assert others(journal, FLOW, HOST) == {"third.example": 0}
    assert others(journal, FLOW, NEW) == {"third.example": 0}
    assert others(journal, FLOW, "fourth.example") == {}
    keep_apart(journal, word("third.example", HOST))
    assert others(journal, FLOW, HOST) == {}
    adopt(journal, word("third.example", HOST))
    assert others(journal, FLOW, "third.example") == {HOST: 0}


def asked(journal: Journal, since: float | None = None) -> str:
    """What a flow is told whose Connection says NEW: nothing where it may go on."""
    try:
        check_known(journal, FLOW, Endpoint("omnitron", f"https://{NEW}"), since or journal.now())
    except OtherOmnitron as told:
        return str(told)
    return ""


def test_a_run_of_another_name_is_asked_about_while_it_is_at_work(journal: Journal) -> None:
    before = journal.now()
    run = journal.begin_run(FLOW, "run 1", "another home", HOST, {})
    said = asked(journal)
    journal.finish_run(run.id)

    assert f"another run of it is for {HOST}" in said
    assert f"adopt --flow {FLOW} --from {HOST}" in said
    assert (asked(journal), asked(journal, before)) == ("", said)


def test_a_name_that_only_a_run_has_can_be_told_apart(journal: Journal) -> None:
    journal.begin_run(FLOW, "run 1", "another home", HOST, {})

    assert keep_apart(journal, word()) == 0
    assert asked(journal) == ""


def test_of_two_runs_that_begin_at_once_the_second_sees_the_first(postgres_url: str) -> None:
    both = [Journal.open(postgres_url) for _ in range(2)]
    seen: list[int] = []

    def begin(journal: Journal, host: str) -> None:
        def look(inside: Any, now: float) -> None:
            seen.append(len(Inside(inside).ask(select(schema.runs.c.id))))
            time.sleep(0.3)

        journal.begin_run(FLOW, "run 1", f"home of {host}", host, {}, check=look)

    with ThreadPoolExecutor(2) as pool:
        list(pool.map(begin, both, (HOST, NEW)))
    for journal in both:
        journal.close()

    assert seen == [0, 1]


# The same one


def test_all_that_is_known_goes_on_under_the_new_name(journal: Journal) -> None:
    for pk, state in enumerate(State, 1):
        a_plan(journal, HOST, state, pk)
    journal.note_transactions(HOST, FLOW, ["900"], "mapped")
    kept = {row.pk: (row.state, row.generation, idempotency_key(row)) for row in rows(journal)}

    number = adopt(journal, word())

    assert number == len(State)
    assert {row.host for row in rows(journal)} == {NEW}
    assert {row.pk: (row.state, row.generation, idempotency_key(row)) for row in rows(journal)} == kept
    assert {run.host for run in map(journal.run, range(1, len(State) + 1))} == {NEW}
    assert journal.known_transactions(NEW, FLOW, ["900"]) == {"900"}
    assert others(journal, FLOW, NEW) == {}
    for row in rows(journal):
        told = [] if row.finished else [("adopted", f"a person: {HOST} is {NEW}, moved")]
        assert happened(journal, row) == told


def test_another_flow_keeps_its_rows(journal: Journal) -> None:
    a_plan(journal, HOST, State.FAILED)
    run = a_run(journal, flow="refunds")
    journal.take_page(run, [listed(1)], Placing())

    adopt(journal, word())

    assert [row.host for row in journal.find("refunds")] == [HOST]
    assert journal.run(run.id).host == HOST


def test_a_name_that_goes_forth_and_back_changes_no_key(journal: Journal) -> None:
    a_plan(journal, HOST, State.FAILED)
    key = idempotency_key(rows(journal)[0])

    adopt(journal, word(HOST, NEW))
    adopt(journal, word(NEW, "third.example"))
    adopt(journal, word("third.example", HOST))

    assert [(row.host, idempotency_key(row)) for row in rows(journal)] == [(HOST, key)]


def test_a_generation_that_begins_later_has_a_key_of_its_own(journal: Journal) -> None:
    row = a_plan(journal, HOST, State.DONE, key="k")
    adopt(journal, word())
    again = journal.resend(row.id, who="a person", reason="once more")

    assert len({idempotency_key(one) for one in rows(journal)}) == 2
    assert again.host == NEW


@pytest.mark.parametrize("work", ["lease", "wire", "listing"])
def test_nobody_adopts_what_a_task_works_on(journal: Journal, work: str) -> None:
    row = a_plan(journal, HOST, State.FAILED)
    run = a_run(journal, "later")
    if work != "listing":
        journal.commit_run(run, fan_out=50, lots=4, counts={}, queried_at=None)
    if work == "lease":
        journal.claim_one(row.id, run.id, "task")
    if work == "wire":
        settle(journal, run, row, State.SENDING, request_deadline=journal.now() + 60)
    before = rows(journal)

    with pytest.raises(RowBusy, match="a task works on its plans; try again after it, or in"):
        adopt(journal, word())

    assert rows(journal) == before


def test_a_task_that_slept_has_lost_its_row(journal: Journal, journal_url: str) -> None:
    row = a_plan(journal, HOST, State.FAILED)
    run = a_run(journal, "later")
    journal.commit_run(run, fan_out=50, lots=4, counts={}, queried_at=None)
    held = journal.claim_one(row.id, run.id, "task")
    let_lease_lapse(journal_url, row)

    adopt(journal, word())

    held.state = State.DONE
    assert [lost is not None for lost in journal.apply([Move(held)])] == [True]
    assert [(one.host, one.state) for one in rows(journal)] == [(NEW, State.FAILED)]


def test_a_word_needs_rows_that_it_is_about(journal: Journal) -> None:
    a_plan(journal, HOST, State.FAILED)

    for say in (adopt, keep_apart):
        with pytest.raises(OrderCancelError, match=f"no plans of no.example, only of {HOST}"):
            say(journal, word("no.example"))
        with pytest.raises(OrderCancelError, match=f"points to {HOST} already"):
            say(journal, word(HOST, HOST))


@pytest.mark.parametrize("typed", ["https://Omnitron.Example:443/", "omnitron.example.", HOST])
def test_a_name_may_be_typed_in_every_spelling(journal: Journal, typed: str) -> None:
    a_plan(journal, HOST, State.FAILED)

    assert as_known(journal, FLOW, typed) == HOST


# Another one


def test_another_omnitron_keeps_its_rows_and_nobody_asks_again(journal: Journal) -> None:
    a_plan(journal, HOST, State.FAILED)
    before = rows(journal)

    assert keep_apart(journal, word()) == 1

    assert rows(journal) == before
    assert others(journal, FLOW, NEW) == {}
    assert others(journal, FLOW, "third.example") == {HOST: 1}


def test_told_apart_is_told_apart_from_both_sides(journal: Journal) -> None:
    a_plan(journal, HOST, State.FAILED)
    keep_apart(journal, word())
    a_plan(journal, NEW, State.FAILED)

    assert others(journal, FLOW, HOST) == {}


def test_a_person_may_change_their_mind(journal: Journal) -> None:
    a_plan(journal, HOST, State.FAILED)
    keep_apart(journal, word())

    adopt(journal, word())
    a_plan(journal, HOST, State.FAILED, 2)

    assert others(journal, FLOW, NEW) == {HOST: 1}


# A plan that has rows of both names

UNSENT = {"key": None, "outcome": ""}
BOOKED = {"key": "k" * 40, "outcome": "accepted", "relation": Relation.CONTINUE}
DOUBTED = {"key": "d" * 40, "outcome": "unknown"}
REFUSED = {"key": "r" * 40, "outcome": "refused"}
FAILED, DONE, LEFT, DISMISSED = State.FAILED, State.DONE, State.LEFT, State.DISMISSED
IN_DOUBT, CHANGED, FETCHED = State.IN_DOUBT, State.CHANGED, State.FETCHED


@pytest.mark.parametrize("turned", [pytest.param(False, id="first"), thorough(True, id="second")])
@pytest.mark.parametrize(
    ("one", "other", "after"),
    [
        # what was never sent goes on by itself, once
        ((FETCHED, UNSENT), (FAILED, UNSENT), {DISMISSED, None}),
        ((FETCHED, UNSENT), (LEFT, UNSENT), {LEFT, FETCHED}),
        # or is over where the plan was settled under the other name
        ((FAILED, UNSENT), (DONE, BOOKED), {DISMISSED, DONE}),
        ((FAILED, UNSENT), (State.REJECTED, REFUSED), {DISMISSED, State.REJECTED}),
        # what may have been sent goes on where the other never was
        ((IN_DOUBT, DOUBTED), (FAILED, UNSENT), {IN_DOUBT, DISMISSED}),
        ((State.ANSWERED, BOOKED), (FETCHED, UNSENT), {State.ANSWERED, DISMISSED}),
        # and waits for a person where it may have been sent under both, or a person had closed the other
        ((IN_DOUBT, DOUBTED), (DONE, BOOKED), {CHANGED, DONE}),
        ((FAILED, REFUSED), (DONE, BOOKED), {CHANGED, DONE}),
        ((IN_DOUBT, DOUBTED), (FAILED, REFUSED), {CHANGED, DISMISSED}),
        ((State.SENDING, DOUBTED), (State.ANSWERED, BOOKED), {CHANGED, DISMISSED}),
        ((FAILED, UNSENT), (DISMISSED, UNSENT), {CHANGED, DISMISSED}),
        ((FAILED, UNSENT), (DISMISSED, DOUBTED), {CHANGED, DISMISSED}),
        # what is finished twice stays so
        ((DONE, BOOKED), (DONE, BOOKED), {DONE}),
        ((DONE, BOOKED), (LEFT, UNSENT), {DONE, LEFT}),
    ],
)
def test_of_a_plan_with_rows_of_both_names_nothing_is_lost_or_sent_twice(
    journal: Journal, one: Any, other: Any, after: set[State | None], turned: bool
) -> None:
    """None: the state of the one that moved last."""
    for host, (state, values) in zip((NEW, HOST) if turned else (HOST, NEW), (one, other), strict=True):
        a_plan(journal, host, state, **values)
    keys = {row.id: idempotency_key(row) for row in rows(journal)}
    later = max(rows(journal), key=lambda row: row.updated_at).state

    adopt(journal, word())

    found = rows(journal)
    assert [(row.host, row.generation) for row in found] == [(NEW, 1), (NEW, 2)]
    assert {row.id: idempotency_key(row) for row in found} == keys
    assert {row.state for row in found} == {later if state is None else state for state in after}
    assert sum(not row.finished for row in found) <= 1
    assert found[0].finished
    for row in found:
        if row.state is CHANGED or (row.state is DISMISSED and DISMISSED not in (one[0], other[0])):
            assert HOST in (row.error or "")
            assert NEW in (row.error or "")
            assert happened(journal, row)[-1] == (str(row.state), row.error)


def test_the_next_run_takes_the_newest_generation_whatever_its_number_in_the_journal(
    journal: Journal,
) -> None:
    sent = a_plan(journal, HOST, State.IN_DOUBT, **DOUBTED)
    a_plan(journal, NEW, State.FAILED, **UNSENT)

    adopt(journal, word())
    run = journal.begin_run(FLOW, "later", "home", NEW, {})
    counts = journal.take_page(run, [listed(1)], Placing())

    assert counts == {"again": 1}
    assert [row.id for row in journal.run_rows(run.id)] == [sent.id]


def test_every_generation_of_both_names_stays(journal: Journal) -> None:
    for host in (HOST, NEW):
        row = a_plan(journal, host, State.DONE, **BOOKED)
        journal.resend(row.id, who="a person", reason="once more")
    keys = {idempotency_key(row) for row in rows(journal)}

    adopt(journal, word())

    assert [row.generation for row in rows(journal)] == [1, 2, 3, 4]
    assert {idempotency_key(row) for row in rows(journal)} == keys
    assert len(keys) == 4
    assert [row.state for row in rows(journal) if not row.finished] == [State.CHANGED]


def test_only_what_a_person_began_was_sent_again(journal: Journal) -> None:
    for host in (HOST, NEW):
        a_plan(journal, host, State.FAILED)

    adopt(journal, word())
    merged = rows(journal)[-1]
    journal.dismiss(merged.id, who="a person", reason="by hand")
    resent = journal.resend(merged.id, who="a person", reason="after all")
    adopt(journal, word(NEW, HOST))

    assert [(row.generation, row.sent_again) for row in rows(journal)] == [(1, False), (2, False), (3, True)]
    assert rows(journal)[-1].id == resent.id


@pytest.mark.parametrize("turned", [False, True])
def test_what_a_person_sends_again_stays_the_last_generation(journal: Journal, turned: bool) -> None:
    """A row of the other name that was never sent takes neither its place nor its meaning."""
    resent, unsent = (NEW, HOST) if turned else (HOST, NEW)
    done = a_plan(journal, resent, State.DONE, **BOOKED)
    again = journal.resend(done.id, who="a person", reason="once more")
    a_plan(journal, unsent, State.FAILED, **UNSENT)

    adopt(journal, word())

    assert [row.state for row in rows(journal)] == [State.DISMISSED, State.DONE, State.FETCHED]
    assert (rows(journal)[-1].id, rows(journal)[-1].sent_again) == (again.id, True)


@pytest.mark.parametrize(
    ("old", "new", "after"),
    [
        ("mapped", "settled", "mapped"),
        ("settled", "mapped", "mapped"),
        ("settled", "mapping", "settled"),
        ("mapping", "settled", "settled"),
        ("mapped", "mapped", "mapped"),
    ],
)
def test_of_a_transaction_of_both_names_the_final_word_stays(
    journal: Journal, old: str, new: str, after: str
) -> None:
    a_plan(journal, HOST, State.DONE)
    for host, state in ((HOST, old), (NEW, new)):
        journal.note_transactions(host, FLOW, ["900"], state)

    adopt(journal, word())

    table = schema.transactions
    assert journal.ask(table.select()) == [(NEW, FLOW, "900", after, pytest.approx(journal.now(), abs=600))]
