"""Faults put into the product on purpose, each of which the simulation must find: so it is known that it can fail."""

from __future__ import annotations

import inspect
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

from include.order_cancel import batch, erp, flow, http, journal, omnitron, steps, tokens, under_way
from include.order_cancel.rows import Relation, State

Changes = list[tuple[Any, str, Any]]


def _intent_after_sending() -> Changes:
    real = under_way.Plan.commit

    async def commit(self: Any, *, release: bool = False) -> None:
        if self.row.state is not State.SENDING or release:
            await real(self, release=release)

    return [(under_way.Plan, "commit", commit)]


def _key_changes_in_doubt() -> Changes:
    real = steps._settle_doubt

    async def settle(plan: Any) -> None:
        plan.row.body_number += 1
        plan.row.key = journal.idempotency_key(plan.row)
        await real(plan)

    return [(steps, "_settle_doubt", settle)]


def _write_back_before_the_answer() -> Changes:
    real = under_way.Plan.commit

    async def commit(self: Any, *, release: bool = False) -> None:
        if self.row.state is not State.ANSWERED or release:
            await real(self, release=release)

    return [(under_way.Plan, "commit", commit)]


def _window_before_the_rows() -> Changes:
    real = flow._fetch

    async def fetch(around: Any, settings: Any, opened: Any, run: Any, params: Any) -> Any:
        flow._move(around.last_query, around.set_last_query, opened.now())
        return await real(around, settings, opened, run, params)

    return [(flow, "_fetch", fetch)]


def _leases_ignored() -> Changes:
    def nobody(*_: Any) -> set[int]:
        return set()

    def free(*_: Any) -> None:
        return None

    return [
        (journal.Journal, "_leased_elsewhere", nobody),
        (journal.Journal, "_claimed_elsewhere", nobody),
        (journal, "_why_busy", free),
    ]


def _open_rows_forgotten() -> Changes:
    def none(*_: Any) -> str:
        return "resting"

    return [(journal, "place_open", none)]


# What an answer proves


def _whatever_is_not_listed_is_a_refusal() -> Changes:
    real = erp.classify

    def classify(answer: Any, settings: Any) -> Any:
        meaning = real(answer, settings)
        known = answer.ok or answer.status in (500, 502, 504)
        return "refused" if meaning == "unknown" and not known else meaning

    return [(erp, "classify", classify)]


def _some_more_are_not_done() -> Changes:
    real = erp.classify

    def classify(answer: Any, settings: Any) -> Any:
        return "not_done" if answer.status == 503 else real(answer, settings)

    return [(erp, "classify", classify)]


def _new_bytes_after_not_done() -> Changes:
    real = steps._begin_attempt

    def begin_attempt(plan: Any, edited: Any) -> None:
        if plan.row.outcome == "not_done" and plan.row.state is State.FAILED:
            plan.row.progress = ""
        real(plan, edited)

    return [(steps, "_begin_attempt", begin_attempt)]


def _any_number_may_be_rejected() -> Changes:
    def may_reject(*_: Any) -> bool:
        return True

    return [(journal.Journal, "may_reject", may_reject)]


def _any_refusal_rejects() -> Changes:
    real = steps._judge_by_default

    async def judge(plan: Any, answer: Any, outcome: str) -> None:
        await real(plan, replace(answer, status=422) if outcome == "refused" else answer, outcome)

    return [(steps, "_judge_by_default", judge)]


def _any_2xx_is_taken() -> Changes:
    real = erp.classify

    def classify(answer: Any, settings: Any) -> Any:
        return real(answer, settings.model_copy(update={"reference_path": None}))

    return [(erp, "classify", classify)]


_SHIPPED_BEFORE = """\
flowFile = session.get()
status_text = get_attribute("invokehttp.status.code", "")
status = int(status_text) if status_text.isdigit() else 0
relation = None
if 200 <= status <= 299:
    relation = "continue"
elif status == 401:
    relation = "auth_fail"
elif status in (408, 425, 429) or 500 <= status <= 599:
    relation = "do_nothing"
if relation:
    flowFile = session.putAttribute(flowFile, "relation", relation)
    session.transfer(flowFile, REL_SUCCESS)
else:
    session.transfer(flowFile, REL_FAILURE)
"""


def _the_shipped_script_of_before() -> Changes:
    return [(steps, "DEFAULT_RESPONSE_SCRIPT", _SHIPPED_BEFORE)]


def _unsettled_lookups_count() -> Changes:
    async def settled(_: Any) -> float:
        return 0.0

    return [(under_way.Plan, "until_settled", settled)]


def _an_answer_ends_the_erps_time() -> Changes:
    real = steps._send_once

    async def send_once(plan: Any, request: Any, *, renewed: bool) -> Any:
        found = await real(plan, request, renewed=renewed)
        if found[0] is not None:
            plan.row.request_deadline = 0.0
        return found

    return [(steps, "_send_once", send_once)]


def _a_page_counts_as_not_there() -> Changes:
    return [(http.Answer, "is_json", property(lambda answer: True))]


def _a_refused_repeat_settles_all() -> Changes:
    return [(steps, "_SETTLES_DOUBT", frozenset(range(400, 500)))]


def _new_content_after_do_nothing() -> Changes:
    real = journal.place

    def place(row: Any, listed: Any, *rest: Any) -> Any:
        if row.relation is Relation.DO_NOTHING and row.state is State.HELD and row.digest != listed.digest:
            row.outcome = "refused"
        return real(row, listed, *rest)

    return [(journal, "place", place)]


def _the_deadline_passes_before_the_first_byte() -> Changes:
    async def before_first_byte(_: Any) -> None: ...

    return [(under_way.Plan, "before_first_byte", before_first_byte)]


# Whose plan, whose settings


def _every_attempt_is_the_first() -> Changes:
    real = steps.begin

    async def begin(work: Any, *rest: Any) -> Any:
        work.again = work.overtaken = False
        return await real(work, *rest)

    return [(place, "begin", begin) for place in (batch, flow)]


def _overtaken_runs_go_on() -> Changes:
    def overtaken(*_: Any) -> bool:
        return False

    return [(journal.Journal, "overtaken", overtaken)]


def _the_runs_settings_for_all() -> Changes:
    async def digest(self: Any) -> str:
        return str(self.run.snapshot)

    return [(under_way.Work, "current_digest", digest)]


def _listings_do_not_age() -> Changes:
    listed = property(lambda self: self.listed and self.fresh)
    return [(under_way.Plan, "just_listed", listed)]


def _no_look_before_a_repeat() -> Changes:
    real = steps._look

    async def look(plan: Any) -> Any:
        return (None, "", False) if plan.row.state is State.SENDING else await real(plan)

    return [(steps, "_look", look)]


def _no_look_after_an_unread_answer() -> Changes:
    real = steps._look

    async def look(plan: Any) -> Any:
        return (None, "", False) if plan.row.state is State.ANSWERED else await real(plan)

    return [(steps, "_look", look)]


def _settled_doubt_is_not_compared() -> Changes:
    real = steps._is_other

    async def is_other(plan: Any, shown: Any) -> bool:
        return plan.row.state is not State.ANSWERED and await real(plan, shown)

    return [(steps, "_is_other", is_other)]


def _only_401_renews() -> Changes:
    def may_renew(self: Any, status: int, version: int) -> bool:
        return status == 401

    return [(tokens.Tokens, "may_renew", may_renew)]


def _paths_with_dots_alone() -> Changes:
    real = erp.in_answer

    def in_answer(answer: Any, path: str) -> Any:
        return None if "[" in path else real(answer, path)

    return [(erp, "in_answer", in_answer)]


def _spelt_is_named() -> Changes:
    typed = property(lambda self: self.base_url.partition("://")[2])
    return [(http.Endpoint, "identity", typed)]


def _any_omnitron_will_do() -> Changes:
    def check(*_: Any) -> None: ...

    return [(place, "check_same", check) for place in (under_way, flow)]


def _deadlines_by_the_wall_clock() -> Changes:
    """This machine's clock, and how far it was from the journal's when the task began."""

    def set_deadline(self: Any, row: Any, now: float, wire_seconds: float) -> None:
        offset = self.__dict__.setdefault("offset", now - time.time())
        row.request_deadline, row.boot, row.boot_began = time.time() + offset + wire_seconds, "", 0.0

    return [(journal.Journal, "_set_deadline", set_deadline)]


def _only_its_own_plans() -> Changes:
    async def nothing(*_: Any) -> list[Any]:
        return []

    return [(steps, "_plans_of_order", nothing)]


def _any_404_is_an_absence() -> Changes:
    async def believed(self: Any, what: str, pk: object, list_path: str, one_path: str) -> None: ...

    async def at_once(plan: Any, gone: str = "", what: str = "") -> None: ...

    return [(omnitron.Omnitron, "_check_own_word", believed), (steps, "_check_gone", at_once)]


MUTANTS: dict[str, Callable[[], Changes]] = {
    "the intent is committed after sending": _intent_after_sending,
    "the key changes while in doubt": _key_changes_in_doubt,
    "the write-back starts before the answer is committed": _write_back_before_the_answer,
    "the last query time moves before the rows are committed": _window_before_the_rows,
    "leases and deadlines are ignored": _leases_ignored,
    "what a run left open is forgotten": _open_rows_forgotten,
    "a status that is not listed is a refusal": _whatever_is_not_listed_is_a_refusal,
    "503 is not done": _some_more_are_not_done,
    "another request under the same key after 'not done'": _new_bytes_after_not_done,
    "a wrong mapping rejects any number of plans": _any_number_may_be_rejected,
    "any refusal rejects": _any_refusal_rejects,
    "2xx without a reference is taken": _any_2xx_is_taken,
    "the shipped response script says do_nothing": _the_shipped_script_of_before,
    "a lookup's 'not there' counts at once": _unsettled_lookups_count,
    "an answer that tells nothing ends the time that the ERP has": _an_answer_ends_the_erps_time,
    "a gateway's 404 counts as the lookup's": _a_page_counts_as_not_there,
    "a repeat that is refused settles what went before": _a_refused_repeat_settles_all,
    "new content after do_nothing is another request": _new_content_after_do_nothing,
    "a cleared attempt counts as the run's first": _every_attempt_is_the_first,
    "a run that was overtaken goes on by its listing": _overtaken_runs_go_on,
    "every attempt uses the run's settings": _the_runs_settings_for_all,
    "a listing does not age": _listings_do_not_age,
    "no look before a request is repeated": _no_look_before_a_repeat,
    "no look before what an unread answer is followed by": _no_look_after_an_unread_answer,
    "a request leaves however long ago its deadline was set": _the_deadline_passes_before_the_first_byte,
    "only 401 renews a token": _only_401_renews,
    "a path with brackets finds nothing": _paths_with_dots_alone,
    "an Omnitron is called as it is spelt": _spelt_is_named,
    "tasks go on at whichever Omnitron the Connection names": _any_omnitron_will_do,
    "deadlines go by the machine's wall clock": _deadlines_by_the_wall_clock,
    "a transaction is mapped without a look at its order": _only_its_own_plans,
    "what was held back is not compared once it is settled": _settled_doubt_is_not_compared,
    "a gateway's 404 for a plan is Omnitron's": _any_404_is_an_absence,
}


def _fits(real: Any, value: Any) -> None:
    """A fault that cannot be called as what it replaces would be found for that alone. Raises TypeError."""
    if callable(real):
        given = inspect.signature(real).parameters
        named = {name for name, one in given.items() if one.kind is inspect.Parameter.KEYWORD_ONLY}
        inspect.signature(value).bind(*(given.keys() - named), **dict.fromkeys(named))


@contextmanager
def mutated(name: str) -> Iterator[None]:
    """The product with this fault."""
    changes = MUTANTS[name]()
    before = [(place, attribute, getattr(place, attribute)) for place, attribute, _ in changes]
    for (_, _, real), (_, _, value) in zip(before, changes, strict=True):
        _fits(real, value)
    try:
        for place, attribute, value in changes:
            setattr(place, attribute, value)
        yield
    finally:
        for place, attribute, value in before:
            setattr(place, attribute, value)
