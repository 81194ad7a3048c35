"""The pipeline, in the order in which a plan travels.

script > mapping > write_to_erp (with the Custom Response Script) > write_to_omnitron > post_script.
Each step is a function that moves a plan's row one state on and does nothing where that has been done already, so
that a crash, a clear, a retry and a rerun are all the same: look at the row and go on from there.
"""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any
from urllib.parse import parse_qsl

from yarl import URL

from include.order_cancel import erp as erp_system
from include.order_cancel import exact_json
from include.order_cancel.errors import (
    JournalDown,
    LeaseLost,
    PlanFailed,
    RetryLater,
    ScriptFailed,
    StopFlow,
    TokenRefused,
)
from include.order_cancel.http import (
    Answer,
    NotSent,
    OutcomeUnknown,
    Request,
    SystemDown,
    asks_for_long,
    retry_delay,
)
from include.order_cancel.journal import idempotency_key
from include.order_cancel.omnitron import (
    PlanGone,
    TransactionGone,
    amount_of,
    content_digest,
    misfit,
    same_content,
    same_to_the_line,
    status_word_of,
)
from include.order_cancel.placing import (
    LISTED_AGAIN,
    NO_PLAN,
    NO_TRANSACTION,
    NOT_WRITTEN,
    SHOWN_AGAIN,
    STOPPED_THE_RUN,
)
from include.order_cancel.rows import WAITING, Body, Member, Post, Relation, Row, State
from include.order_cancel.scripts.contract import CUT
from include.order_cancel.scripts.default_response import DEFAULT_RESPONSE_SCRIPT
from include.order_cancel.scripts.process import ScriptRunFailed
from include.order_cancel.secrecy import mask, mask_cut
from include.order_cancel.text import json_text, printable
from include.order_cancel.tokens import CannotOpen, seal, unseal
from include.order_cancel.under_way import Plan, Work, log
from include.order_cancel.whole_order import DELIVERED, MAPPED, SETTLED, Standing, is_open, pks_of, standing

STEPS = ("script", "mapping", "write_to_erp", "write_to_omnitron", "post_script")
_SEND_TRIES = 3
# Refusals of a repeated request that are about the request itself, so that the first one was refused as well. Others
# may come from a gateway, or from an ERP that is still at work on the first one (409).
_SETTLES_DOUBT = frozenset({400, 422})
_CONFLICT = 409
# To an older token these are about it, most likely: a response script is asked of the answer to the new one.
_ABOUT_AN_OLD_TOKEN = frozenset({403, 419, 440})
_MAY_BE_DONE = frozenset({"unknown", "accepted"})
# How many plans may be rejected under settings under which the ERP has not accepted one yet.
_REJECTED_UNPROVEN = 5
_SCRIPT_ERROR = "log.script.error"
_OTHER_CONTENT = "Omnitron shows other content than before"
_SEALED = "secret_original"  # named so that nobody is shown it
_SEALED_FOR_GOOD = "the ERP's answer was encrypted under the Connection's secrets, which have changed since"
_NOT_KNOWN = "it is not known whether the ERP took it: "
_NOT_AGAIN = "; it is not sent again: "
_FREE_ATTEMPTS = 5
# So many plans, all of them refused, are what a wrong mapping or address looks like.
_REFUSALS_THAT_STOP = 16
# An absence is asked about again once whatever made it up for a moment is over, as a gateway's restart is.
_ABSENCE_SECONDS = 600.0
_BACKOFF_SECONDS = 600.0
_LONGEST_BACKOFF_SECONDS = 6 * 3600.0
_DOUBLINGS = 6  # more would be longer than the longest, and from some thousand on no float at all


class _StartOver(Exception):
    """Omnitron shows other content than what was prepared: the steps begin anew with it."""


async def advance(plan: Plan, upto: str) -> Row:
    """Perform every configured step that the plan has still to make, up to and including `upto`, and give its row back.

    Whatever fails becomes the row's state and error; nothing is raised for it. Raises LeaseLost and RetryLater.
    """
    try:
        try:
            await _walk(plan, upto)
        except _StartOver:
            await _walk(plan, upto)
    except (LeaseLost, RetryLater):
        raise
    except StopFlow as error:
        plan.stopped_the_run = plan.stopped_the_run or error.own_stop
        await _stop(plan, str(error), error.alert)
    except PlanFailed as error:
        plan.stopped_the_run = plan.stopped_the_run or error.own_stop
        await _fail(plan, str(error))
    except Exception as error:
        log.exception("[%s] unexpected error", printable(plan.row.name, 120))
        await _fail(plan, f"unexpected error, a fault of this package: {type(error).__name__}")
    if plan.row.state is State.WRITTEN_BACK and plan.settings.post_script is None:
        plan.row.state = State.DONE  # the settings had a post script when it was written back
    if plan.row.state is State.IN_DOUBT and plan.sent_now and plan.settings.erp.in_doubt == "resend":
        await _back_off(plan)
    if plan.stopped_the_run and plan.row.state in WAITING:
        await _rest(plan)
    await plan.commit(release=True)
    await _stop_where_all_are_refused(plan)
    if plan.row.at_rest:
        _log_attributes(plan)
    return plan.row


async def _walk(plan: Plan, upto: str) -> None:
    for name in STEPS[: STEPS.index(upto) + 1]:
        if plan.row.at_rest and not (name == "post_script" and plan.row.post is Post.FAILED):
            continue
        await _STEPS[name](plan)


async def begin(work: Work, row: Row, member: Member) -> Plan:
    """Open a leased row for this task: a new attempt, or the same one going on.

    The run's own first attempt uses the run's snapshot of the settings. One that was cleared, is a retry, or belongs
    to a run that a later one has overtaken uses the settings as they are.
    """
    first = row.attempt_run != work.run.id
    stale = work.again or work.overtaken
    unsent = row.state in (State.FETCHED, State.PREPARED)
    new_attempt = first or work.again or (work.overtaken and unsent) or (row.at_rest and not row.finished)
    digest, uncounted = row.snapshot, False
    if first:
        uncounted = row.state is State.IN_DOUBT  # to wait for a word about it is no attempt, to send it is
        row.attempts += not uncounted
        row.attempt_run = work.run.id
    if first and not stale:
        digest = work.run.snapshot
    elif new_attempt:
        digest = await work.current_digest()
    fresh = not stale and (first or not new_attempt)
    plan = Plan(row, work, await work.tools(digest), member.listed, fresh, uncounted=uncounted)
    if new_attempt and digest != work.run.snapshot:
        plan.say("the settings have changed since the run began; this attempt uses them as they are now")
        plan.note("attempt", "settings differ", f"{work.run.snapshot[:12]} > {digest[:12]}")
    row.snapshot = digest
    if new_attempt:
        _begin_attempt(plan, await _refused_edit(plan))
    row.attributes.setdefault("channel_type", plan.settings.omnitron.channel_type)
    return plan


async def _refused_edit(plan: Plan) -> Request | None:
    """The request whose body a person wrote, where the ERP has refused it."""
    if plan.row.progress != "request" or plan.row.outcome != "refused":
        return None
    body = await plan.work.writer.call(plan.work.journal.body, plan.row.id, "request")
    if body is None or "edited_by" not in body.meta:
        return None
    return _request_in(plan, body)


def _begin_attempt(plan: Plan, edited: Request | None) -> None:
    row = plan.row
    if row.state is State.IN_DOUBT:  # the policy of this attempt's settings decides
        row.state = State.SENDING if row.key else State.FETCHED  # without a key: see `restoring`
    if row.state is State.DEAD and plan.work.again:
        row.state = State.FAILED  # a person cleared its task
    if row.state not in (State.FETCHED, State.PREPARED, State.HELD, State.FAILED):
        return
    row.error = None
    if row.answer_stands:
        row.state = State.ANSWERED
    elif _doubtful(row) and row.relation is not Relation.DO_NOTHING and row.key:
        row.state, row.relation = State.ANSWERED, None
        row.attributes.pop(_SCRIPT_ERROR, None)  # of the response script that failed before
    elif row.progress == "request" and row.outcome != "refused":
        row.state = State.PREPARED
        if not _doubtful(row):
            row.relation, row.outcome = None, ("not_arrived" if row.outcome == "not_arrived" else "")
    elif edited is not None:
        _keep_edit(plan, edited)
    else:
        if row.outcome == "refused":
            row.body_number += 1
        # A journal was restored: what may have been sent before is built again, and stays in doubt.
        row.outcome = "unknown" if row.outcome == "unknown" else ""
        row.state, row.progress, row.relation = State.FETCHED, "", None
        row.attributes = {}


def _keep_edit(plan: Plan, edited: Request) -> None:
    """The body that a person wrote stays theirs: it is sent once more, under a new key."""
    row, old_key = plan.row, plan.row.key
    row.body_number += 1
    row.key = idempotency_key(row)
    row.state, row.relation, row.outcome = State.PREPARED, None, ""
    headers = {name: row.key if value == old_key else value for name, value in edited.headers.items()}
    plan.request = replace(edited, headers=headers)
    _keep_request(plan, plan.request)


# Script Step


async def script(plan: Plan) -> None:
    """Transform the plan document with the flow's script; its attributes go on with the plan."""
    source = plan.settings.script
    if source is None or plan.row.state is not State.FETCHED or plan.row.progress:
        return
    began = time.monotonic()
    if not await _still_due(plan):
        return
    result = await _run_script(plan, "script", source.text, await _document(plan))
    if result.refused:
        raise ScriptFailed("the script chose REL_FAILURE" + (f": {result.reason}" if result.reason else ""))
    plan.document, plan.row.progress = result.result, "script"
    if not plan.work.many:
        plan.keep("script", json_text(plan.document))
    plan.note("script", "done", seconds=time.monotonic() - began)
    plan.tell("script done")


# Mapping Step


async def mapping(plan: Plan) -> None:
    """Transform the document with the flow's Jolt chain."""
    source = plan.settings.mapping
    if source is None or plan.row.state is not State.FETCHED:
        return
    began = time.monotonic()
    if not await _still_due(plan):
        return
    plan.document = await _mapped(plan, source.text)
    plan.row.state, plan.row.progress = State.PREPARED, "mapping"
    if not plan.work.many:
        plan.keep("prepared", json_text(plan.document))
    plan.note("mapping", "done", seconds=time.monotonic() - began)
    plan.tell("mapping done")


async def _mapped(plan: Plan, spec: str) -> Any:
    if plan.document is None and not plan.row.progress and plan.preloaded is not None:
        return await plan.tools.scripts.map_text(spec, plan.preloaded)
    return await plan.tools.scripts.map(spec, await _document(plan))


# Write Data to ERP Step


async def write_to_erp(plan: Plan) -> None:
    """Send the document to the ERP, and find out what its answer means."""
    row = plan.row
    if row.state is State.ANSWERED:
        if not row.answer_stands:
            await _judge_stored_answer(plan)
            await plan.commit()  # its meaning is kept before the write-back starts
        return
    if row.state is State.SENDING:
        await _settle_doubt(plan)
        return
    if row.state not in (State.FETCHED, State.PREPARED):
        return
    await _check_not_stopped(plan)
    if not await _still_due(plan):
        return
    if row.progress == "request":
        plan.request = await _stored_request(plan)
    else:
        row.key = idempotency_key(row)
        plan.request = erp_system.build_request(
            plan.settings.erp, plan.tools.erp.caller.endpoint, await _document(plan), row.key
        )
        plan.built, plan.request_meta = True, {"snapshot": row.snapshot}
        _keep_request(plan, plan.request)
    if row.outcome == "unknown" and row.relation is not Relation.DO_NOTHING:
        row.progress, row.error = "request", "the journal was restored"
        await plan.commit()
        await _settle_doubt(plan)
        return
    await _send(plan, plan.request)


def _keep_request(plan: Plan, request: Request) -> None:
    """Keep what is about to be sent, and who has made it."""
    plan.request_meta = {
        **plan.request_meta,
        "method": request.method,
        "url": request.url,
        "key": plan.row.key,
        "headers": dict(request.headers),
        "connection": plan.tools.erp.caller.endpoint.identity,
    }
    plan.keep("request", (request.body or b"").decode(), plan.request_meta)


def _addressed(plan: Plan, request: Request) -> Request | None:
    """The request as it goes out: what certainly was not done goes to the address of the settings as they are.

    What may be done goes where it went. None where that is no address of the settings any more: the plan is in doubt
    then. Raises PlanFailed where what was not done cannot go to their address.
    """
    row, erp, undone = plan.row, plan.tools.erp, plan.row.outcome not in _MAY_BE_DONE
    if plan.built:
        if not erp.caller.reaches(request.url):
            raise PlanFailed(
                f"its request is for {_host(request)}, which is no address of the settings; nothing was sent"
            )
        return request
    sent = request
    if undone:
        sent = erp_system.readdressed(request, plan.settings.erp, erp.caller.endpoint, row.key or "")
    if not erp.caller.reaches(sent.url):
        if not undone:
            _doubt(plan, f"{row.error or 'it was sent before'}{_NOT_AGAIN}{_went_elsewhere(request)}")
            return None
        raise PlanFailed(
            f"its {request.method} request is for {_host(request)}, and the settings lead elsewhere by another method; "
            "set them back, or `dismiss` it and `resend` it as a new request"
        )
    if sent != request:
        plan.request = sent
        _keep_request(plan, sent)
        what, where = "new headers" if sent.url == request.url else "new address", sent.url.partition("?")[0]
        plan.note("write_to_erp", what, f"{where}, same body and key")
        plan.say(f"not taken before: the same body and key go to {where}, as the settings say now")
    return sent


def _host(request: Request) -> str:
    return printable(URL(request.url, encoded=True).raw_authority, 200)


def _went_elsewhere(request: Request) -> str:
    return (
        f"it went to {_host(request)}, where the settings do not lead any more; set the Connection back, or look it up "
        "there and `resolve` or `dismiss` it"
    )


async def _send(plan: Plan, stored: Request) -> None:
    """Send until there is an answer that counts: retries in place, one new token, the policy for doubt."""
    if (request := _addressed(plan, stored)) is None:
        return
    renewed = False
    for tries in range(1, _SEND_TRIES + 2):
        earlier = plan.row.outcome
        answer, outcome, why = await _send_once(plan, request, renewed=renewed)
        old_token = answer is not None and outcome == "auth_fail" and answer.status in _ABOUT_AN_OLD_TOKEN
        if answer is not None and plan.settings.erp.custom_response and not old_token:
            await _judge(plan, request, answer, outcome)
            if plan.row.relation not in (Relation.AUTH_FAIL, Relation.UNKNOWN):
                await plan.commit()
                return
            outcome, why = plan.row.relation.value, plan.row.error or why
            plan.row.relation = None
            plan.row.outcome = _outcome_after(earlier, outcome)
        if outcome in ("accepted", "refused") and answer is not None:
            await _judge_by_default(plan, answer, outcome)
            await plan.commit()  # the answer is kept before the write-back starts
            return
        if outcome == "auth_fail":
            if renewed:
                raise TokenRefused(
                    f"the ERP refused the token twice ({why}); nothing more is sent in this run"
                )
            renewed = True
            plan.say("the ERP refused the token: one new token, then once more")
            await plan.tools.erp.renew_token(answer)
            continue
        if outcome == "unknown" and not await _may_repeat(plan, request, why):
            return
        delay = retry_delay(answer, tries) if tries < _SEND_TRIES else None
        if delay is None:
            _give_up(plan, tries, why)
            return
        plan.say(f"{why}; tried again in {delay:.1f} s (try {tries} of {_SEND_TRIES})", logging.WARNING)
        await plan.tools.erp.caller.sleep(delay)
    raise TokenRefused("the ERP refused the token again; nothing more is sent in this run")


async def _send_once(plan: Plan, request: Request, *, renewed: bool) -> tuple[Answer | None, str, str]:
    """One request: intent committed before its first byte, the answer after its last.

    `renewed`: the token is new, so that only a 401 can be about it. Returns the answer, the class of the outcome, and
    why in words.
    """
    row, earlier, left_alone = plan.row, plan.row.outcome, plan.row.relation is Relation.DO_NOTHING
    state = row.state
    await _await_turn(plan)
    plan.work.writer.check()
    row.attempts += plan.uncounted
    plan.uncounted = False
    row.state = State.SENDING
    plan.set_deadline()
    plan.note("write_to_erp", "sending", f"{request.method} key {row.key}")
    await plan.commit()
    began = time.monotonic()
    answer: Answer | None = None
    why = ""
    try:
        answer = await plan.tools.erp.send(request, before=plan.before_first_byte)
        plan.hear(answer)
        outcome = _meaning(plan, answer, earlier)
        if not renewed and plan.tools.erp.may_renew(answer):
            outcome = "auth_fail"
        if outcome != "accepted" or plan.settings.erp.custom_response:
            why = erp_system.told(answer, plan.settings.erp)
    except NotSent as error:
        outcome, why = "not_done", str(error)
    except OutcomeUnknown as error:
        outcome, why = "unknown", str(error)
    except (StopFlow, LeaseLost):
        row.state = State.PREPARED  # nothing was sent
        raise
    except JournalDown:
        row.state = state  # nothing was sent
        plan.note("write_to_erp", "not sent", "the journal could not be reached")
        await plan.commit(release=True)
        raise
    if outcome == "not_done" and (earlier not in _MAY_BE_DONE or left_alone):
        row.state = State.PREPARED  # what had not arrived before has not now
    if answer is not None or outcome == "unknown":
        row.progress = "request"  # bytes have left under this key: they stay as they are until a refusal
        row.relation = None
    row.outcome = _outcome_after(earlier, outcome)
    row.http_status = answer.status if answer is not None else None
    row.error = None if outcome == "accepted" else why
    plan.note(
        "write_to_erp",
        outcome,
        why if outcome != "accepted" else f"HTTP {row.http_status}",
        seconds=time.monotonic() - began,
    )
    if answer is not None:
        _keep_answer(plan, answer, **({"old_token": True} if outcome == "auth_fail" else {}))
        row.state = State.ANSWERED
        row.erp_reference = (
            erp_system.reference(answer, plan.settings.erp.reference_path) or row.erp_reference
        )
    plan.work.measure("timing", "erp.latency", (time.monotonic() - began) * 1000)
    plan.sent_now = True
    if answer is None or outcome != "accepted" or plan.settings.erp.custom_response:
        await plan.commit()
    caller = plan.tools.erp.caller
    if answer is not None:
        await caller.pass_on(answer)
    if (reason := caller.breaker.reason) and not plan.work.stop_reason:
        # Before another task of the run asks the ERP.
        await plan.work.stop(printable(reason, 2000), SystemDown.alert)
    plan.stopped_the_run = bool(caller.breaker.reason) and answer is not None and asks_for_long(answer)
    return answer, outcome, why


def _meaning(plan: Plan, answer: Answer, earlier: str) -> str:
    """What an answer says. Of an earlier request that may be done most refusals of its repeat say nothing."""
    meaning = erp_system.classify(answer, plan.settings.erp)
    if meaning != "refused":
        return meaning
    if plan.request_meta.get("despite_doubt"):
        return "unknown"  # of the request before the edit it says nothing
    settles = answer.status in _SETTLES_DOUBT
    if earlier == "not_arrived" and not settles:
        # The ERP may know the key after all (409), and a gateway may have answered: the key stays.
        return "unknown" if answer.status == _CONFLICT else "not_done"
    if earlier in _MAY_BE_DONE:
        return meaning if earlier == "unknown" and settles else "unknown"
    return meaning


def _outcome_after(earlier: str, outcome: str) -> str:
    """What is known of all requests under the key after one more, with `outcome`; `earlier`: what was known before."""
    if earlier == "accepted" and outcome != "accepted":
        return "accepted"
    if earlier in ("unknown", "not_arrived") and outcome in ("not_done", "auth_fail"):
        return earlier
    return outcome


def _doubtful(row: Row) -> bool:
    """Whether the ERP may have done what was asked, and nobody has judged that to the end."""
    return row.outcome in _MAY_BE_DONE and not row.answer_stands


async def _await_turn(plan: Plan) -> None:
    """Keep `Retry-After` together with all that ask the ERP, and `erp.requests_per_second` with the run's other tasks.

    A lot has a share of its own of the rate. Raises StopFlow where another task has stopped the run.
    """
    rate, caller = plan.settings.erp.requests_per_second, plan.tools.erp.caller
    await caller.rested()
    if rate and not plan.work.many:
        wait = await plan.work.writer.call(plan.work.journal.take_turn, plan.work.run.id, 1 / rate)
        await caller.sleep(wait)
        await caller.rested()  # another task may have heard of a wish meanwhile
    await plan.work.look()
    await _check_not_stopped(plan)


async def _judge_by_default(plan: Plan, answer: Answer, outcome: str) -> None:
    row, settings = plan.row, plan.settings.erp
    if outcome == "accepted":
        row.state, row.relation, row.error = State.ANSWERED, Relation.CONTINUE, None
        reference = f", reference {row.erp_reference}" if row.erp_reference else ""
        plan.tell(f"the ERP took it: HTTP {answer.status} in {answer.seconds * 1000:.0f} ms{reference}")
        if settings.refusal == "failure" and plan.made_by_these:
            await plan.work.note_acceptance(row.snapshot)
        return
    why = f"the ERP refused it: {answer.describe()}"
    if settings.refusal == "failed":
        raise PlanFailed(why)
    if await _follows_another(plan):
        raise PlanFailed(f"{why}; it is not rejected, since an earlier generation of it was sent, too")
    if not plan.made_by_these:
        made = "a person wrote the request" if plan.edited else "other settings made the request"
        raise PlanFailed(f"{why}; it is not rejected, since {made}")
    if answer.status not in settings.rejects:
        raise PlanFailed(f"{why}; only the statuses of erp.rejects reject a plan")
    if not await plan.work.writer.call(plan.work.journal.may_reject, row.snapshot, _REJECTED_UNPROVEN):
        raise PlanFailed(
            f"{why}; it is not rejected, since {_REJECTED_UNPROVEN} plans were, and the ERP has accepted none under "
            "these settings: check the mapping"
        )
    row.state, row.relation = State.ANSWERED, Relation.FAILURE
    plan.say(f"the ERP refused it, which rejects the plan: {row.error}", logging.WARNING)


async def _may_repeat(plan: Plan, request: Request, why: str) -> bool:
    """Whether the same bytes may go out again after an unknown outcome; if not, the row's state says what now."""
    policy = plan.settings.erp.in_doubt
    if policy == "resend":
        if unsafe := _why_not_repeated(plan, request):
            _doubt(plan, f"{why}{_NOT_AGAIN}{unsafe}")
        return not unsafe
    if policy == "lookup":
        return not await _settled_by_lookup(plan, request)
    _doubt(plan, why)
    return False


def _why_not_repeated(plan: Plan, request: Request) -> str:
    """Why `resend` may not repeat this request, whose outcome is unknown; empty where it may."""
    if not plan.tools.erp.caller.reaches(request.url):
        return _went_elsewhere(request)
    return _lacks_key(plan, request)


def _sent_often(plan: Plan) -> str:
    """Why no further run repeats it: `max_attempts` runs have. A person who clears its task lets it be repeated."""
    most = plan.settings.max_attempts
    if most is None or plan.row.attempts < most or plan.work.again:
        return ""
    return f"{plan.row.attempts} runs have sent it, as many as max_attempts allows; `resolve` or `dismiss` it"


def _lacks_key(plan: Plan, request: Request) -> str:
    settings = plan.settings.erp
    if erp_system.carries_key(request, settings, plan.row.key or ""):
        return ""
    return (
        f"it was sent without its key in '{settings.idempotency_header}', so the ERP cannot know it by the key; "
        "look it up there and `resolve` or `dismiss` it"
    )


async def _settle_doubt(plan: Plan) -> None:
    """A row whose request was interrupted or never answered: bytes and key stay as they are, the policy decides."""
    row = plan.row
    row.outcome, row.relation = ("accepted" if row.outcome == "accepted" else "unknown"), None
    row.progress = "request"  # bytes may have left under this key, whoever was to say so
    why = (row.error or "the task ended between sending and the answer").removeprefix(_NOT_KNOWN)
    policy = plan.settings.erp.in_doubt
    plan.request = await _stored_request(plan)
    if policy == "hold":
        _doubt(plan, why)
        return
    why = why.partition(_NOT_AGAIN)[0]  # what keeps it now may be something else
    await _check_not_stopped(plan)
    if policy == "lookup" and await _settled_by_lookup(plan, plan.request):
        return
    if policy == "resend":
        unsafe = _why_not_repeated(plan, plan.request) or _sent_often(plan)
        if not unsafe and not plan.looked:
            _, left, changed = await _look(plan)
            unsafe = left or (_OTHER_CONTENT if changed else "")
        if unsafe:
            _doubt(plan, f"{why}{_NOT_AGAIN}{unsafe}")
            return
    plan.say(f"sent again with the same key {row.key}: {why}", logging.WARNING)
    plan.note("write_to_erp", "sent again", f"flagged repeat, same key; {why}")
    await _send(plan, plan.request)


async def _settled_by_lookup(plan: Plan, request: Request) -> bool:
    """Ask `erp.lookup` whether the request arrived. True where the plan need not be sent (now).

    Found counts at once. Not there counts only once the ERP has had its time, and the plan is looked at in Omnitron
    before it is sent again.
    """
    if untold := await _why_not_looked_up(plan, request):
        _doubt(plan, untold)
        return True
    try:
        wait = await plan.until_settled()
        answer = await _looked_up(plan, request)
        if answer is None and wait > 0:
            plan.say(f"the ERP does not have it yet; it is asked again in {wait:.0f} s", logging.WARNING)
            plan.note("write_to_erp", "lookup", f"not there yet, asked again in {wait:.0f} s")
            await plan.wait(wait)
            answer = await _looked_up(plan, request)
    except OutcomeUnknown as error:
        plan.stopped_the_run = bool(plan.tools.erp.caller.breaker.reason)
        _doubt(plan, f"the lookup gave no answer: {error}")
        return True
    if answer is None:
        plan.note("write_to_erp", "lookup", "not arrived")
        plan.row.outcome = "not_arrived"
        document, left, changed = await _look(plan)
        if left:
            _leave(plan, left)
        elif changed:
            _set_changed(plan, document)
        return plan.row.at_rest
    await _take_found(plan, request, answer)
    return True


async def _why_not_looked_up(plan: Plan, request: Request) -> str:
    """Why the lookup of the settings as they are tells nothing of this request; empty where it does."""
    settings, endpoint = plan.settings.erp, plan.tools.erp.caller.endpoint
    if settings.lookup_by_key:
        if lacking := _lacks_key(plan, request):
            return lacking
    elif await _follows_another(plan):
        return "the lookup does not ask by {{ key }}, so it cannot tell this request from an earlier one"
    if not erp_system.same_host(request, settings, endpoint):
        return f"the lookup tells nothing of it: {_went_elsewhere(request)}"
    if settings.lookup is None or not settings.lookup.url.startswith("/"):
        return ""
    known = plan.request_meta.get("connection")  # an earlier version did not keep it
    if known in (None, endpoint.identity):
        return ""
    return (
        f"the lookup tells nothing of it: the Connection led to {known} when its request was made; set it back, or "
        "look it up there and `resolve` or `dismiss` it"
    )


async def _take_found(plan: Plan, request: Request, answer: Answer) -> None:
    """Go by the answer in which the lookup found the request: the ERP has it, or has refused it."""
    plan.hear(answer)
    meaning = erp_system.found_means(answer, plan.settings.erp)
    what = "has refused it" if meaning == "refused" else "has it"
    plan.note("write_to_erp", "lookup", "refused" if meaning == "refused" else "arrived")
    if meaning == "refused" and plan.row.body_number > 1 and not plan.settings.erp.lookup_by_key:
        _doubt(
            plan,
            "the lookup does not ask by {{ key }}, so the refusal that it finds may be an earlier "
            "request's; look it up there and `resolve` or `dismiss` it",
        )
        return
    if meaning == "refused":
        plan.row.error = f"the lookup was answered with {answer.describe()}"
    plan.say(f"the ERP {what} already: its lookup answer counts")
    _keep_answer(plan, answer, found=True)
    plan.row.state, plan.row.outcome, plan.row.http_status = State.ANSWERED, meaning, answer.status
    plan.row.request_deadline, plan.sent_now = 0.0, False
    plan.row.erp_reference = (
        erp_system.reference(answer, plan.settings.erp.reference_path) or plan.row.erp_reference
    )
    await _judge_found(plan, request, answer)
    await plan.commit()


async def _judge_found(plan: Plan, request: Request, answer: Answer) -> None:
    """What a lookup has found is known to the ERP: whatever else a script says of it, it is not sent again."""
    meaning = erp_system.found_means(answer, plan.settings.erp)
    if not plan.settings.erp.custom_response:
        await _judge_by_default(plan, answer, meaning)
        return
    await plan.commit()
    await _judge(plan, request, answer, meaning)
    if not plan.row.answer_stands:
        what, word = "has refused it" if meaning == "refused" else "has it", plan.row.relation
        _doubt(plan, f"the ERP {what}, but the response script says {word} of the lookup's answer")


async def _follows_another(plan: Plan) -> bool:
    """Whether the ERP may know an earlier request of the plan by another key, which is found by its number, too."""
    row = plan.row
    if plan.request_meta.get("despite_doubt"):
        return True
    if row.generation == 1 or row.sent_again:
        return row.sent_again
    rows = await plan.work.writer.call(plan.work.journal.generations, row.flow, row.pk)
    earlier = (other for other in rows if other.host == row.host and other.generation < row.generation)
    return any(other.key or other.outcome for other in earlier)


def _keep_answer(plan: Plan, answer: Answer, **marks: bool) -> None:
    """Keep an answer in the journal as people may see it; where that differs, sealed beside it as it came.

    `marks`: `old_token`: it may be about the token that was used; `found`: it is a lookup's.
    """
    headers = erp_system.named_headers(answer, plan.settings.erp)
    came = {"text": answer.text, "reason": answer.reason, "headers": headers}
    shown = {
        "text": answer.shown,
        "reason": mask(answer.reason, answer.secrets),
        "headers": {name: mask(text, answer.secrets) for name, text in headers.items()},
    }
    meta = {"status": answer.status, "reason": shown["reason"], "url": answer.url, **marks}
    if headers:
        meta["headers"] = shown["headers"]
    if shown != came:
        whole = json.dumps({**came, "secrets": answer.secrets})
        meta[_SEALED] = seal(whole, plan.tools.erp.caller.endpoint.key_material)
    plan.keep("response", answer.shown, meta)


def _kept_answer(plan: Plan, body: Body) -> Answer:
    """An answer from the journal, as it came. Raises CannotOpen where it was sealed under another secret."""
    meta: dict[str, Any] = {"text": body.content, "headers": {}, "secrets": (), **body.meta}
    if sealed := meta.get(_SEALED):
        meta |= json.loads(unseal(sealed, plan.tools.erp.caller.endpoint.key_material))
    answer = Answer(
        meta["status"],
        meta["reason"],
        meta["headers"],
        meta["text"].encode("utf-8", "replace"),
        meta["url"],
        0.0,
        secrets=tuple(meta["secrets"]),
    )
    plan.hear(answer)
    return answer


async def _looked_up(plan: Plan, request: Request) -> Answer | None:
    return await plan.tools.erp.look_up(
        plan=await _original(plan), body=_sent(request), key=plan.row.key or ""
    )


def _doubt(plan: Plan, why: str) -> None:
    plan.row.state, plan.row.relation = State.IN_DOUBT, None
    plan.row.outcome = "accepted" if plan.row.outcome == "accepted" else "unknown"
    plan.row.error = _NOT_KNOWN + why
    plan.note("write_to_erp", "in doubt", why)


def _give_up(plan: Plan, tries: int, why: str) -> None:
    if _doubtful(plan.row) and plan.row.relation is not Relation.DO_NOTHING:
        _doubt(plan, why)
    else:
        raise PlanFailed(f"the ERP did not take it in {tries} {'try' if tries == 1 else 'tries'}: {why}")


# Custom Response Script Step


async def _judge_stored_answer(plan: Plan) -> None:
    body = await plan.work.writer.call(plan.work.journal.body, plan.row.id, "response")
    if body is None:
        raise PlanFailed("the journal no longer holds the ERP's answer; `resolve` the plan by hand")
    meta = body.meta
    try:
        answer = _kept_answer(plan, body)
    except CannotOpen:
        _doubt(plan, f"{_SEALED_FOR_GOOD}; look it up in the ERP and `resolve` or `dismiss` it")
        return
    request = await _stored_request(plan)
    if meta.get("found"):
        await _judge_found(plan, request, answer)
        return
    outcome = "auth_fail" if meta.get("old_token") else _meaning(plan, answer, plan.row.outcome)
    if plan.settings.erp.custom_response:
        await _judge(plan, request, answer, outcome)
        if plan.row.relation not in (Relation.AUTH_FAIL, Relation.UNKNOWN):
            return
        outcome, plan.row.relation = plan.row.relation.value, None
        plan.row.outcome = _outcome_after(plan.row.outcome, outcome)
    if outcome in ("accepted", "refused"):
        await _judge_by_default(plan, answer, outcome)
    elif outcome == "unknown":
        _doubt(plan, erp_system.told(answer, plan.settings.erp))
    else:
        await _check_not_stopped(plan)
        document, left, changed = await _look(plan)
        if left or changed:
            if _doubtful(plan.row):
                _doubt(plan, f"it is not sent again: {left or _OTHER_CONTENT}")
            elif left:
                _leave(plan, left)
            else:
                _set_changed(plan, document)
            return
        if outcome == "auth_fail":
            await plan.tools.erp.renew_token()
        await _send(plan, request)


async def _judge(plan: Plan, request: Request, answer: Answer, meaning: str) -> None:
    """Let the response script say what the answer means; its relation decides. `meaning`: what `classify` says."""
    row, source = plan.row, plan.settings.erp.custom_response_script
    text = source.text if source is not None else DEFAULT_RESPONSE_SCRIPT
    sent = _sent(request)
    given = {
        "invokehttp.status.code": str(answer.status),
        "invokehttp.status.message": answer.reason,
        "invokehttp.response.body": answer.text,
        "invokehttp.request.url": answer.url,
        "answer.meaning": meaning,
        "request_data": exact_json.dumps(sent)
        if request.body is None
        else request.body.decode("utf-8", "replace"),
    }
    if "rejected_count" in text:
        given["rejected_count"] = await _rejected_count(plan)
    row.attributes.pop("relation", None)
    result = await _run_script(plan, "response", text, None, given, request=sent, response=answer.text)
    if result.refused:
        raise ScriptFailed(
            "the response script chose REL_FAILURE" + (f": {result.reason}" if result.reason else "")
        )
    try:
        row.relation = Relation(result.relation or "")
    except ValueError:
        said_what = (
            "no relation"
            if not result.relation
            else f"the unknown relation {printable(plan.masked(result.relation), 60)!r}"
        )
        raise ScriptFailed(f"the response script gave {said_what}; known are {', '.join(Relation)}") from None
    reason = printable(result.reason or "", 500)
    plan.note("custom_response", row.relation, reason)
    plan.say(f"the response script says {row.relation}" + (f": {reason}" if reason else ""))
    row.error = reason or (row.error if row.relation is not Relation.CONTINUE else None)
    if row.relation is Relation.DO_NOTHING:
        final = plan.settings.omnitron.cancel_status == "completed"
        row.state = State.PASSED if final else State.HELD


# Write Data to Omnitron Step


async def write_to_omnitron(plan: Plan) -> None:
    """Tell Omnitron what became of the plan: its next state, or that it is rejected."""
    row = plan.row
    if row.state is not State.ANSWERED or not row.answer_stands:
        return
    settings, profile = plan.settings.omnitron, plan.settings.omnitron.api
    word = None
    if row.relation is Relation.CONTINUE and plan.settings.writes_status and settings.next_state:
        word = profile.word(settings.next_state)
    elif row.relation is Relation.FAILURE and settings.cancel_status not in (
        "completed",
        "order_transaction",
    ):
        word = profile.word("rejected")
    shown = None if plan.sent_now else await _shown(plan)
    gone = word is not None and shown is None and not plan.sent_now
    if gone:
        await _check_gone(plan)
    if shown is not None and row.relation is Relation.CONTINUE and await _is_other(plan, shown):
        _set_changed(plan, shown)
        return
    if shown is not None and row.relation is Relation.FAILURE and shown.get("status") != word:
        if left := _misfit(plan, shown):
            _leave(plan, left)
            return
        if await _is_other(plan, shown):
            row.relation = None
            raise PlanFailed(f"the ERP refused it, and it is not rejected: {_OTHER_CONTENT}")
    if word is not None and row.sent_again and not gone:
        word = await _still_wanted(plan, word, shown)
    elif word is not None and shown is not None and row.relation is Relation.CONTINUE:
        word = _due_status(plan, word, shown.get("status"))
        if plan.row.at_rest:
            return
    if word is None:
        plan.note("write_to_omnitron", "nothing to write")
    elif shown is not None and shown.get("status") == word:
        plan.note("write_to_omnitron", "found written", word)
        plan.tell(f"Omnitron shows {word} already")
    else:
        gone = gone or not await _written_back(plan, word)
    if gone and word is not None:
        _warn_of_gone(plan, word)
    if row.relation is Relation.FAILURE:
        row.state = State.REJECTED
    else:
        row.error = row.error if gone else None
        script_due = plan.settings.post_script is not None and row.post is Post.NONE
        row.state = State.WRITTEN_BACK if script_due else State.DONE
    if row.state is State.WRITTEN_BACK or row.transaction_pk is not None:
        await plan.commit()
    if row.transaction_pk is not None:
        await _map_transaction(plan, row.transaction_pk)


async def _written_back(plan: Plan, word: str) -> bool:
    """Write the status. False where Omnitron has no such plan any more, which is certain by now."""
    began = time.monotonic()
    try:
        await plan.tools.omnitron.write_back(plan.row.pk, word)
    except PlanGone:
        await _check_gone(plan)
        return False
    plan.note("write_to_omnitron", "written back", word, seconds=time.monotonic() - began)
    if not plan.sent_now and await _took_no_effect(plan):
        raise PlanFailed(
            f"Omnitron answered the write-back as '{word}' with success again, and still shows the plan in its old "
            "status: check path, method and body of omnitron.api.write_back; it is repeated by the next run"
        )
    plan.tell(f"written back to Omnitron: {word}")
    return True


async def _took_no_effect(plan: Plan) -> bool:
    """Whether the plan still is in the flow's status; asked of what an earlier run has written back, too."""
    if not await plan.work.writer.call(plan.work.journal.times, plan.row.id, LISTED_AGAIN):
        return False
    document = await _shown(plan)
    return document is not None and document.get("status") == status_word_of(plan.settings.omnitron)


def _warn_of_gone(plan: Plan, word: str) -> None:
    """The plan is over: the ERP's word is known, and there is nothing left in Omnitron to tell it to."""
    row = plan.row
    reference = f" with reference {row.erp_reference}" if row.erp_reference else ""
    known = "the ERP refused it" if row.relation is Relation.FAILURE else f"the ERP has it{reference}"
    row.error = f"{known}, and Omnitron has no such plan any more: its status '{word}' could not be written"
    plan.note("write_to_omnitron", NOT_WRITTEN, row.error)
    plan.say(row.error, logging.WARNING)


async def _still_wanted(plan: Plan, word: str, shown: Mapping[str, Any] | None) -> str | None:
    """The status to write for a plan that was sent again: none where Omnitron has moved on from the flow's own."""
    status = await _status_now(plan) if shown is None else shown.get("status")
    return word if status in (None, status_word_of(plan.settings.omnitron)) else None


def _due_status(plan: Plan, word: str, shown: Any) -> str | None:
    """The status to write for a plan that was not answered just now: it may have moved on in Omnitron meanwhile."""
    words = plan.settings.omnitron.api.words
    if shown in (None, word, status_word_of(plan.settings.omnitron)):
        return word
    told = printable(str(shown), 60)
    if shown in (words.completed, words.approved):
        plan.say(f"Omnitron shows {told} by now: {word} is not written", logging.WARNING)
        return None
    _set_changed(plan, None, f"Omnitron shows it as {told} by now")
    return None


async def _map_transaction(plan: Plan, transaction: str) -> None:
    """Mark the plan's order transaction as delivered once all plans of its order are settled.

    Where one was carried and not delivered, the transaction is only settled. While one is not settled, it is looked
    at again by each run.
    """
    row, journal, call = plan.row, plan.work.journal, plan.work.writer.call
    place = (row.host, row.flow, transaction)
    together = await call(journal.of_transaction, *place)
    if any(is_open(other) for other in together):
        return
    while (claimed_at := await call(journal.claim_transaction, *place)) is not None:
        try:
            documents = await _plans_of_order(plan, together)
            found = await _standing(plan, documents)
            if not found.waits:
                await _map_or_settle(plan, transaction, claimed_at, together, found)
                return
        except (PlanFailed, StopFlow, RetryLater):
            await call(journal.free_transaction, *place)
            raise
        await call(journal.free_transaction, *place)
        # The last plan of another flow may have found the transaction claimed.
        found = await _standing(plan, documents)
        if found.waits:
            plan.note("write_to_omnitron", found.word, f"transaction {transaction}: {found.waits}")
            plan.say(f"transaction {transaction} is not mapped yet: {found.waits}", logging.WARNING)
            return


async def _map_or_settle(
    plan: Plan, transaction: str, claimed_at: float, together: Sequence[Row], found: Standing
) -> None:
    row, journal, call = plan.row, plan.work.journal, plan.work.writer.call
    place = (row.host, row.flow, transaction)
    carried = [other for other in together if other.state is not State.LEFT]
    if not carried or not found.delivered or any(other.state not in DELIVERED for other in carried):
        await call(journal.note_transactions, row.host, row.flow, [transaction], SETTLED)
        plan.note(
            "write_to_omnitron", SETTLED, f"transaction {transaction} has a plan that was not delivered"
        )
        return
    first = carried[0]  # an earlier try, of this or another task, may have made the mapping
    mapped = await _is_mapped(plan, transaction)
    if mapped is None:
        await call(journal.note_transactions, row.host, row.flow, [transaction], SETTLED)
        row.error = f"the ERP has it, and Omnitron has no {_transaction(transaction)} any more: it could not be mapped"
        plan.note("write_to_omnitron", NOT_WRITTEN, row.error)
        plan.say(row.error, logging.WARNING)
        return
    if not mapped:
        if not await call(journal.keep_transaction, *place, claimed_at):
            plan.say(f"transaction {transaction}: another task has taken over its mapping", logging.WARNING)
            return
        await plan.tools.omnitron.create_mapping(transaction, first.erp_reference or first.pk)
    await call(journal.note_transactions, row.host, row.flow, [transaction], MAPPED)
    plan.note("write_to_omnitron", MAPPED, f"transaction {transaction} > {first.erp_reference or first.pk}")
    plan.say(f"transaction {transaction} is mapped in Omnitron")


async def _plans_of_order(plan: Plan, together: Sequence[Row]) -> list[dict[str, Any]]:
    order = next((other.order_pk for other in together if other.order_pk), None)
    if order is None:
        raise PlanFailed(
            "the journal does not know the plan's order, whose plans must be listed before its mapping"
        )
    documents = await plan.tools.omnitron.plans_of_order(order, plan.row.pk)
    if plan.row.pk.strip() not in map(plan.tools.omnitron.number_of, documents):
        await _check_gone(plan)
    return documents


async def _standing(plan: Plan, documents: Sequence[Mapping[str, Any]]) -> Standing:
    row, api = plan.row, plan.settings.omnitron.api
    pks = pks_of(documents, api.plans.pk)
    rows = await plan.work.writer.call(plan.work.journal.carried, row.host, row.flow, pks)
    return standing(documents, rows, api.words, api.plans.pk)


async def _is_mapped(plan: Plan, transaction: str) -> bool | None:
    """Whether an earlier try made the mapping, whose answer may have been lost.

    None where Omnitron has no such order transaction any more, which is certain by now.
    """
    try:
        found = await plan.tools.omnitron.mappings(transaction)
    except TransactionGone:
        await _check_gone(plan, NO_TRANSACTION, f"no {_transaction(transaction)}")
        return None
    except RetryLater as error:
        raise plan.tools.omnitron.failed(f"{error}; it is asked again by the next run") from None
    await _note_shown(plan, NO_TRANSACTION)
    return bool(found)


def _transaction(pk: str) -> str:
    return f"order transaction {printable(pk, 60)}"


# Post Script Step


async def post_script(plan: Plan) -> None:
    """Run the post script; its failure leaves the plan done, with a warning."""
    row, source = plan.row, plan.settings.post_script
    if row.state is not State.WRITTEN_BACK and not (row.state is State.DONE and row.post is Post.FAILED):
        return
    row.state = State.DONE
    if source is None:
        return
    if row.post is Post.FAILED:
        row.attributes.pop(_SCRIPT_ERROR, None)
    try:
        request = await _stored_request(plan)
        body = await plan.work.writer.call(plan.work.journal.body, row.id, "response")
        response = None if body is None else _kept_answer(plan, body).text
        result = await _run_script(plan, "post", source.text, None, request=_sent(request), response=response)
        if result.refused:
            raise ScriptFailed("the post script chose REL_FAILURE")
    except (PlanFailed, CannotOpen) as error:
        why = _SEALED_FOR_GOOD if isinstance(error, CannotOpen) else str(error)
        row.post, row.error = Post.FAILED, f"the post script failed: {why}"
        plan.post_error = row.error
        plan.note("post_script", "failed", why)
        plan.say(row.error, logging.WARNING)
    else:
        row.error = None if row.post is Post.FAILED else row.error  # else of a plan that Omnitron lost
        row.post = Post.DONE
        plan.note("post_script", "done")


_STEPS: dict[str, Callable[[Plan], Awaitable[None]]] = {
    "script": script,
    "mapping": mapping,
    "write_to_erp": write_to_erp,
    "write_to_omnitron": write_to_omnitron,
    "post_script": post_script,
}


# What the steps share


async def _fail(plan: Plan, why: str) -> None:
    row = plan.row
    unjudged = row.state is State.ANSWERED and row.outcome == "unknown" and not row.answer_stands
    if row.state is State.SENDING or (unjudged and not plan.settings.erp.custom_response):
        _doubt(plan, why)
        return
    dead = plan.settings.max_attempts is not None and row.attempts >= plan.settings.max_attempts
    row.state, row.error = (State.DEAD if dead else State.FAILED), printable(why, 4000)
    plan.note("plan", row.state, row.error)
    await _back_off(plan)


async def _back_off(plan: Plan) -> None:
    """From some attempts on the next one waits, twice as long each time."""
    row = plan.row
    if row.attempts >= _FREE_ATTEMPTS:
        doublings = min(row.attempts - _FREE_ATTEMPTS, _DOUBLINGS)
        wait = min(_LONGEST_BACKOFF_SECONDS, _BACKOFF_SECONDS * 2**doublings)
        row.next_attempt_at = await plan.work.writer.call(plan.work.journal.now) + wait


async def _rest(plan: Plan) -> None:
    """Let the plan wait whose own answer stopped the run: with each such stop twice as long."""
    row, call, journal = plan.row, plan.work.writer.call, plan.work.journal
    doublings = min(await call(journal.times, row.id, STOPPED_THE_RUN), _DOUBLINGS)
    wait = min(_LONGEST_BACKOFF_SECONDS, _BACKOFF_SECONDS * 2**doublings)
    row.next_attempt_at = max(row.next_attempt_at, await call(journal.now) + wait)
    word = f"the answer to this plan stopped the run: it is tried again, as the last one, by a run after {_clock(row)}"
    if row.state is not State.IN_DOUBT:  # its error says what is not known, and is read by the next attempt
        row.error = f"{row.error}; {word}"
    plan.note("plan", STOPPED_THE_RUN, word)


async def _stop_where_all_are_refused(plan: Plan) -> None:
    """Stop the run where the ERP has refused each of the first plans that this run has sent."""
    row = plan.row
    refused = row.relation is Relation.FAILURE or (row.relation is None and row.outcome == "refused")
    if not plan.sent_now or not refused or await plan.work.only_refusals() < _REFUSALS_THAT_STOP:
        return
    await plan.work.stop(
        f"the ERP has refused all of the first {_REFUSALS_THAT_STOP} plans of this run and taken none: look at its "
        "words in their journeys, check the mapping and the address, and start a run: what was not sent goes first"
    )


def _clock(row: Row) -> str:
    """The minute from which on the plan is due, as logs show it."""
    return datetime.fromtimestamp(row.next_attempt_at + 59, UTC).strftime("%Y-%m-%d %H:%M UTC")


async def _stop(plan: Plan, reason: str, kind: str) -> None:
    row, why = plan.row, f"the run was stopped: {printable(reason, 2000)}"
    await plan.work.stop(printable(reason, 2000), kind)
    told_nothing = row.relation is Relation.DO_NOTHING and _doubtful(row)
    if row.outcome == "unknown" and not row.answer_stands and not told_nothing:
        _doubt(plan, why)
        return
    if not row.answer_stands and not told_nothing:
        row.relation = None
    row.state, row.error = State.HELD, f"held, {why}"
    plan.note("plan", "held", row.error)


async def _check_not_stopped(plan: Plan) -> None:
    if plan.work.stop_reason:
        raise StopFlow(plan.work.stop_reason)


async def _still_due(plan: Plan) -> bool:
    """Look at the plan in Omnitron once more where this run's listing did not just show it; False: it has left.

    Raises _StartOver where it shows other content than what was prepared.
    """
    row = plan.row
    # What was sent before may have been held back when this run listed it: the listing does not speak for it.
    if plan.looked or (plan.just_listed and row.progress != "request"):
        return True
    document, left, changed = await _look(plan)
    has_left_bytes = row.progress == "request"
    if left and not (has_left_bytes and _doubtful(row)):
        _leave(plan, left)
        return False
    if has_left_bytes and (left or changed):
        _set_changed(plan, document, left)
        return False
    if not changed:
        return True
    pruned = not row.digest
    why = "the document had been pruned" if pruned else _OTHER_CONTENT
    plan.note("get_data_from_omnitron", "read again" if pruned else "new content", why)
    row.digest, row.amount = content_digest(document), amount_of(document or {}) or row.amount
    plan.keep("document", json_text(document))
    plan.document, plan.preloaded, begun = document, None, row.progress
    if begun:
        row.state, row.progress, row.attributes = State.FETCHED, "", {}
        row.attributes["channel_type"] = plan.settings.omnitron.channel_type
        raise _StartOver
    return True


async def _look(plan: Plan) -> tuple[dict[str, Any] | None, str, bool]:
    """The plan as Omnitron shows it now, why it has left the flow (empty: it has not), whether its content differs."""
    document = await _shown(plan)
    plan.looked = True
    if document is None:
        await _check_gone(plan)
        return None, "Omnitron has no such plan any more", False
    left = _misfit(plan, document) or ""
    if left and not await _has_moved_on(plan, document):
        raise PlanFailed(
            f"it does not fit the settings: {left}. Omnitron shows it in the status in which it was listed, so it has "
            "not left the flow: set the settings back, or `dismiss` it"
        )
    if not left and plan.row.transaction_pk and not plan.row.sent_again:
        mapped = await _is_mapped(plan, plan.row.transaction_pk)
        transaction = _transaction(plan.row.transaction_pk)
        words = {
            True: f"{transaction} is mapped in Omnitron",
            None: f"Omnitron has no {transaction} any more",
        }
        left = words.get(mapped, "")
    return document, left, await _is_other(plan, document)


async def _has_moved_on(plan: Plan, shown: Mapping[str, Any]) -> bool:
    """Whether the plan has another status than it was listed in; its channel and type stay as they are."""
    known, status = await _original(plan) if plan.row.digest else None, shown.get("status")
    if known is None or plan.row.sent_again:
        return True
    was = known.get("status")
    return isinstance(status, str) and (not isinstance(was, str) or was.casefold() != status.casefold())


async def _shown(plan: Plan) -> dict[str, Any] | None:
    """The plan as Omnitron shows it now; None where it says that it has no such plan. Raises PlanFailed."""
    document = await plan.tools.omnitron.plan(plan.row.pk)
    if document is not None:
        await _note_shown(plan, NO_PLAN)
    return document


async def _note_shown(plan: Plan, gone: str) -> None:
    if await plan.work.writer.call(plan.work.journal.absent_since, plan.row.id, gone) is not None:
        plan.note("get_data_from_omnitron", SHOWN_AGAIN[gone], "asked for by its number")


async def _check_gone(plan: Plan, gone: str = NO_PLAN, what: str = "no such plan") -> None:
    """Believe Omnitron that it has not what was asked for: only where it said so before, and a while ago.

    Raises PlanFailed where it did not: an attempt after that while asks again.
    """
    row, call, journal = plan.row, plan.work.writer.call, plan.work.journal
    now, since = await call(journal.now), await call(journal.absent_since, row.id, gone)
    if since is not None and now - since >= _ABSENCE_SECONDS:
        return
    row.next_attempt_at = (now if since is None else since) + _ABSENCE_SECONDS
    told = f"Omnitron says that it has {what}; it is asked again by a run after {_clock(row)}"
    plan.note("get_data_from_omnitron", gone, told, at=now)
    raise PlanFailed(told)


async def _is_other(plan: Plan, shown: Mapping[str, Any]) -> bool:
    """Whether Omnitron shows other content than the journal's; one plan's page may show more than the listing did."""
    equal, has_left_bytes = content_digest(shown) == plan.row.digest, plan.row.progress == "request"
    if equal and has_left_bytes:
        return False
    known = await _original(plan) if plan.row.digest else None
    if known is None:
        return not equal
    return not (same_content if has_left_bytes else same_to_the_line)(known, shown)


def _leave(plan: Plan, why: str) -> None:
    plan.row.state, plan.row.error = State.LEFT, why
    plan.note("get_data_from_omnitron", "left", why)
    plan.say(f"left alone: {why}")


def _set_changed(plan: Plan, document: Mapping[str, Any] | None, why: str = "") -> None:
    """What was held back, or cannot be sent as it is: a person decides."""
    row = plan.row
    if row.erp_reference:
        taken = f"the ERP answered it with reference {row.erp_reference}"
    else:
        words = {"accepted": "the ERP has taken it", "unknown": "it is not known whether the ERP took it"}
        taken = words.get(row.outcome, "it was sent and not taken")
    row.error = f"{taken}, and {why or _OTHER_CONTENT}; nothing more is sent: `resend` or `dismiss` it"
    row.state = State.CHANGED
    if document is not None:
        row.digest = content_digest(document)
        plan.keep("document", json_text(document))
    plan.note("get_data_from_omnitron", "changed", row.error)
    plan.say(row.error, logging.WARNING)


def _misfit(plan: Plan, document: Mapping[str, Any]) -> str | None:
    """Why the plan does not fit the flow. One that a person sends again has moved on from the flow's status."""
    if plan.row.sent_again:
        document = {name: value for name, value in document.items() if name != "status"}
    return misfit(document, plan.settings.omnitron)


async def _document(plan: Plan) -> Any:
    """The document as the steps before have left it."""
    if plan.document is None:
        kind = {"script": "script", "mapping": "prepared"}.get(plan.row.progress, "document")
        if kind == "document" and plan.preloaded is not None:
            plan.document = exact_json.loads(plan.preloaded)
        else:
            plan.document = await plan.stored(kind)
        if plan.document is None:
            raise PlanFailed(
                "the journal no longer holds the plan's document; clear the whole index of this plan"
            )
    return plan.document


async def _original(plan: Plan) -> Any:
    return await plan.stored("document")


async def _stored_request(plan: Plan) -> Request:
    if plan.request is None:
        body = await plan.work.writer.call(plan.work.journal.body, plan.row.id, "request")
        if body is None:
            raise PlanFailed(
                "the journal no longer holds the ERP request; `resolve` or `resend` the plan by hand"
            )
        plan.request = _request_in(plan, body)
    return plan.request


def _request_in(plan: Plan, body: Body) -> Request:
    meta = plan.request_meta = body.meta
    return Request(meta["method"], meta["url"], meta["headers"], body.content.encode() or None)


async def _status_now(plan: Plan) -> Any:
    document = await plan.tools.omnitron.plan(plan.row.pk)
    return None if document is None else document.get("status")


async def _rejected_count(plan: Plan) -> str:
    if plan.row.order_pk is None:
        raise PlanFailed("the response script asks for rejected_count, but the plan names no order")
    return str(await plan.tools.omnitron.rejected_count(plan.row.order_pk))


async def _run_script(
    plan: Plan,
    kind: Any,
    text: str,
    document: Any,
    given: dict[str, str] | None = None,
    *,
    request: Any = None,
    response: Any = None,
) -> Any:
    """Run one script; what it sets is kept with the plan, what it was only given is not."""
    given = given or {}
    before = {**plan.row.attributes, **given}
    try:
        result = await plan.tools.scripts.run(
            kind, text, document, before, request=request, response=response
        )
    except ScriptRunFailed as error:
        plan.row.attributes.update(_as_kept(plan, _without(given, error.attributes)))
        _log_lines(plan, error.log)
        raise ScriptFailed(mask_cut(str(error), plan.secrets, CUT)) from None
    plan.row.attributes = _as_kept(plan, _without(given, result.attributes))
    _log_lines(plan, result.log)
    return replace(result, reason=plan.masked(result.reason or ""))


def _as_kept(plan: Plan, attributes: Mapping[str, str]) -> dict[str, str]:
    """What a script set, as the journal keeps it."""
    if not plan.secrets:
        return dict(attributes)
    cut = {name: mask_cut(value, plan.secrets, CUT) for name, value in attributes.items()}
    return {plan.masked(name): value for name, value in cut.items()}


def _without(given: Mapping[str, str], attributes: Mapping[str, str]) -> dict[str, str]:
    return {name: value for name, value in attributes.items() if given.get(name) != value}


def _log_lines(plan: Plan, lines: Iterable[str]) -> None:
    for line in lines:
        plan.say(f"script: {line}")


def _log_attributes(plan: Plan) -> None:
    for name, value in sorted(plan.row.attributes.items()):
        if name.startswith("log."):
            plan.say(f"{printable(name, 120)} = {value}")


def _sent(request: Request) -> Any:
    """The body that was sent; with GET, what the query said."""
    if request.body is None:
        return dict(parse_qsl(URL(request.url, encoded=True).raw_query_string, keep_blank_values=True))
    return _parsed(request.body)


def _parsed(body: bytes) -> Any:
    return _json_or_text(body.decode("utf-8", "replace")) if body else None


def _json_or_text(text: str) -> Any:
    try:
        return exact_json.loads(text)
    except (ValueError, RecursionError):
        return text


def verdict(row: Row) -> str:
    """How the task of a plan ends, by its row: `green`, `skipped` or `red`."""
    if row.state in (State.PASSED, State.LEFT, State.DISMISSED):
        return "skipped"
    if row.state is State.HELD:
        return "skipped" if row.relation is Relation.DO_NOTHING else "red"
    if row.state in (State.FAILED, State.IN_DOUBT, State.DEAD, State.CHANGED):
        return "red"
    return "green"
