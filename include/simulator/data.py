"""Seeded cancellation plans and order transactions in the shape of Omnitron's documents."""

from __future__ import annotations

import copy
import uuid
from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta
from decimal import Decimal
from random import Random
from typing import Any

from include.simulator.plan_store import format_time, parse_time

START = "2025-03-01T08:00:00Z"
BIG_ORDER_EVERY = 50
REASONS = {
    "cancel": ("Vazgeçtim", "Yanlış ürün seçtim", "Teslimat süresi çok uzun", "Adresi hatalı girdim"),
    "refund": ("Beden uymadı", "Ürün kusurlu geldi", "Rengi görseldekinden farklı", "Beğenmedim"),
}
NOTES = (
    None,
    None,
    None,
    "Müşteri çağrı merkezini aradı, iade onaylandı.",
    "Kargo şubesine bırakıldı: Üsküdar",
    'Kutusu açılmış, "etiketi" yok; şüpheli değil.',
    "Hediye paketi iade edilmeyecek 🎁",
)
PRODUCTS = (
    "Kadın Çizgili Gömlek",
    "Erkek Yün Kazak, Açık Gri",
    "Çocuk Yağmurluk (İnce)",
    "Deri Omuz Çantası – Bordo",
    "Günlük Koşu Ayakkabısı",
    "Şişme Mont, Koyu Yeşil",
    "Pamuklu Çorap 3'lü",
    "Işıltılı Küpe",
)


def plans(
    seed: int,
    count: int,
    *,
    status: str = "waiting",
    plan_type: str | None = None,
    channels: Sequence[int] = (1, 2, 3),
    channel_type: str = "sales_channel",
    first_pk: int = 5001,
    start: str = START,
) -> list[dict[str, Any]]:
    """`count` plan documents with ascending pk and modified_date, the first one `start` at the earliest.

    `plan_type` None: cancellations and refunds mixed. Every 50th order has 40 items or more, some plans cover
    a part of their order, some pairs of plans share an order, and in one of ten documents `order.channel` is
    an object.
    """
    random = Random(f"plans {seed}")
    moment = parse_time(start)
    made: list[dict[str, Any]] = []
    order: dict[str, Any] = {}
    prices: list[Decimal] = []
    used = 0
    for index in range(count):
        moment += timedelta(milliseconds=random.randrange(50, 90_000))
        big = index % BIG_ORDER_EVERY == BIG_ORDER_EVERY - 1
        if not big and used < len(prices) and random.random() < 0.3:
            kind = made[-1]["plan_type"]
            order = copy.deepcopy(order)
        else:
            kind = plan_type or random.choice(("cancel", "refund"))
            prices, used = _prices(random, random.randrange(40, 61) if big else random.randrange(1, 6)), 0
            order = _order(random, first_pk + index, moment, prices, _channel(random, channels, channel_type))
        taken = len(prices) if big or random.random() < 0.6 else random.randrange(used, len(prices)) + 1
        plan = _plan(random, first_pk + index, kind, status, moment, order)
        made.append(_with_items(random, plan, used, prices[used:taken]))
        used = taken
    return made


def transactions(
    seed: int, plans: Iterable[dict[str, Any]], *, first_pk: int = 800_001
) -> list[dict[str, Any]]:
    """Two transactions per order of these plans: its payment, and the return of what its plans refund."""
    random = Random(f"transactions {seed}")
    refunds: dict[int, Decimal] = {}
    orders: dict[int, dict[str, Any]] = {}
    latest: dict[int, str] = {}
    for plan in plans:
        order = plan["order"]
        orders[order["pk"]] = order
        refunds[order["pk"]] = refunds.get(order["pk"], Decimal()) + Decimal(plan["refund_amount"])
        latest[order["pk"]] = plan["modified_date"]
    made = []
    for position, (order_pk, order) in enumerate(orders.items()):
        pk = first_pk + 2 * position
        made.append(_transaction(random, pk, order_pk, "payment", order["amount"], order["date_placed"]))
        made.append(
            _transaction(random, pk + 1, order_pk, "return", str(refunds[order_pk]), latest[order_pk])
        )
    return made


def _transaction(random: Random, pk: int, order: int, kind: str, amount: str, moment: str) -> dict[str, Any]:
    return {
        "pk": pk,
        "uuid": _uuid(random),
        "amount": amount,
        "transaction_type": kind,
        "created_date": moment,
        "modified_date": moment,
        "order": order,
    }


def _channel(random: Random, channels: Sequence[int], channel_type: str) -> int | dict[str, Any]:
    channel = random.choice(channels)
    if random.random() < 0.1:
        return {"pk": channel, "name": f"Mağaza {channel}", "channel_type": channel_type}
    return channel


def _prices(random: Random, count: int) -> list[Decimal]:
    return [Decimal(random.randrange(1_990, 250_000)).scaleb(-2) for _ in range(count)]


def _order(
    random: Random, number: int, moment: datetime, prices: list[Decimal], channel: int | dict[str, Any]
) -> dict[str, Any]:
    return {
        "pk": 15_000 + number,
        "number": f"{1_000_000_000 + number}",
        "status": "50",
        "channel": channel,
        "customer": random.randrange(100, 9_000),
        "amount": str(sum(prices, Decimal())),
        "currency": "try",
        "discount_amount": "0.00",
        "shipping_amount": random.choice(("0.00", "9.90", "39.99")),
        "refund_amount": "0.00",
        "is_send": True,
        "segment": None,
        "notes": random.choice(NOTES),
        "date_placed": format_time(moment - timedelta(minutes=random.randrange(60, 20_000))),
        "modified_date": format_time(moment - timedelta(seconds=1)),
        "bin_number": None,
        "client_type": random.choice(("default", "ios", "android")),
        "installment": random.choice((1, 3, 6, 12)),
        "payment_option": random.randrange(1, 9),
        "remote_addr": f"192.0.2.{random.randrange(1, 255)}",
        "has_gift_box": False,
        "gift_box_note": None,
        "invoice_number": None,
        "invoice_date": None,
        "e_archive_url": None,
        "cargo_company": random.randrange(1, 4),
        "tracking_number": None,
        "delivery_type": None,
        "delivery_range": None,
        "language_code": "tr-tr",
        "billing_address": random.randrange(1, 900),
        "external_status": None,
        "extra_field": {},
    }


def _plan(
    random: Random, pk: int, kind: str, status: str, moment: datetime, order: dict[str, Any]
) -> dict[str, Any]:
    return {
        "pk": pk,
        "plan_type": kind,
        "status": status,
        "created_date": format_time(moment - timedelta(seconds=random.randrange(1, 60))),
        "modified_date": format_time(moment),
        "uuid": _uuid(random),
        "invoice_number": None,
        "invoice_date": None,
        "created_by": random.randrange(1, 40),
        "modified_by": random.randrange(1, 40),
        "staff_remote_id": None,
        "retail_store_remote_id": None,
        "related_cancellation_plan": None,
        "is_cargo_refund": kind == "refund" and random.random() < 0.3,
        "order": order,
    }


def _with_items(random: Random, plan: dict[str, Any], first: int, prices: list[Decimal]) -> dict[str, Any]:
    subject = random.choice(REASONS[plan["plan_type"]])
    items = [_item(random, plan, position, price, subject) for position, price in enumerate(prices, first)]
    return {**plan, "refund_amount": str(sum(prices, Decimal())), "cancellationplanorderitem_set": items}


def _item(
    random: Random, plan: dict[str, Any], position: int, price: Decimal, subject: str
) -> dict[str, Any]:
    order, kind = plan["order"]["pk"], plan["plan_type"]
    return {
        "pk": plan["pk"] * 100 + position,
        "order_item": {
            "pk": order * 100 + position,
            "order": order,
            "product": random.randrange(1, 9_000),
            "status": "50",
            "cancel_status": plan["status"],
            "price": str(price),
            "price_currency": "try",
            "tax_rate": random.choice(("10.00", "20.00")),
            "price_list": 1,
            "stock_list": 1,
            "tracking_number": None,
            "invoice_number": None,
            "attributes": {},
            "attributes_kwargs": {},
            "extra_field": {},
            "localized_attributes": {"name": random.choice(PRODUCTS)},
        },
        "reason": {
            "pk": list(REASONS).index(kind) * 10 + REASONS[kind].index(subject) + 1,
            "cancellation_type": kind,
            "subject": subject,
        },
    }


def _uuid(random: Random) -> str:
    return str(uuid.UUID(int=random.getrandbits(128), version=4))
