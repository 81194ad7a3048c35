"""A person's word, about plans or about Omnitron's address: into the journal, under the person's name.

Nothing here sends anything. What is due then is sent by an ordinary run, which the browser starts through Airflow's API
as the user.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

from fastapi import HTTPException, Request
from pydantic import BaseModel, ConfigDict, Field

from include.order_cancel import exact_json
from include.order_cancel.adopting import Naming, adopt, keep_apart
from include.order_cancel.errors import OrderCancelError
from include.order_cancel.http import check_endpoint
from include.order_cancel.journal import Journal
from include.order_cancel.rows import Row
from include.order_cancel.scripts import strict_json
from include.order_cancel.text import printable
from include.order_cancel_page.door import Right
from include.order_cancel_page.masking import StillHidden, restored
from include.order_cancel_page.plan import row_of
from include.order_cancel_page.rights import door_of, needs, person_of, router

routes = router()
Word = Literal["arrived", "not-arrived", "release", "dismiss", "resend"]
_NEED_A_REASON = ("dismiss", "resend")


class Decision(BaseModel):
    """What is to become of which rows, and why."""

    model_config = ConfigDict(extra="forbid")

    rows: list[int] = Field(min_length=1, max_length=500)
    word: Word
    reason: str = Field("", max_length=2000)


class EditedRequest(BaseModel):
    """Another body for the ERP. `despite_doubt`: the person knows that the earlier one may have been carried out."""

    model_config = ConfigDict(extra="forbid")

    content: str = Field(max_length=1_000_000)
    reason: str = Field(min_length=1, max_length=2000)
    despite_doubt: bool = False


@routes.post("/flows/{flow}/decisions")
@needs(Right.ACT)
def decide(request: Request, flow: str, decision: Decision) -> dict[str, Any]:
    """Carry the decision into the journal, row by row: what became of each, in words."""
    reason = decision.reason.strip()
    if decision.word in _NEED_A_REASON and not reason:
        raise HTTPException(422, "say why: the reason is kept with the plan")
    journal, who = door_of(request).journal(), _who(request)
    return {
        "plans": [_decided(journal, flow, row_id, decision.word, who, reason) for row_id in decision.rows]
    }


class OmnitronWord(BaseModel):
    """Whether the Omnitron `other` is the one that the flow's Connection points to."""

    model_config = ConfigDict(extra="forbid")

    other: str = Field(max_length=255)
    same: bool
    reason: str = Field("", max_length=2000)


@routes.post("/flows/{flow}/omnitron")
@needs(Right.ACT)
def say_omnitron(request: Request, flow: str, said: OmnitronWord) -> dict[str, Any]:
    """Carry the word into the journal: the rows go on under the new name, or stay apart. How many plans, open ones."""
    door = door_of(request)
    endpoint = door.endpoint(door.settings(flow).omnitron.conn_id)
    check_endpoint(endpoint)
    naming = Naming(flow, said.other, endpoint.identity, _who(request), said.reason.strip())
    return {"plans": (adopt if said.same else keep_apart)(door.journal(), naming)}


@routes.post("/flows/{flow}/plans/{row_id}/request")
@needs(Right.ACT)
def edit_request(request: Request, flow: str, row_id: int, edited: EditedRequest) -> dict[str, Any]:
    """Keep an edited body, to be sent by the next run under a new key."""
    reason = edited.reason.strip()
    if not reason:
        raise HTTPException(422, "say why: the reason is kept with the plan")
    journal = door_of(request).journal()
    row = row_of(journal, flow, row_id)
    after = journal.edit_request(
        row.id,
        _content(journal, row, edited.content),
        who=_who(request),
        reason=reason,
        despite_doubt=edited.despite_doubt,
    )
    return {"row": after.id, "pk": after.pk, "state": after.state}


def _content(journal: Journal, row: Row, edited: str) -> str:
    """The edited body as it will be sent, the secrets back in their places. Raises HTTPException."""
    try:
        document = strict_json.loads(edited)
        last = journal.body(row.id, "request")
        original = exact_json.loads(last.content) if last is not None and last.content else None
        return exact_json.dumps(restored(document, original), ensure_ascii=False, allow_nan=False)
    except StillHidden as error:
        raise HTTPException(422, str(error)) from None
    except (ValueError, RecursionError) as error:
        raise HTTPException(422, f"the request is not JSON: {error}") from None


def _who(request: Request) -> str:
    return printable(person_of(request).name, 60)


def _decided(journal: Journal, flow: str, row_id: int, word: Word, who: str, reason: str) -> dict[str, Any]:
    row = row_of(journal, flow, row_id)
    try:
        after = _WORDS[word](journal, row, who, reason)
    except OrderCancelError as error:
        return {"row": row.id, "pk": row.pk, "done": False, "message": str(error)}
    message = f"{row.name}: {row.state} > {after.state}"
    return {"row": after.id, "pk": after.pk, "done": True, "message": message}


_WORDS: dict[str, Callable[[Journal, Row, str, str], Row]] = {
    "arrived": lambda journal, row, who, why: journal.resolve(row.id, arrived=True, who=who, reason=why),
    "not-arrived": lambda journal, row, who, why: journal.resolve(row.id, arrived=False, who=who, reason=why),
    "release": lambda journal, row, who, why: journal.release(row.id, who=who, reason=why),
    "dismiss": lambda journal, row, who, why: journal.dismiss(row.id, who=who, reason=why),
    "resend": lambda journal, row, who, why: journal.resend(row.id, who=who, reason=why),
}
