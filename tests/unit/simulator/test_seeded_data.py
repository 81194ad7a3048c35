from __future__ import annotations

import json
from decimal import Decimal
from random import SystemRandom

import pytest

from include.simulator import plans, transactions

PLAN_KEYS = {
    "pk",
    "plan_type",
    "status",
    "created_date",
    "modified_date",
    "uuid",
    "invoice_number",
    "invoice_date",
    "created_by",
    "modified_by",
    "staff_remote_id",
    "retail_store_remote_id",
    "related_cancellation_plan",
    "refund_amount",
    "is_cargo_refund",
    "order",
    "cancellationplanorderitem_set",
}


@pytest.fixture
def seed() -> int:
    seed = SystemRandom().randrange(1_000_000)
    print(f"seed {seed}")
    return seed


def test_the_same_seed_gives_the_same_documents(seed: int) -> None:
    first, second = plans(seed, 80), plans(seed, 80)

    assert json.dumps(first) == json.dumps(second)
    assert transactions(seed, first) == transactions(seed, second)


def test_another_seed_gives_other_documents(seed: int) -> None:
    assert plans(seed, 5) != plans(seed + 1, 5)


def test_more_documents_begin_with_the_same_ones(seed: int) -> None:
    assert plans(seed, 20) == plans(seed, 60)[:20]


def test_documents_have_the_shape_of_omnitrons(seed: int) -> None:
    for plan in plans(seed, 60, status="confirmed"):
        items = plan["cancellationplanorderitem_set"]
        prices = [Decimal(item["order_item"]["price"]) for item in items]
        assert plan.keys() == PLAN_KEYS
        assert plan["status"] == "confirmed"
        assert plan["modified_date"].endswith("Z")
        assert len(plan["modified_date"]) == len("2025-03-01T08:16:02.450000Z")
        assert isinstance(plan["refund_amount"], str)
        assert sum(prices) == Decimal(plan["refund_amount"])
        assert Decimal(plan["refund_amount"]) <= Decimal(plan["order"]["amount"])
        assert {item["order_item"]["order"] for item in items} == {plan["order"]["pk"]}


def test_pks_and_modified_dates_ascend(seed: int) -> None:
    made = plans(seed, 100, first_pk=7)

    assert [plan["pk"] for plan in made] == list(range(7, 107))
    assert [plan["modified_date"] for plan in made] == sorted(plan["modified_date"] for plan in made)


def test_there_are_big_orders_shared_orders_partial_plans_and_both_forms_of_channels(seed: int) -> None:
    made = plans(seed, 1000)

    sizes = [len(plan["cancellationplanorderitem_set"]) for plan in made]
    assert sum(size >= 40 for size in sizes) == 20
    assert len({plan["order"]["pk"] for plan in made}) < 1000
    assert any(Decimal(plan["refund_amount"]) < Decimal(plan["order"]["amount"]) for plan in made)
    assert {type(plan["order"]["channel"]) for plan in made} == {int, dict}
    assert {plan["plan_type"] for plan in made} == {"cancel", "refund"}
    assert any("ş" in json.dumps(plan, ensure_ascii=False) for plan in made)


def test_plans_of_one_order_take_different_items_and_have_one_type(seed: int) -> None:
    by_order: dict[int, list[dict[str, object]]] = {}
    for plan in plans(seed, 1000):
        rows = [
            (plan["plan_type"], item["order_item"]["pk"]) for item in plan["cancellationplanorderitem_set"]
        ]
        by_order.setdefault(plan["order"]["pk"], []).extend({"type": kind, "item": pk} for kind, pk in rows)

    for rows_of_order in by_order.values():
        assert len({row["item"] for row in rows_of_order}) == len(rows_of_order)
        assert len({row["type"] for row in rows_of_order}) == 1


def test_channels_and_types_are_as_asked_for(seed: int) -> None:
    made = plans(seed, 200, plan_type="refund", channels=(8,), channel_type="web")

    channels = [plan["order"]["channel"] for plan in made]
    assert {plan["plan_type"] for plan in made} == {"refund"}
    assert {channel["pk"] if isinstance(channel, dict) else channel for channel in channels} == {8}
    assert {channel["channel_type"] for channel in channels if isinstance(channel, dict)} == {"web"}


def test_every_order_has_a_return_of_what_its_plans_refund(seed: int) -> None:
    made = plans(seed, 100)
    returns = {row["order"]: row for row in transactions(seed, made) if row["transaction_type"] == "return"}

    assert returns.keys() == {plan["order"]["pk"] for plan in made}
    refunded = sum(Decimal(plan["refund_amount"]) for plan in made)
    assert sum(Decimal(row["amount"]) for row in returns.values()) == refunded
