"""The crash points by name: every commit of the journal and every stage of every request."""

from __future__ import annotations

STATES = [
    "fetched",
    "prepared",
    "sending",
    "answered",
    "written_back",
    "done",
    "rejected",
    "held",
    "failed",
    "in_doubt",
    "passed",
    "left",
]
_COMMITS = [
    *(f"move to {state}" for state in STATES),
    *[
        "save_snapshot",
        "begin_run",
        "set_snapshot",
        "stay_alive",
        "finish_run",
        "take_page",
        "take_open",
        "begin_generations",
        "commit_run",
        "open_members",
        "claim",
        "resolve",
        "dismiss",
        "resend",
        "note_transactions",
        "claim_transaction",
        "stop",
        "go_on",
        "token_claim",
        "token_write",
    ],
]
_REQUESTS = (
    "Omnitron login",
    "list page",
    "one plan",
    "write-back",
    "transactions",
    "mappings",
    "create mapping",
    "ERP token",
    "ERP write",
    "ERP lookup",
)
_STAGES = (
    "before the connection",
    "before the first byte",
    "on the wire",
    "took effect, not yet answered",
    "answered",
)
POINTS = (
    *(f"{name}: {when} its commit" for name in _COMMITS for when in ("before", "after")),
    *(f"{name}: {stage}" for name in _REQUESTS for stage in _STAGES),
    "last query time: before it moves",
    "last query time: after it moved",
    "mapping: at work",
    "script script: at work",
    "response script: at work",
    "post script: at work",
)
