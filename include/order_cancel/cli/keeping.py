"""Commands that keep the journal: `prune`, `restored`."""

from __future__ import annotations

import argparse

from include.order_cancel.cli import places
from include.order_cancel.cli.output import Said, UsageError, counted, person
from include.order_cancel.params import moment
from include.order_cancel.pruning import give_space_back, in_words, prune_flow
from include.order_cancel.restoring import note_restore


def prune(given: argparse.Namespace) -> Said:
    """Take from the journal what a flow's settings keep no longer."""
    retention = places.settings(given.flow, given.file).retention
    with places.journal(given.journal) as journal:
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
    with places.journal(given.journal) as journal:
        marked = note_restore(journal, given.flow, person(), before)
    until = given.before or "now"
    return Said(
        f"flow {given.flow}: {counted(marked, 'open plan')} in doubt; so is, once it is listed, every plan that the "
        f"journal does not know and that Omnitron made before {until}. `erp.in_doubt` says what the next run does"
    )
