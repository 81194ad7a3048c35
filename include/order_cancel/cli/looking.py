"""Commands that look: `plans`, `plan`, `export`."""

from __future__ import annotations

import argparse
import csv
import io
import re
from datetime import UTC, datetime
from typing import Any

from include.order_cancel import exact_json, params
from include.order_cancel.cli import places
from include.order_cancel.cli.hiding import url_without_secrets, without_secrets
from include.order_cancel.cli.output import (
    NoSuchPlan,
    Said,
    UsageError,
    counted,
    pretty,
    table,
    utc,
)
from include.order_cancel.journal import Journal
from include.order_cancel.rows import OPEN, Body, Event, Row, State
from include.order_cancel.text import printable

_NUMBER = re.compile(r"[+-]?\d+([.,]\d+)?")
_PRUNED = (
    "",
    "its documents, request and answer are kept no longer",
    "all but this is kept no longer: documents, request, answer, events",
)
_FORMULA = ("=", "+", "-", "@", "＝", "＋", "－", "＠", "\t", "\r", "\n")
_EXPORTED = (
    "plan",
    "order",
    "generation",
    "plan_type",
    "amount",
    "currency",
    "relation",
    "state",
    "erp_reference",
    "idempotency_key",
    "plan_date",
    "first_seen_at",
    "updated_at",
)


def plans(given: argparse.Namespace) -> Said:
    """The plans of a flow, the newest generation of each or all."""
    words = given.state or ()
    states = {state for word in words for state in (OPEN if word == "open" else {State(word)})} or None
    with places.journal_of(given.flow, given.journal) as journal:
        rows = journal.find(given.flow, states, all_generations=given.generations)
    if given.json:
        return Said(pretty([_stable(row) for row in rows]))
    if not rows:
        wanted = f" in state {' or '.join(given.state)}" if given.state else ""
        return Said(f"the journal holds no plans of flow {given.flow}{wanted}")
    head = (
        "plan",
        "order",
        "generation",
        "state",
        "relation",
        "attempts",
        "ERP reference",
        "updated",
        "error",
    )
    return Said(f"{table(head, map(_line, rows))}\n{counted(len(rows), 'plan')}")


def _line(row: Row) -> tuple[object, ...]:
    answered = (row.relation, row.attempts, row.erp_reference, utc(row.updated_at), row.error)
    return (row.pk, row.order_number, row.generation, row.state, *answered)


def _stable(row: Row) -> dict[str, Any]:
    return {
        "pk": pk_value(row.pk),
        "order_number": row.order_number,
        "generation": row.generation,
        "state": row.state,
        "relation": row.relation,
        "attempts": row.attempts,
        "erp_reference": row.erp_reference,
        "error": row.error,
        "updated_at": utc(row.updated_at),
    }


def pk_value(pk: str) -> int | str:
    """A plan's number as JSON shows it: a number where it is one."""
    return int(pk) if pk.isascii() and pk.isdigit() and str(int(pk)) == pk else pk


def plan(given: argparse.Namespace) -> Said:
    """A plan's whole journey: each generation with its events, bodies and attributes."""
    with places.journal_of(given.flow, given.journal) as journal:
        rows = journal.generations(given.flow, given.pk)
        if not rows:
            raise NoSuchPlan(given.pk, given.flow)
        if given.json:
            generations = [_as_json(journal, row) for row in rows]
            return Said(pretty({"pk": pk_value(given.pk), "flow": given.flow, "generations": generations}))
        return Said("\n\n".join(_as_text(journal, row) for row in rows))


def _as_json(journal: Journal, row: Row) -> dict[str, Any]:
    events, bodies = journal.journey(row.id)
    return {
        **_stable(row),
        "host": row.host,
        "outcome": row.outcome or None,
        "http_status": row.http_status,
        "amount": row.amount,
        "currency": row.currency,
        "plan_type": row.plan_type,
        "transaction": row.transaction_pk,
        "idempotency_key": row.key,
        "pruned": _PRUNED[row.pruned] or None,
        "attributes": without_secrets(row.attributes),
        "events": [
            {
                "at": utc(event.at),
                "step": event.step,
                "what": event.what,
                "detail": event.detail,
                "milliseconds": event.milliseconds,
                "run": event.run,
            }
            for event in events
        ],
        "bodies": [
            {"at": utc(body.at), "kind": body.kind, "meta": _meta(body), "content": _content(body)}
            for body in bodies
        ],
    }


def _as_text(journal: Journal, row: Row) -> str:
    events, bodies = journal.journey(row.id)
    amount = " ".join(part for part in (row.amount, row.currency) if part)
    facts = [
        ("state", row.state),
        ("error", row.error),
        ("relation", row.relation),
        ("last answer", " ".join(str(part) for part in (row.outcome, row.http_status) if part)),
        ("ERP reference", row.erp_reference),
        ("amount", amount),
        ("transaction", row.transaction_pk),
        ("attempts", row.attempts),
        ("next attempt", utc(row.next_attempt_at) if row.next_attempt_at else None),
        ("key", row.key),
        ("updated", utc(row.updated_at)),
        ("pruned", _PRUNED[row.pruned]),
    ]
    title = f"plan {printable(row.name)}, generation {row.generation}, on {row.host}"
    parts = [f"{title}\n" + "\n".join(f"  {name:<14} {printable(str(v), 2000)}" for name, v in facts if v)]
    if row.attributes:
        shown = sorted(without_secrets(row.attributes).items())
        parts.append(
            "attributes\n" + "\n".join(f"  {printable(n)} = {printable(str(v), 2000)}" for n, v in shown)
        )
    parts.append("events\n" + _indented(_events(events)))
    parts += [_body(body) for body in bodies]
    return "\n\n".join(parts)


def _events(events: list[Event]) -> str:
    rows = (
        (
            utc(event.at),
            None if event.milliseconds is None else f"{event.milliseconds:.1f} ms",
            event.step,
            event.what,
            event.detail,
        )
        for event in events
    )
    return table(("time", "took", "step", "what", "detail"), rows)


def _body(body: Body) -> str:
    meta, content = _meta(body), _content(body)
    lines = [f"{name}: {printable(_plain(value), 1000)}" for name, value in meta.items()]
    shown = content.splitlines() if isinstance(content, str) else pretty(content).splitlines()
    return f"{body.kind}, {utc(body.at)}\n" + _indented(
        "\n".join([*lines, *(printable(s, 10_000) for s in shown)])
    )


def _plain(value: Any) -> str:
    return value if isinstance(value, str) else exact_json.dumps(value, ensure_ascii=False)


def _meta(body: Body) -> dict[str, Any]:
    meta: dict[str, Any] = without_secrets(body.meta)
    return meta | ({"url": url_without_secrets(str(meta["url"]))} if "url" in meta else {})


def _content(body: Body) -> Any:
    try:
        return without_secrets(exact_json.loads(body.content))
    except (ValueError, RecursionError):
        return body.content


def _indented(text: str) -> str:
    return "\n".join(f"  {line}" for line in text.splitlines())


def export(given: argparse.Namespace) -> Said:
    """A CSV for the bookkeepers: each generation of each plan that moved in the time asked for."""
    since, until = _moment(given.since, "--from"), _moment(given.until, "--to")
    if since >= until:
        raise UsageError("--from must lie before --to; --to itself is not included")
    with places.journal_of(given.flow, given.journal) as journal:
        rows = journal.find(given.flow, all_generations=True)
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(_EXPORTED)
    for row in rows:
        if since <= row.updated_at < until:
            writer.writerow([_harmless(value) for value in _record(row)])
    return Said(out.getvalue().rstrip("\n"))


def _moment(text: str, option: str) -> float:
    try:
        day = re.fullmatch(r"\d{4}-\d{2}-\d{2}", text)
        moment = datetime.fromisoformat(text).replace(tzinfo=UTC) if day else params.moment(text)
    except ValueError as error:
        raise UsageError(f"{option}: {error}; a day alone will do, in UTC") from None
    return moment.timestamp()


def _record(row: Row) -> tuple[object, ...]:
    answered = (row.relation, row.state, row.erp_reference, row.key)
    times = (row.plan_date, utc(row.created_at), utc(row.updated_at))
    return (
        *(row.pk, row.order_number, row.generation, row.plan_type, row.amount, row.currency),
        *answered,
        *times,
    )


def _harmless(value: object) -> str:
    """A cell that a spreadsheet shows and does not run: a would-be formula gets an apostrophe in front."""
    text = "" if value is None else str(value)
    return f"'{text}" if text.lstrip(" ").startswith(_FORMULA) and not _NUMBER.fullmatch(text) else text
