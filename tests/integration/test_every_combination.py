"""Every combination that the settings allow reaches the right ERP request and the right status in Omnitron."""

from __future__ import annotations

import itertools
from itertools import product
from typing import Any

import pytest

from include.order_cancel.errors import SettingsError
from include.order_cancel.settings import load
from include.simulator import ErpSimulator, OmnitronSimulator
from include.simulator.omnitron import TRANSITIONS
from tests.harness import Flow, settings
from tests.integration.conftest import MakeFlow

SINCE = "2025-01-01T00:00:00Z"
WAITING = ("waiting", "confirmed", "confirmation_waiting")
NEXT = ("approved", "confirmation_waiting", "completed", "confirmed")
TYPES = ("cancel", "refund", "all")
METHODS = ("POST", "GET", "PUT", "PATCH")
SELECTIONS = [
    *product(WAITING, NEXT),
    *product(["completed"], [None, *NEXT]),
    *product(["order_transaction"], [None, "approved"]),
]


def is_of_the_pairs(selection: int, kind: int, method: int) -> bool:
    """Whether the quick share has this combination: those that it has hold every pair of two values."""
    return (selection + method) % len(TYPES) == kind


COMBINATIONS = [
    pytest.param(
        status,
        TYPES[kind],
        following,
        METHODS[method],
        id=f"{status} {TYPES[kind]} > {following} by {METHODS[method]}",
        marks=[] if is_of_the_pairs(selection, kind, method) else pytest.mark.thorough,
    )
    for (selection, (status, following)), kind, method in product(
        enumerate(SELECTIONS), range(len(TYPES)), range(len(METHODS))
    )
]


def plan(pk: int, status: str, kind: str) -> dict[str, Any]:
    """A flat plan, so that every method can carry it without a mapping."""
    return {
        "pk": pk,
        "status": status,
        "plan_type": kind,
        "refund_amount": f"{pk}.50",
        "order": pk + 15_000,
        "created_date": "2025-03-01T08:00:00.000000Z",
        "modified_date": "2025-03-01T08:00:00.000000Z",
    }


def transaction(document: dict[str, Any]) -> dict[str, Any]:
    """The return of what this plan refunds."""
    return {
        "pk": 800_000 + document["pk"],
        "order": document["order"],
        "transaction_type": "return",
        "created_date": document["created_date"],
        "modified_date": document["modified_date"],
        "amount": document["refund_amount"],
    }


def a_flow(make_flow: MakeFlow, status: str, kind: str, following: str | None, method: str) -> Flow:
    listed = "completed" if status == "order_transaction" else status
    documents = [
        plan(5001, listed, "cancel"),
        plan(5002, listed, "refund"),
        plan(5003, "approved", "cancel"),
    ]
    windows = {"completed": "start_from", "order_transaction": "transactions_since"}
    window = {f"omnitron__{windows[status]}": SINCE} if status in windows else {}
    return make_flow(
        omnitron=OmnitronSimulator(documents, [transaction(document) for document in documents]),
        erp=ErpSimulator(),
        omnitron__cancel_status=status,
        omnitron__cancel_type=kind,
        omnitron__next_state=following,
        erp__http_method=method,
        erp__cancellation_api_url="/refunds" if kind == "refund" else "/cancellations",
        fan_out=0,
        lots=1,
        **window,
    )


def test_the_quick_share_has_every_pair_of_two_values() -> None:
    quick = [found.values for found in COMBINATIONS if not found.marks]

    def pairs(combinations: Any) -> set[Any]:
        return {
            pair
            for status, kind, following, method in combinations
            for pair in itertools.combinations((("from", status, following), ("of", kind), ("by", method)), 2)
        }

    assert pairs(quick) == pairs(found.values for found in COMBINATIONS)
    assert len(quick) == len(COMBINATIONS) / len(TYPES)


@pytest.mark.parametrize(("status", "kind", "following", "method"), COMBINATIONS)
def test_a_combination_reaches_the_right_request_and_status(
    make_flow: MakeFlow, status: str, kind: str, following: str | None, method: str
) -> None:
    flow = a_flow(make_flow, status, kind, following, method)
    before = flow.omnitron.simulator.statuses()
    fitting = {"cancel": [5001], "refund": [5002], "all": [5001, 5002]}[kind]
    writes = following is not None and status not in ("order_transaction", following)
    takes = not writes or following in TRANSITIONS[status]

    outcome = flow.run()

    calls = sorted(flow.sent(), key=lambda call: str(call.pk))
    assert [(call.pk, call.method) for call in calls] == [(pk, method) for pk in fitting]
    assert {call.path for call in calls} == {"/refunds" if kind == "refund" else "/cancellations"}
    for call in calls:
        document = flow.omnitron.simulator.plan(call.pk)
        said = call.query["refund_amount"] if method == "GET" else call.json["refund_amount"]
        assert said == document["refund_amount"]
    after = {**before, **dict.fromkeys(fitting, following)} if writes and takes else before
    assert flow.omnitron.simulator.statuses() == after
    assert sum(flow.omnitron.simulator.writes.values()) == (len(fitting) if writes and takes else 0)
    assert set(flow.states().values()) == {"done" if takes else "failed"}
    assert (outcome.gate == "open") is takes
    mapped = {800_000 + pk for pk in fitting} if status == "order_transaction" else set()
    assert set(flow.omnitron.simulator.mappings) == mapped


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        *[
            ({"omnitron__cancel_status": status, "omnitron__next_state": None}, "omnitron.next_state")
            for status in WAITING
        ],
        *[
            ({"omnitron__cancel_status": status, "omnitron__next_state": following}, "omnitron.next_state")
            for status in WAITING
            for following in ("waiting", "rejected", "done", "")
        ],
        ({"omnitron__cancel_status": "completed"}, "omnitron.start_from"),
        ({"omnitron__cancel_status": "order_transaction"}, "omnitron.transactions_since"),
        ({"omnitron__cancel_status": "approved"}, "omnitron.cancel_status"),
        ({"omnitron__cancel_status": "rejected"}, "omnitron.cancel_status"),
        ({"omnitron__cancel_type": "both"}, "omnitron.cancel_type"),
        ({"omnitron__cancel_type": ""}, "omnitron.cancel_type"),
        ({"erp__http_method": "DELETE"}, "erp.http_method"),
        ({"erp__http_method": "post"}, "erp.http_method"),
    ],
)
def test_a_combination_that_is_not_allowed_is_refused_by_its_field(
    changes: dict[str, Any], field: str
) -> None:
    with pytest.raises(SettingsError) as refused:
        load(settings(**changes), flow="cancels")

    assert field in {problem.path for problem in refused.value.problems}


@pytest.mark.parametrize("status", WAITING)
def test_a_next_state_that_changes_nothing_is_warned_about(status: str) -> None:
    raw = settings(omnitron__cancel_status=status, omnitron__next_state=status)
    if status == "waiting":
        raw["omnitron"]["next_state"] = "approved"
        raw["omnitron"]["cancel_status"] = "order_transaction"
        raw["omnitron"]["transactions_since"] = SINCE

    assert any(warning.startswith("omnitron.next_state") for warning in load(raw, flow="cancels").warnings)
