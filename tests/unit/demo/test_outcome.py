"""The demo's verdict on its own runs."""

from __future__ import annotations

from typing import Any

from include.demo.outcome import FlowOutcome, differences, expected, table

WANTED: dict[str, Any] = {
    "run": "failed",
    "plans": {
        "5001": {"state": "done", "omnitron": "approved", "bookings": 1},
        "5002": {"state": "failed", "omnitron": "waiting", "bookings": 0},
    },
}


def outcome(**changes: Any) -> FlowOutcome:
    plans = [
        {"pk": 5001, "order_number": "1000", "state": "done", "erp_reference": "C-1", "error": None},
        {"pk": 5002, "order_number": "1001", "state": "failed", "erp_reference": None, "error": "HTTP 422"},
    ]
    content: dict[str, Any] = {
        "flow": "cancels",
        "run": "failed",
        "plans": plans,
        "statuses": {"5001": "approved", "5002": "waiting"},
        "bookings": {"5001": 1},
    }
    return FlowOutcome(**{**content, **changes})


def test_an_outcome_as_expected_has_no_differences() -> None:
    assert differences(WANTED, outcome()) == []


def test_a_plan_booked_twice_is_told() -> None:
    found = differences(WANTED, outcome(bookings={"5001": 2}))

    assert found == ["cancels, plan 5001: bookings is 2, not 1"]


def test_a_plan_that_is_missing_from_the_journal_is_told() -> None:
    found = differences(WANTED, outcome(plans=outcome().plans[1:]))

    assert found == ["cancels, plan 5001: state is None, not done"]


def test_a_plan_that_nobody_expects_is_told() -> None:
    stranger = {"pk": 7, "order_number": "1", "state": "done", "erp_reference": None, "error": None}

    found = differences(WANTED, outcome(plans=[*outcome().plans, stranger]))

    assert found == ["cancels, plan 7: state is done, not None"]


def test_a_green_run_where_a_red_one_is_expected_is_told() -> None:
    assert differences(WANTED, outcome(run="success")) == ["cancels: the run is success, not failed"]


def test_a_transaction_that_is_not_mapped_is_told() -> None:
    wanted = {**WANTED, "mapped": ["800002", "800004"]}

    assert differences(wanted, outcome(mapped=["800004", "800002"])) == []
    assert differences(wanted, outcome(mapped=["800004"])) == [
        "cancels: mapped transactions are ['800004'], not ['800002', '800004']"
    ]


def test_the_table_shows_each_plan_on_a_line() -> None:
    lines = table([outcome()]).splitlines()

    assert [line.split() for line in lines[2:]] == [
        ["cancels", "5001", "1000", "done", "C-1", "approved"],
        ["cancels", "5002", "1001", "failed", "waiting", "HTTP", "422"],
    ]


def test_a_long_error_is_cut_and_kept_on_one_line() -> None:
    plan = {"pk": 1, "order_number": None, "state": "failed", "erp_reference": None, "error": "x\n" * 100}

    last = table([outcome(plans=[plan])]).splitlines()[-1]

    assert last.endswith("…")
    assert len(table([outcome(plans=[plan])]).splitlines()) == 3


def test_the_demo_expects_one_refused_plan_and_no_double_booking() -> None:
    plans = [plan for flow in expected().values() for plan in flow["plans"].values()]

    assert [plan["state"] for plan in plans].count("failed") == 1
    assert max(plan["bookings"] for plan in plans) == 1
