"""Commands that carry a person's word into the journal: `resolve`, `resend`, `dismiss`, `adopt`."""

from __future__ import annotations

import argparse

from include.order_cancel.adopting import Naming, as_known, keep_apart
from include.order_cancel.adopting import adopt as adopt_rows
from include.order_cancel.cli import places
from include.order_cancel.cli.output import NoSuchPlan, Said, UsageError, counted, person
from include.order_cancel.http import Endpoint, check_endpoint
from include.order_cancel.journal import Journal
from include.order_cancel.placing import taken_before
from include.order_cancel.rows import Row
from include.order_cancel.text import printable


def resolve(given: argparse.Namespace) -> Said:
    """Say of a plan in doubt whether the ERP has it."""
    with places.journal_of(given.flow, given.journal) as journal:
        row = _newest(journal, given)
        after = journal.resolve(row.id, arrived=given.arrived, who=person(), reason=given.reason or "")
    then = (
        "the next run goes on with the write-back and sends nothing to the ERP"
        if given.arrived
        else "the next run sends it again, with the same key"
    )
    return Said(f"{_moved(row, after)}; {then}")


def resend(given: argparse.Namespace) -> Said:
    """Begin a new generation of a plan that is over: it is sent again with a new key."""
    with places.journal_of(given.flow, given.journal) as journal:
        row = _newest(journal, given)
        after = journal.resend(row.id, who=person(), reason=_reason(given))
        kept = journal.body(after.id, "document") is not None
    gone = "" if kept else "; its document was pruned, so that run reads the plan again from Omnitron first"
    warning = f"\nWARNING: {taken}" if (taken := taken_before(row)) else ""
    return Said(
        f"plan {printable(row.name, 120)}: generation {after.generation} has begun; the next run sends it "
        f"with a new key, so that the ERP cannot take it for a repeat{gone}{warning}"
    )


def dismiss(given: argparse.Namespace) -> Said:
    """Take a plan out of the flow for good: nothing more is sent or written for it."""
    with places.journal_of(given.flow, given.journal) as journal:
        row = _newest(journal, given)
        after = journal.dismiss(row.id, who=person(), reason=_reason(given))
    return Said(f"{_moved(row, after)}; nothing more is sent or written for it")


def adopt(given: argparse.Namespace) -> Said:
    """Say of an Omnitron whose plans are open whether it is the one that the flow's Connection points to."""
    endpoint = Endpoint("--to", given.to) if given.to is not None else places.omnitron(given.flow)
    check_endpoint(endpoint)
    with places.journal_of(given.flow, given.journal) as journal:
        other = as_known(journal, given.flow, given.host)
        naming = Naming(given.flow, other, endpoint.identity, person(), (given.reason or "").strip())
        number = (keep_apart if given.other else adopt_rows)(journal, naming)
    if given.other:
        return Said(
            f"flow {given.flow}: {other} is another Omnitron than {naming.identity}. What it has open "
            f"({counted(number, 'plan')}) stays as it is, and runs begin all the same. `dismiss` what is settled by "
            "hand; the rest goes on once the Connection points there again"
        )
    return Said(
        f"flow {given.flow}: what it has of {other} ({counted(number, 'plan')}) is known as {naming.identity} now; "
        "the next run goes on with what is open"
    )


def _newest(journal: Journal, given: argparse.Namespace) -> Row:
    rows = [
        row
        for row in journal.generations(given.flow, given.pk)
        if given.host is None or row.host == given.host
    ]
    hosts = sorted({row.host for row in rows})
    if not rows:
        raise NoSuchPlan(given.pk, given.flow)
    if len(hosts) > 1:
        raise UsageError(f"several Omnitrons have a plan {given.pk}; add --host, one of {', '.join(hosts)}")
    return rows[-1]


def _moved(row: Row, after: Row) -> str:
    return f"plan {printable(row.name, 120)}: {row.state} > {after.state}"


def _reason(given: argparse.Namespace) -> str:
    reason = str(given.reason).strip()
    if not reason:
        raise UsageError("--reason is empty; say why, it is kept with the plan")
    return reason
