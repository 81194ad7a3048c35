"""Commands that keep the journal: `prune`, `restored`."""

from __future__ import annotations

import argparse

from include.order_cancel.cli import places
from include.order_cancel.cli.output import Said, UsageError, counted, person
from include.order_cancel.params import moment
from include.order_cancel.pruning import give_space_back, in_words, prune_flow
from include.order_cancel.restoring import note_restore
from include.order_cancel.rows import State


def prune(given: argparse.Namespace) -> Said:
    """Take from the journal what a flow's settings keep no longer."""
    retention = places.settings(given.flow, given.file).retention
    with places.journal_of(given.flow, given.journal) as journal:
        done = prune_flow(journal, given.flow, retention)
        pages = give_space_back(journal)
    back = f"; {counted(pages, 'page')} of the file given back" if pages else ""
    return Said(f"flow {given.flow}: {in_words(done)}{back}")


def restored(given: argparse.Namespace) -> Said:
    """Say that the journal was restored: what the ERP may have taken since the copy was made counts as in doubt."""
    try:
        before = moment(given.before) if given.before else None
    except ValueError as error:
        raise UsageError(f"--before: {error}") from None
    with places.journal_of(given.flow, given.journal) as journal:
        dead = len(journal.find(given.flow, [State.DEAD]))
        marked = note_restore(journal, given.flow, person(), before)
        still_dead = len(journal.find(given.flow, [State.DEAD]))
    until, were_dead = given.before or "now", _that_were_dead(dead - still_dead)
    return Said(
        f"flow {given.flow}: {counted(marked, 'open plan')} in doubt{were_dead}; so is, once it is listed, every plan "
        f"that the journal does not know and that Omnitron made before {until}. `erp.in_doubt` says what the next run "
        "does"
    )


def _that_were_dead(number: int) -> str:
    if not number:
        return ""
    return f" ({number} of them dead until now, which go on with the others: `dismiss` those that shall not)"
