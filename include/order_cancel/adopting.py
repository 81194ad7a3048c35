"""A flow whose Connection points to another Omnitron than the one whose plans it has open.

It may be the same one at a new address: then its rows are to be found under the new name, or what Omnitron still lists
would be sent again. Or it is another one, whose plan 5001 is another plan. Only a person knows, and until then no run
begins.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, fields
from typing import Any

from sqlalchemy import (
    ColumnElement,
    Connection,
    Select,
    Table,
    and_,
    delete,
    exists,
    func,
    insert,
    or_,
    select,
    update,
)

from include.order_cancel import schema
from include.order_cancel.errors import OrderCancelError, RowBusy
from include.order_cancel.http import Endpoint
from include.order_cancel.identity import host_of, identity_of
from include.order_cancel.journal import RESTORES, Journal
from include.order_cancel.rows import OPEN, State
from include.order_cancel.searching import Asked, hosts
from include.order_cancel.text import printable

plans, runs, events = schema.plans, schema.runs, schema.events
transactions, omnitrons = schema.transactions, schema.omnitrons

_SETTLED = (State.DONE, State.REJECTED, State.PASSED)


class OtherOmnitron(OrderCancelError):
    """A Connection points to another Omnitron than the one that rows are of; nothing was asked, sent or changed."""


@dataclass(frozen=True)
class Inside:
    """A transaction, to be asked what is otherwise asked of the journal."""

    connection: Connection

    def ask(self, question: Select[Any]) -> list[Any]:
        """The records that the question finds."""
        return list(self.connection.execute(question))


def check_known(
    journal: Asked, flow: str, endpoint: Endpoint, since: float, *, lists_finished: bool = False
) -> None:
    """Raises OtherOmnitron where the flow has plans or runs of another name, and nobody has said whose they are.

    Plans: see `others`. Runs: those that were at work after `since`, in seconds since the epoch by the journal's clock.
    """
    found = others(journal, flow, endpoint.identity, lists_finished=lists_finished)
    at_work = _at_work(journal, flow, endpoint.identity, since)
    if not found and not at_work:
        return
    named = [f"the flow has plans of {host} ({number} open)" for host, number in found.items()]
    named += [f"another run of it is for {host}" for host in at_work]
    raise OtherOmnitron(
        f"Connection '{endpoint.conn_id}' points to Omnitron {endpoint.identity}, but {', and '.join(named)}. "
        "Nothing is fetched or sent before a person says which it is. The same one at another address: "
        f"`python -m include.order_cancel adopt --flow {flow} --from {[*found, *at_work][0]}`. Another one: the same "
        "with `--other`; its plans stay as they are. If the Connection is wrong, set it back"
    )


def check_same(endpoint: Endpoint, host: str, whose: str) -> None:
    """Raises OtherOmnitron where what is `whose` is of `host`, and the Connection points elsewhere by now."""
    if endpoint.identity != host:
        raise OtherOmnitron(
            f"{whose} is of Omnitron {host}, but Connection '{endpoint.conn_id}' points to {endpoint.identity} now. "
            "Nothing was asked, sent or changed; trigger a new run"
        )


def others(journal: Asked, flow: str, identity: str, *, lists_finished: bool = False) -> dict[str, int]:
    """The Omnitrons of which a person has to say whether they are this one, and how many plans of each are open.

    Those with open plans; and with finished ones where what is finished may be listed as new: a name that a person
    once called the same; the name without its base path, where this one has no plans yet; and, where Omnitron
    `lists_finished` plans again since the flow writes no status, every name, if this one has no plans yet or did not
    run last.
    """
    known = hosts(journal, flow)
    names = _names(journal, flow)
    found = _same(names, identity)
    if identity not in known:
        found.add(host_of(identity))
    if lists_finished:
        last = _last_runs(journal, flow) if identity in known else {}
        found.update(host for host in known if last.get(host, 0) >= last.get(identity, 0))
    opened = {host: _open_plans(journal, flow, host) for host in known if host != identity}
    apart = _told_apart(names, identity)
    return {
        host: number for host, number in opened.items() if (number or host in found) and host not in apart
    }


def _open_plans(journal: Asked, flow: str, host: str) -> int:
    open_here = (plans.c.flow == flow, plans.c.host == host, plans.c.state.in_(OPEN), schema.is_newest())
    return int(journal.ask(select(func.count()).where(*open_here))[0][0])


def _last_runs(journal: Asked, flow: str) -> dict[str, int]:
    last = select(runs.c.host, func.max(runs.c.id)).where(runs.c.flow == flow, runs.c.home != RESTORES)
    return dict(tuple(found) for found in journal.ask(last.group_by(runs.c.host)))


def _at_work(journal: Asked, flow: str, identity: str, since: float) -> list[str]:
    """The other Omnitrons, not told apart from this one, for which a run of the flow showed a sign of life `since`."""
    elsewhere = (runs.c.flow == flow, runs.c.host != identity, runs.c.home != RESTORES)
    lately = or_(runs.c.alive_until > since, runs.c.finished_at > since)
    found = {host for (host,) in journal.ask(select(runs.c.host).where(*elsewhere, lately).distinct())}
    return sorted(found - _told_apart(_names(journal, flow), identity) if found else found)


_Names = list[tuple[str, str, bool]]


def _names(journal: Asked, flow: str) -> _Names:
    """What people have said of the flow's Omnitrons: two names, and whether they are of one."""
    question = select(omnitrons.c.host, omnitrons.c.other, omnitrons.c.same).where(omnitrons.c.flow == flow)
    return [(host, other, same) for host, other, same in journal.ask(question)]


def _same(names: _Names, identity: str) -> set[str]:
    """All names that were called the same as this one, by whatever way."""
    found, before = {identity}, 0
    while len(found) > before:
        before = len(found)
        found.update(name for *pair, same in names if same and not found.isdisjoint(pair) for name in pair)
    return found


def _told_apart(names: _Names, identity: str) -> set[str]:
    return {name for *pair, same in names if not same and identity in pair for name in pair} - {identity}


# A person's word


@dataclass(frozen=True)
class Naming:
    """What a person says of a flow's rows of `other`: whether they are of the Omnitron `identity`."""

    flow: str
    other: str
    identity: str
    who: str
    reason: str = ""


def as_known(journal: Journal, flow: str, address: str) -> str:
    """The name under which the flow has plans, however it is typed."""
    return address if address in hosts(journal, flow) else identity_of(address)


def adopt(journal: Journal, word: Naming) -> int:
    """It is the same Omnitron: its plans, runs and transactions go on under the new name. Returns how many plans.

    Raises RowBusy where a task works on them, OrderCancelError where there are none.
    """
    with journal.transaction() as (connection, now):
        if connection.dialect.name == "postgresql":
            connection.exec_driver_sql(f"LOCK TABLE {runs.name}, {plans.name} IN EXCLUSIVE MODE")
        _check_there(connection, word)
        _check_idle(connection, word, now)
        mine = (plans.c.flow == word.flow, plans.c.host == word.other)
        number = int(connection.execute(select(func.count()).where(*mine)).scalar_one())
        said = f"{word.who}: {word.other} is {word.identity}" + (f", {word.reason}" if word.reason else "")
        open_plans = select(plans.c.id).where(*mine, plans.c.state.in_(OPEN))
        _note(connection, connection.execute(open_plans).scalars(), "adopted", said, now)
        connection.execute(  # a task that holds one still has lost it
            update(plans)
            .where(*mine)
            .values(fence=plans.c.fence + 1, owner="", lease_until=0.0, claim_run=None)
        )
        rename(connection, word.other, word.identity, now, word.flow)
        _remember(connection, word, now, same=True)
        return number


def keep_apart(journal: Journal, word: Naming) -> int:
    """It is another Omnitron: its plans stay as they are, and no longer keep the flow from running.

    Returns how many of them are open. Raises OrderCancelError where there are none at all.
    """
    with journal.transaction() as (connection, now):
        _check_there(connection, word)
        _remember(connection, word, now, same=False)
    return _open_plans(journal, word.flow, word.other)


def _check_there(connection: Connection, word: Naming) -> None:
    if word.other == word.identity:
        raise OrderCancelError(f"flow {word.flow}: its Connection points to {word.other} already")
    inside = Inside(connection)
    known = sorted({*hosts(inside, word.flow), *_last_runs(inside, word.flow)})
    if word.other not in known:
        raise OrderCancelError(
            f"flow {word.flow} has no plans of {printable(word.other, 260)}, only of {', '.join(known) or 'none'}"
        )


def _check_idle(connection: Connection, word: Naming, now: float) -> None:
    of_both = (plans.c.flow == word.flow, plans.c.host.in_((word.other, word.identity)))
    leased = and_(plans.c.owner != "", plans.c.lease_until > now)
    on_the_wire = and_(plans.c.state == State.SENDING, plans.c.request_deadline > now)
    until = func.max(func.coalesce(plans.c.lease_until, 0.0)), func.max(plans.c.request_deadline)
    leases, deadlines = connection.execute(select(*until).where(*of_both, or_(leased, on_the_wire))).one()
    listing = (runs.c.flow == word.flow, ~runs.c.committed, runs.c.alive_until > now)
    alive = connection.execute(select(func.max(runs.c.alive_until)).where(*listing)).scalar()
    latest = max((moment for moment in (leases, deadlines, alive) if moment is not None), default=0.0)
    if latest > now:
        raise RowBusy(
            f"flow {word.flow}: a task works on its plans; try again after it, or in {latest - now:.0f} s"
        )


def _remember(connection: Connection, word: Naming, now: float, *, same: bool) -> None:
    both = (word.identity, word.other)
    earlier = (omnitrons.c.host.in_(both), omnitrons.c.other.in_(both))
    connection.execute(delete(omnitrons).where(omnitrons.c.flow == word.flow, *earlier))
    values = {"flow": word.flow, "host": word.identity, "other": word.other, "same": same}
    said = {"who": printable(word.who, 250), "reason": printable(word.reason, 4000), "at": now}
    connection.execute(insert(omnitrons).values(**values, **said))


# Another name

_KEY = {
    "key_host": func.coalesce(plans.c.key_host, plans.c.host),
    "key_generation": func.coalesce(plans.c.key_generation, plans.c.generation),
}


def rename(connection: Connection, old: str, new: str, now: float, flow: str | None = None) -> None:
    """Give the rows of `old` the name `new`, of one flow or of all; keys stay what they are.

    A plan that has rows of both names keeps them all, as generations of which at most one is sent. Migration 0005 calls
    this too: it uses no column that is younger.
    """
    _merge_plans(connection, old, new, now, flow)
    _merge_transactions(connection, old, new, flow)
    kept: dict[Table, dict[str, Any]] = {plans: _KEY, runs: {}, transactions: {}}
    for table, values in kept.items():
        connection.execute(update(table).where(*_of(table, old, flow)).values(host=new, **values))


def _of(table: Any, host: str, flow: str | None) -> list[ColumnElement[bool]]:
    here = [table.c.host == host]
    return here if flow is None else [*here, table.c.flow == flow]


@dataclass(frozen=True)
class _Kept:
    """One row of a plan that has rows of both names."""

    id: int
    host: str
    generation: int
    state: str
    key_generation: int | None
    key: str | None
    outcome: str
    updated_at: float

    @property
    def open(self) -> bool:
        return self.state in OPEN

    @property
    def sent(self) -> bool:
        """Whether the ERP may have heard of it."""
        return bool(self.key or self.outcome)

    @property
    def weight(self) -> tuple[int, bool, float]:
        """The heavier one says how it stands with the plan: what may have been sent before what is settled.

        What a person sends again stays the last one: that is what makes its number say so.
        """
        settled = 2 if self.state in _SETTLED else 0
        rank = (3 if self.sent else 1) if self.open else settled
        return rank, (self.key_generation or self.generation) > 1, self.updated_at


def _merge_plans(connection: Connection, old: str, new: str, now: float, flow: str | None) -> None:
    twin = plans.alias()
    both = exists().where(twin.c.host == new, twin.c.flow == plans.c.flow, twin.c.pk == plans.c.pk)
    question = select(plans.c.flow, plans.c.pk).where(*_of(plans, old, flow), both).distinct()
    for of_flow, pk in list(connection.execute(question)):
        sides = [_generations(connection, host, of_flow, pk) for host in (old, new)]
        first, last = sorted(sides, key=lambda side: side[-1].weight)
        _merge(connection, first, last, new, now)


def _generations(connection: Connection, host: str, flow: str, pk: str) -> list[_Kept]:
    columns = [plans.c[one.name] for one in fields(_Kept)]
    question = select(*columns).where(*_of(plans, host, flow), plans.c.pk == pk)
    found = connection.execute(question.order_by(plans.c.generation))
    return [_Kept(*record) for record in found]


def _merge(connection: Connection, first: list[_Kept], last: list[_Kept], new: str, now: float) -> None:
    """All rows become generations of one plan, those of `last` the newer ones."""
    order = [*first, *last]
    apart = update(plans).where(plans.c.id.in_([one.id for one in order]))
    connection.execute(apart.values(generation=-plans.c.id, **_KEY))  # or two could have one number meanwhile
    for generation, one in enumerate(order, 1):
        values = {"host": new, "generation": generation}
        connection.execute(update(plans).where(plans.c.id == one.id).values(values))
    other, current = first[-1], last[-1]
    names = f"Omnitron was called {other.host} and {current.host}, and the plan was taken under both names"
    if other.open:
        why = f"was {other.state}; {names}: generation {len(order)} goes on"
        _settle(connection, other, State.DISMISSED, why, now)
    if current.open and any(one.sent or one.state == State.DISMISSED for one in first):
        key = f" under key {other.key}" if other.key else ""
        why = (
            f"was {current.state}; {names}. The other row, generation {len(first)}, was {other.state}{key}. "
            "Nothing is sent: look for both in the ERP, then `dismiss` or `resend` it"
        )
        _settle(connection, current, State.CHANGED, why, now)


def _settle(connection: Connection, one: _Kept, state: State, why: str, now: float) -> None:
    values = {
        "state": state,
        "error": why,
        "updated_at": now,
        "next_attempt_at": 0.0,
        "request_deadline": 0.0,
    }
    lost = {"fence": plans.c.fence + 1, "owner": "", "lease_until": 0.0, "claim_run": None}
    connection.execute(update(plans).where(plans.c.id == one.id).values(**values, **lost))
    _note(connection, [one.id], str(state), why, now)


def _note(connection: Connection, ids: Iterable[int], what: str, detail: str, now: float) -> None:
    same = {"at": now, "step": "adopt", "what": what, "detail": printable(detail, 4000)}
    values = [{"plan_id": plan_id, **same} for plan_id in ids]
    if values:
        connection.execute(insert(events), values)


def _merge_transactions(connection: Connection, old: str, new: str, flow: str | None) -> None:
    """Of a transaction that is known under both names, what is final stays."""
    twin = transactions.alias()
    same = (twin.c.flow == transactions.c.flow, twin.c.pk == transactions.c.pk)
    settled = exists().where(twin.c.host == old, *same, twin.c.state != "mapping")
    lesser = (*_of(transactions, new, flow), transactions.c.state != "mapped")
    connection.execute(delete(transactions).where(*lesser, settled))
    known = exists().where(twin.c.host == new, *same)
    connection.execute(delete(transactions).where(*_of(transactions, old, flow), known))
