"""Alerts: what happened that somebody should hear of, each told once to each notifier of the flow's settings.

The journal remembers what was told. A notifier that fails is told again at the next occasion; its failure changes
nothing for plans and gate.
"""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from include.order_cancel.journal import Journal
from include.order_cancel.rows import State
from include.order_cancel.settings_model import Alert
from include.order_cancel.text import printable

log = logging.getLogger("order_cancel")
_NAMED = 50


@dataclass(frozen=True)
class Happening:
    """One event of a flow, as a notifier's templates see it under `order_cancel`."""

    flow: str
    event: str
    subject: str
    message: str
    plans: tuple[str, ...] = ()

    def as_dict(self) -> dict[str, Any]:
        """The same as plain values."""
        return asdict(self)


Notify = Callable[[Alert, Happening], None]


def untold(alert: Alert, happening: Happening) -> None:
    """Tells nobody."""


def tell(
    journal: Journal, alerts: Sequence[Alert], notify: Notify, happening: Happening, keys: Sequence[str]
) -> None:
    """Tell each notifier that wants this event of it, unless it has heard of all these keys before."""
    for alert in alerts:
        if happening.event in alert.on:
            new = journal.remember_alerts(happening.flow, happening.event, keys, _target(alert))
            if new:
                _tell_one(journal, alert, notify, happening, new)


def _tell_one(
    journal: Journal, alert: Alert, notify: Notify, happening: Happening, keys: Sequence[str]
) -> None:
    try:
        notify(alert, happening)
    except Exception as error:  # any class may be a notifier, and raise what it likes
        log.exception(
            "the notifier %s was not told of %s: %s",
            alert.notifier,
            happening.event,
            printable(type(error).__name__, 100),
        )
        journal.forget_alerts(happening.flow, happening.event, keys, _target(alert))


def tell_of_stop(
    journal: Journal, alerts: Sequence[Alert], notify: Notify, flow: str, kind: str, reason: str, run: str
) -> None:
    """An open breaker or a refused token: once for each run."""
    if kind:
        words = {
            "breaker_open": "a system fails, nothing more is sent",
            "token_refused": "a token is refused",
        }
        happening = Happening(flow, kind, f"order cancel flow {flow}: {words[kind]}", reason)
        tell(journal, alerts, notify, happening, [run])


def tell_of_gate(
    journal: Journal, alerts: Sequence[Alert], notify: Notify, flow: str, reasons: Sequence[str], run: str
) -> None:
    """A gate that did not open: once for each run, however often it is cleared."""
    happening = Happening(
        flow, "gate_failed", f"order cancel flow {flow}: the gate failed", "\n".join(reasons)
    )
    tell(journal, alerts, notify, happening, [run])


def tell_of_doubt(journal: Journal, alerts: Sequence[Alert], notify: Notify, flow: str) -> None:
    """The flow's plans in doubt: each once for each time that it comes into doubt."""
    for alert in alerts:
        if "in_doubt" not in alert.on:
            continue
        rows = {str(row.id): row for row in journal.find(flow, [State.IN_DOUBT])}
        target = _target(alert)
        journal.forget_alerts(flow, "in_doubt", list(rows), target, others=True)
        new = journal.remember_alerts(flow, "in_doubt", list(rows), target)
        if new:
            names = tuple(rows[key].name for key in new)
            message = (
                f"{len(new)} plans may or may not be in the ERP; look them up there, then `resolve` them:\n"
            )
            message += "\n".join(printable(name, 120) for name in names[:_NAMED])
            subject = f"order cancel flow {flow}: {len(new)} plans in doubt"
            _tell_one(journal, alert, notify, Happening(flow, "in_doubt", subject, message, names), new)


def tell_of_silence(journal: Journal, alerts: Sequence[Alert], notify: Notify, flow: str) -> None:
    """No success for longer than a notifier wants: once until the next success."""
    for alert in alerts:
        if alert.no_success_minutes is None:
            continue
        since = journal.silent_since(flow)
        minutes = (journal.now() - since) / 60
        if minutes > alert.no_success_minutes:
            subject = f"order cancel flow {flow}: no success for {minutes:.0f} minutes"
            happening = Happening(
                flow, "no_success", subject, f"the gate last opened {minutes:.0f} minutes ago"
            )
            tell(journal, [alert], notify, happening, [f"{since:.3f}"])


def _target(alert: Alert) -> str:
    """Tells one notifier with its arguments from another."""
    text = json.dumps([alert.notifier, alert.arguments], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]
