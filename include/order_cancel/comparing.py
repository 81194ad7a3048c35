"""What a change of the settings changes: field by field, and in the requests that the ERP would get.

Nothing here is sent: the plans are those that the journal keeps, and their requests are only written down.
"""

from __future__ import annotations

import asyncio
import difflib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from include.order_cancel import erp, exact_json
from include.order_cancel.errors import PlanFailed
from include.order_cancel.http import Endpoint
from include.order_cancel.journal import Journal
from include.order_cancel.rows import Row
from include.order_cancel.scripts.process import ScriptProcess
from include.order_cancel.searching import PAGE, Wanted, search
from include.order_cancel.settings import FlowSettings
from include.order_cancel.trying import attributes, limits

_CONTEXT = 3
# Stands for the ERP's Connection, whose host is of no interest here; only paths are shown.
_NOWHERE = Endpoint("erp", "http://connection.invalid")


@dataclass(frozen=True)
class Change:
    """One field whose value differs: both as text, None where there is none, and their difference by lines."""

    path: str
    before: str | None
    after: str | None
    lines: list[str]


@dataclass(frozen=True)
class Outcome:
    """What becomes of one plan's request. `lines`: the difference; empty where the request stays the same."""

    row: Row
    before: str
    after: str
    lines: list[str]


@dataclass(frozen=True)
class Compared:
    """The outcomes in the order of the plans; `left`: plans for which there was no time."""

    outcomes: list[Outcome]
    left: int


def line_diff(before: str, after: str) -> list[str]:
    """Lines that begin with `-`, `+` or a blank, around each difference; `@@` where lines are left out before them."""
    if before == after:
        return []
    if before.endswith("\n") and after.endswith("\n"):
        before, after = before[:-1], after[:-1]
    _, _, *found = difflib.unified_diff(before.split("\n"), after.split("\n"), lineterm="", n=_CONTEXT)
    return found[1:] if found[0].startswith(("@@ -1,", "@@ -1 ")) else found


def changes(before: Any, after: Any, path: str = "") -> Iterator[Change]:
    """Every field of the settings that differs, by its dotted path. Lists and texts are compared as a whole."""
    if isinstance(before, dict) and isinstance(after, dict):
        for name in dict.fromkeys([*before, *after]):
            inner = f"{path}.{name}" if path else str(name)
            missing = object()
            old, new = before.get(name, missing), after.get(name, missing)
            if isinstance(old, dict) and isinstance(new, dict):
                yield from changes(old, new, inner)
            elif _differ(old, new, missing):
                yield _change(
                    inner, None if old is missing else _text(old), None if new is missing else _text(new)
                )
    elif _text(before) != _text(after):
        yield _change(path, _text(before), _text(after))


def _differ(old: object, new: object, missing: object) -> bool:
    return (old is missing) != (new is missing) or (old is not missing and _text(old) != _text(new))


def _change(path: str, before: str | None, after: str | None) -> Change:
    if before is None or after is None:
        sign, text = ("+", after or "") if before is None else ("-", before)
        return Change(path, before, after, [sign + line for line in text.split("\n")])
    return Change(path, before, after, line_diff(before, after))


def _text(value: Any) -> str:
    return value if isinstance(value, str) else exact_json.dumps(value, indent=2, ensure_ascii=False)


def recent(journal: Journal, flow: str, most: int) -> list[tuple[Row, Any]]:
    """The plans of a flow that moved last and whose documents the journal still holds, newest first."""
    found: list[tuple[Row, Any]] = []
    wanted: Wanted | None = Wanted((flow,))
    while wanted is not None and len(found) < most:
        page = search(journal, wanted, PAGE)
        kept = journal.bodies([row.id for row in page.rows], "document")
        found += [(row, exact_json.loads(kept[row.id].content)) for row in page.rows if row.id in kept]
        wanted = Wanted((flow,), before=page.after) if page.after is not None and kept else None
    return found[:most]


async def requests_before_and_after(
    before: FlowSettings | None, after: FlowSettings, plans: Sequence[tuple[Row, Any]], seconds: float
) -> Compared:
    """Each plan's ERP request by both settings, within `seconds`. `before`: None where there were none."""
    outcomes: list[Outcome] = []
    async with ScriptProcess(limits(after)) as new, ScriptProcess(limits(before or after)) as old:
        try:
            async with asyncio.timeout(seconds):
                for row, document in plans:
                    was = await request_text(before, document, old) if before is not None else ""
                    will = await request_text(after, document, new)
                    outcomes.append(Outcome(row, was, will, line_diff(was, will)))
        except TimeoutError:
            pass
    return Compared(outcomes, len(plans) - len(outcomes))


async def request_text(settings: FlowSettings, document: Any, process: ScriptProcess) -> str:
    """The request that a plan would get, as text: method and address, then the body; or why there is none."""
    try:
        if settings.script is not None:
            result = await process.run("script", settings.script.text, document, attributes(settings, {}))
            if result.refused:
                return "no request: the script chose REL_FAILURE" + (
                    f": {result.reason}" if result.reason else ""
                )
            document = result.result
        if settings.mapping is not None:
            document = await process.map(settings.mapping.text, document)
        request = erp.build_request(settings.erp, _NOWHERE, document, "key")
    except PlanFailed as error:
        return f"no request: the plan fails: {error}"
    url = request.url.removeprefix(_NOWHERE.base_url)
    body = "" if request.body is None else "\n" + _text(exact_json.loads(request.body.decode()))
    return f"{request.method} {url}{body}"
