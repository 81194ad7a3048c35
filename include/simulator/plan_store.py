"""Omnitron's cancellation plans: indexed by pk, status and order, with the filters of its list."""

from __future__ import annotations

import copy
from bisect import bisect_left, insort
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from include.simulator.wire import dump

DEFAULT_CHANNEL_TYPE = "sales_channel"


@dataclass(frozen=True, slots=True)
class Filter:
    """What a list asks for (None: anything). `modified_after` is exclusive, `modified_until` inclusive."""

    status: str | None = None
    plan_type: str | None = None
    channel_type: str | None = None
    channels: frozenset[int] | None = None
    modified_after: datetime | None = None
    modified_until: datetime | None = None
    order: int | None = None
    order_number: str | None = None


@dataclass(slots=True)
class StoredPlan:
    """A plan document with what the filters look at, and its bytes."""

    pk: int
    document: dict[str, Any]
    status: str
    plan_type: str | None
    channel: int | None
    channel_type: str | None
    order: int | None
    order_number: str | None
    modified: datetime
    raw: bytes


def parse_time(text: str) -> datetime:
    """An ISO 8601 time; UTC where it names no zone. Raises ValueError."""
    moment = datetime.fromisoformat(text)
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


def format_time(moment: datetime) -> str:
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def read_plan(document: dict[str, Any]) -> StoredPlan:
    """Raises KeyError without pk, status or modified_date."""
    order = document.get("order")
    order_fields = order if isinstance(order, Mapping) else {"pk": order}
    channel = order_fields.get("channel")
    channel_fields = channel if isinstance(channel, Mapping) else {"pk": channel}
    return StoredPlan(
        pk=document["pk"],
        document=document,
        status=document["status"],
        plan_type=document.get("plan_type"),
        channel=channel_fields.get("pk"),
        channel_type=channel_fields.get("channel_type"),
        order=order_fields.get("pk"),
        order_number=order_fields.get("number"),
        modified=parse_time(document["modified_date"]),
        raw=dump(document),
    )


class PlanStore:
    """All plans. What leaves it is a copy or bytes; what enters it is copied."""

    def __init__(self, channel_types: Mapping[int, str]) -> None:
        self._channel_types = dict(channel_types)
        self._plans: dict[int, StoredPlan] = {}
        self._by_status: defaultdict[str, list[int]] = defaultdict(list)
        self._by_order: defaultdict[int | None, list[int]] = defaultdict(list)
        self._selected: dict[Filter, list[StoredPlan]] = {}

    def __contains__(self, pk: int) -> bool:
        return pk in self._plans

    def __getitem__(self, pk: int) -> StoredPlan:
        return self._plans[pk]

    def put(self, documents: Iterable[dict[str, Any]]) -> None:
        """Adds plans, replaces those with a known pk. Raises KeyError without pk, status, modified_date."""
        for document in documents:
            self._put(read_plan(copy.deepcopy(document)))

    def remove(self, pk: int) -> None:
        plan = self._plans.pop(pk)
        for index in (self._by_status[plan.status], self._by_order[plan.order]):
            del index[bisect_left(index, pk)]
        self._selected.clear()

    def change(self, pk: int, fields: Mapping[str, Any]) -> None:
        self._put(read_plan({**self._plans[pk].document, **fields}))

    def set_status(self, pk: int, status: str, now: datetime) -> None:
        """Moves a plan and the cancel status of its items, at the given time."""
        document = self._plans[pk].document
        for item in document.get("cancellationplanorderitem_set", []):
            item["order_item"]["cancel_status"] = status
        self.change(pk, {"status": status, "modified_date": format_time(now)})

    def set_channel_types(self, channel_types: Mapping[int, str]) -> None:
        self._channel_types.update(channel_types)
        self._selected.clear()

    def document(self, pk: int) -> dict[str, Any]:
        return copy.deepcopy(self._plans[pk].document)

    def documents(self) -> list[dict[str, Any]]:
        return [self.document(pk) for pk in sorted(self._plans)]

    def statuses(self) -> dict[int, str]:
        return {pk: self._plans[pk].status for pk in sorted(self._plans)}

    def select(self, wanted: Filter) -> list[StoredPlan]:
        """The plans that fit, by pk. Kept until the next change, since a list is read page by page."""
        found = self._selected.get(wanted)
        if found is None:
            found = [plan for plan in self._candidates(wanted) if self._fits(plan, wanted)]
            self._selected[wanted] = found
        return found

    def _put(self, plan: StoredPlan) -> None:
        if plan.pk in self._plans:
            self.remove(plan.pk)
        self._plans[plan.pk] = plan
        insort(self._by_status[plan.status], plan.pk)
        insort(self._by_order[plan.order], plan.pk)
        self._selected.clear()

    def _candidates(self, wanted: Filter) -> Iterable[StoredPlan]:
        pks: Iterable[int]
        if wanted.order is not None:
            pks = self._by_order.get(wanted.order, [])
        elif wanted.status is not None:
            pks = self._by_status.get(wanted.status, [])
        else:
            pks = sorted(self._plans)
        return (self._plans[pk] for pk in pks)

    def _fits(self, plan: StoredPlan, wanted: Filter) -> bool:
        return (
            wanted.status in (None, plan.status)
            and wanted.plan_type in (None, plan.plan_type)
            and (wanted.channels is None or plan.channel in wanted.channels)
            and wanted.channel_type in (None, self._channel_type(plan))
            and (wanted.modified_after is None or plan.modified > wanted.modified_after)
            and (wanted.modified_until is None or plan.modified <= wanted.modified_until)
            and wanted.order in (None, plan.order)
            and wanted.order_number in (None, plan.order_number)
        )

    def _channel_type(self, plan: StoredPlan) -> str:
        if plan.channel_type is not None:
            return plan.channel_type
        if plan.channel is None:
            return DEFAULT_CHANNEL_TYPE
        return self._channel_types.get(plan.channel, DEFAULT_CHANNEL_TYPE)
