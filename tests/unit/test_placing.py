"""What becomes of a listed plan that the journal knows already."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest

from include.order_cancel.placing import TAKEN, Placing, is_compared, place, place_open, possibly_sent
from include.order_cancel.rows import Listed, Relation, Row, Run, State
from tests.journal_fixtures import FLOW, HOST, listed

NOW = 1_000_000.0
RUN = Run(2, FLOW, "run 2", HOST, "home", {}, "", NOW - 10, False, {}, None, None)
SAME = listed(1)
OTHER = listed(1, content="second")


def row(state: State, **values: Any) -> Row:
    """A row of an earlier run, moved last before this run began."""
    given = {"digest": SAME.digest, "attempts": 1, "created_run": 1, "updated_at": NOW - 100, **values}
    return Row(7, HOST, FLOW, "1", 1, state, **given)


def test_a_plan_that_this_run_has_just_brought_is_new_however_often_it_is_listed() -> None:
    fresh = row(State.FETCHED, created_run=2, attempts=0)

    assert place(fresh, SAME, RUN, Placing(), NOW) == ("new", None)


LINE = replace(SAME, document='{"pk": 1, "content": "first", "lines": [{"status": "cancelled"}]}')
MORE = replace(OTHER, document='{"pk": 1, "content": "first", "detail": [1]}')


@pytest.mark.parametrize("state", [State.FETCHED, State.IN_DOUBT, State.FAILED])
@pytest.mark.parametrize("newer", [LINE, OTHER])
def test_a_plan_that_this_run_has_just_brought_is_what_the_run_has_read_last(
    state: State, newer: Listed
) -> None:
    fresh = row(state, created_run=2, attempts=0)

    what, move = place(fresh, newer, RUN, Placing(), NOW, SAME.document)

    assert (what, fresh.state, fresh.digest) == ("new", state, newer.digest)
    assert move is not None
    assert [body.content for body in move.bodies] == [newer.document]


def test_a_plan_that_was_settled_between_two_readings_of_the_list_stays_settled() -> None:
    settled = row(State.DISMISSED, created_run=2, attempts=0)

    assert place(settled, OTHER, RUN, Placing(), NOW, SAME.document) == ("new", None)


@pytest.mark.parametrize("state", [State.FETCHED, State.PREPARED, State.HELD, State.FAILED])
@pytest.mark.parametrize(
    "sent", [{}, {"progress": "request", "outcome": "refused"}], ids=["unsent", "refused"]
)
def test_what_was_not_sent_or_refused_takes_what_only_a_line_s_status_says(
    state: State, sent: dict[str, str]
) -> None:
    waiting = row(state, **sent)

    what, move = place(waiting, LINE, RUN, Placing(), NOW, SAME.document)

    assert (what, waiting.progress) == ("again", "")
    assert move is not None
    assert [body.content for body in move.bodies] == [LINE.document]


@pytest.mark.parametrize(
    "sent",
    [
        row(State.FAILED, outcome="not_done", progress="request"),
        row(State.HELD, outcome="accepted", relation=Relation.DO_NOTHING, progress="request"),
        row(State.ANSWERED, outcome="accepted", relation=Relation.CONTINUE, progress="request"),
        row(State.SENDING, progress="request"),
        row(State.IN_DOUBT, outcome="unknown", progress="request"),
    ],
    ids=["not done", "held", "answered", "sending", "in doubt"],
)
@pytest.mark.parametrize("shown", [LINE, MORE])
def test_a_line_s_status_or_a_fuller_page_does_not_touch_what_was_sent(sent: Row, shown: Listed) -> None:
    assert place(sent, shown, RUN, Placing(), NOW, SAME.document) == ("again", None)
    assert sent.digest == SAME.digest


@pytest.mark.parametrize("state", [State.DONE, State.REJECTED, State.PASSED, State.DISMISSED])
def test_a_finished_plan_whose_page_shows_more_than_the_listing_is_known_and_takes_its_digest(
    state: State,
) -> None:
    finished = row(state)

    what, move = place(finished, MORE, RUN, Placing(), NOW, SAME.document)

    assert (what, finished.state, finished.digest) == ("known", state, MORE.digest)
    assert move is not None


def test_a_changed_plan_shows_a_person_the_newest_content() -> None:
    changed = row(State.CHANGED)

    what, move = place(changed, OTHER, RUN, Placing(), NOW, SAME.document)

    assert (what, changed.state, changed.digest) == ("changed", State.CHANGED, OTHER.digest)
    assert move is not None
    assert [body.content for body in move.bodies] == [OTHER.document]


@pytest.mark.parametrize("state", State)
def test_documents_are_compared_only_where_the_digests_do_not_decide(state: State) -> None:
    open_ones = {State.FETCHED, State.PREPARED, State.HELD, State.FAILED, State.IN_DOUBT, State.DEAD}

    assert is_compared(row(state), SAME) is (state in open_ones)
    assert is_compared(row(state), OTHER)


@pytest.mark.parametrize(
    "state",
    [
        State.FETCHED,
        State.PREPARED,
        State.SENDING,
        State.ANSWERED,
        State.WRITTEN_BACK,
        State.HELD,
        State.FAILED,
        State.IN_DOUBT,
    ],
)
def test_an_open_plan_is_tried_again(state: State) -> None:
    assert place(row(state), SAME, RUN, Placing(), NOW) == ("again", None)


@pytest.mark.parametrize("state", [State.DONE, State.REJECTED, State.PASSED, State.DISMISSED])
def test_a_finished_plan_is_final(state: State) -> None:
    assert place(row(state), SAME, RUN, Placing(), NOW) == ("known", None)


@pytest.mark.parametrize(
    ("state", "relation", "placing"),
    [
        (State.DONE, Relation.CONTINUE, Placing(repeat_done=True)),
        (State.REJECTED, Relation.FAILURE, Placing(repeat_rejected=True)),
    ],
)
def test_a_finished_plan_that_is_listed_again_has_only_its_write_back_repeated(
    state: State, relation: Relation, placing: Placing
) -> None:
    finished = row(state, relation=relation)

    what, move = place(finished, SAME, RUN, placing, NOW)

    assert what == "repeated"
    assert move is not None
    assert (finished.state, finished.relation, finished.answer_stands) == (State.ANSWERED, relation, True)


def test_a_plan_that_was_finished_after_this_run_began_was_listed_before_it_was() -> None:
    finished = row(State.DONE, updated_at=NOW - 5)

    assert place(finished, SAME, RUN, Placing(repeat_done=True), NOW) == ("known", None)


@pytest.mark.parametrize("state", [State.DONE, State.REJECTED, State.PASSED])
def test_a_finished_plan_with_other_content_is_changed_and_says_so(state: State) -> None:
    finished = row(state)

    what, move = place(finished, OTHER, RUN, Placing(repeat_done=True, repeat_rejected=True), NOW)

    assert what == "changed"
    assert move is not None
    assert finished.state is State.CHANGED
    assert finished.error is not None
    assert f"was {state}" in finished.error
    assert finished.digest == OTHER.digest


def test_a_plan_that_had_left_and_is_back_is_changed() -> None:
    left = row(State.LEFT)

    what, _ = place(left, SAME, RUN, Placing(), NOW)

    assert (what, left.state) == ("changed", State.CHANGED)


def test_a_changed_plan_stays_changed_until_a_person_speaks() -> None:
    assert place(row(State.CHANGED), SAME, RUN, Placing(named=True), NOW) == ("changed", None)


def test_a_resting_plan_is_left_unless_a_person_asks() -> None:
    resting = {"next_attempt_at": NOW + 60}

    assert place(row(State.FAILED, **resting), SAME, RUN, Placing(), NOW)[0] == "resting"
    for asked in (Placing(ignore_backoff=True), Placing(named=True)):
        assert place(row(State.FAILED, **resting), SAME, RUN, asked, NOW)[0] == "again"
        assert place_open(row(State.FAILED, **resting), asked, NOW) == "again"
    assert place_open(row(State.FAILED, **resting), Placing(), NOW) == "resting"
    assert place_open(row(State.FAILED, next_attempt_at=NOW - 1), Placing(), NOW) == "again"


def test_a_dead_plan_is_released_by_its_name_only() -> None:
    dead = row(State.DEAD, next_attempt_at=NOW + 60)
    assert place(dead, SAME, RUN, Placing(ignore_backoff=True), NOW) == ("dead", None)

    what, move = place(dead, SAME, RUN, Placing(named=True), NOW)

    assert (what, dead.state) == ("again", State.FAILED)
    assert move is not None


def test_a_released_plan_takes_its_new_content() -> None:
    dead, sent = row(State.DEAD), row(State.DEAD, outcome="not_done", progress="request")

    what, move = place(dead, OTHER, RUN, Placing(named=True), NOW)

    assert (what, dead.state, dead.digest) == ("again", State.FAILED, OTHER.digest)
    assert move is not None
    assert [event.what for event in move.events] == ["released", "new content"]
    assert place(sent, OTHER, RUN, Placing(named=True), NOW)[0] == "changed"


def test_a_passed_plan_is_replayed_by_its_name_only() -> None:
    passed = row(State.PASSED, relation=Relation.DO_NOTHING)
    assert place(passed, SAME, RUN, Placing(), NOW) == ("known", None)

    what, _ = place(passed, SAME, RUN, Placing(named=True), NOW)

    assert (what, passed.state, passed.relation) == ("again", State.HELD, Relation.DO_NOTHING)


@pytest.mark.parametrize("state", [State.FETCHED, State.PREPARED, State.HELD, State.FAILED])
def test_an_open_plan_takes_its_new_content(state: State) -> None:
    waiting = row(state, progress="mapping")

    what, move = place(waiting, OTHER, RUN, Placing(), NOW)

    assert what == "again"
    assert move is not None
    assert [body.content for body in move.bodies] == [OTHER.document]
    assert (waiting.digest, waiting.progress) == (OTHER.digest, "")


@pytest.mark.parametrize(
    "unsettled",
    [
        row(State.IN_DOUBT, outcome="unknown"),
        row(State.SENDING),
        row(State.FAILED, outcome="accepted"),
        row(State.FAILED, outcome="accepted", relation=Relation.CONTINUE),
    ],
    ids=["in doubt", "on the wire", "not judged", "not written back"],
)
def test_new_content_does_not_touch_what_was_sent_and_is_not_settled(unsettled: Row) -> None:
    assert place(unsettled, OTHER, RUN, Placing(), NOW) == ("again", None)
    assert unsettled.digest == SAME.digest


@pytest.mark.parametrize(
    "sent",
    [
        row(State.HELD, outcome="accepted", relation=Relation.DO_NOTHING, progress="request"),
        row(State.HELD, outcome="unknown", relation=Relation.DO_NOTHING, progress="request"),
        row(State.HELD, outcome="auth_fail", progress="request"),
        row(State.FAILED, outcome="not_done", progress="request"),
        row(State.PREPARED, outcome="", progress="request"),
    ],
    ids=["accepted, held", "unknown, held", "token refused", "not done", "edited"],
)
def test_new_content_of_a_plan_whose_bytes_may_have_left_is_for_a_person(sent: Row) -> None:
    what, move = place(sent, OTHER, RUN, Placing(), NOW)

    assert (what, sent.state, sent.progress) == ("changed", State.CHANGED, "request")
    assert move is not None


def test_new_content_of_a_refused_plan_is_another_request() -> None:
    refused = row(State.FAILED, outcome="refused", progress="request")

    what, _ = place(refused, OTHER, RUN, Placing(), NOW)

    assert (what, refused.state, refused.progress) == ("again", State.FAILED, "")


def test_a_finished_plan_goes_with_the_transaction_that_lists_it() -> None:
    finished = row(State.DONE, transaction_pk="800002", relation=Relation.CONTINUE)

    place(finished, listed(1, transaction="800004"), RUN, Placing(repeat_done=True), NOW)

    assert finished.transaction_pk == "800004"


@pytest.mark.parametrize("state", [State.DONE, State.FAILED, State.HELD, State.ANSWERED])
@pytest.mark.parametrize("content", ["first", "other"])
@pytest.mark.parametrize("known", ["800002", "800004", None])
def test_a_plan_learns_its_order_from_the_transaction_that_lists_it(
    state: State, content: str, known: str | None
) -> None:
    plan = row(state, transaction_pk=known, order_pk=None)

    _, move = place(
        plan, listed(1, content=content, transaction="800004"), RUN, Placing(repeat_done=True), NOW
    )

    assert move is not None
    assert (plan.transaction_pk, plan.order_pk) == ("800004", "91")


def test_only_what_is_worked_on_or_must_be_seen_joins_the_run() -> None:
    assert {"new", "again", "repeated", "changed"} == TAKEN


@pytest.mark.parametrize(
    ("made", "doubted"),
    [
        ("2025-03-01T11:59:00Z", True),
        ("2025-03-01T12:14:00Z", True),  # clocks differ
        ("2025-03-01T12:16:00Z", False),
        ("2025-03-01T15:14:00+03:00", True),
        ("2025-03-01T15:16:00+03:00", False),
        ("2025-03-02T02:14:00", True),  # a local time in Kiribati, perhaps
        ("2025-03-02T02:16:00", False),
        ("2025-03-01", True),
        ("2025-03-03", False),
        ("yesterday", True),
        (None, True),
    ],
)
def test_a_plan_that_may_be_older_than_the_restore_may_have_been_sent(
    made: str | None, doubted: bool
) -> None:
    restored = datetime(2025, 3, 1, 12, tzinfo=UTC)

    assert possibly_sent(replace(SAME, plan_date=made), restored) is doubted
    assert not possibly_sent(replace(SAME, plan_date=made), None)
