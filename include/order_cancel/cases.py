"""Golden cases: a script or mapping, what goes in, and what has to come out, as one JSON file each.

    {"kind": "mapping" | "script" | "response" | "post",
     "spec" (of a mapping) or "script": text, a list of lines, or {"file": "path beside the case"},
     "input": the document, "request": ..., "response": ..., "attributes": {...},
     "limits": {"timeout_seconds": 30, "memory_mb": 512, "network": true},
     "expect": {"result", "attributes", "relation", "reason", "refused", "error", "log"}}

Only what `expect` names is compared. `attributes` holds those that must be so, null for one that must not be
there; `error` and `log` are parts of the message and of the printed lines. Without `error` a failure is a
mistake.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from include.order_cancel import exact_json
from include.order_cancel.errors import PlanFailed
from include.order_cancel.scripts.process import Limits, ScriptProcess, ScriptResult
from include.order_cancel.trying import Given, Kind, Tried

_KEYS = {"kind", "spec", "script", "input", "request", "response", "attributes", "limits", "expect", "about"}
_EXPECTED = {"result", "attributes", "relation", "reason", "refused", "error", "log"}
_KINDS = ("mapping", "script", "response", "post")


@dataclass(frozen=True)
class CaseOutcome:
    """How one case went: its path below the folder, and every difference in words (none: it holds)."""

    name: str
    problems: list[str]

    @property
    def passed(self) -> bool:
        return not self.problems


class _NoCase(Exception):
    """The file does not hold a case; the message says why."""


@dataclass
class _Seen:
    """What a case's call came to, under the names that `expect` uses."""

    result: Any = None
    attributes: dict[str, str] | None = None
    relation: str | None = None
    reason: str | None = None
    refused: bool = False
    error: str | None = None
    log: str = ""


def run_cases(folder: Path) -> list[CaseOutcome]:
    """Runs every `*.json` below `folder`, in the order of their names, cases of like limits in one process.

    Raises FileNotFoundError where the folder is not there. Not to be called inside a running event loop.
    """
    if not folder.is_dir():
        raise FileNotFoundError(f"no folder {folder}")
    return asyncio.run(_run_all(folder, sorted(folder.rglob("*.json"))))


def as_case(kind: Kind, text: str, given: Given, tried: Tried) -> dict[str, Any]:
    """A trial as the golden case that holds it: what went in, and what came out as what is expected."""
    case: dict[str, Any] = {"kind": kind}
    case["spec" if kind == "mapping" else "script"] = text.removesuffix("\n").split("\n")
    if kind in ("script", "mapping"):
        case["input"] = given.document
    else:
        case |= {"request": given.request, "response": given.response}
    if kind != "mapping":
        case["attributes"] = dict(given.attributes)
    return {**case, "expect": _expected(kind, given, tried)}


def _expected(kind: Kind, given: Given, tried: Tried) -> dict[str, Any]:
    expect: dict[str, Any] = {}
    if kind != "mapping":
        expect["attributes"] = _changed(given.attributes, tried)
    if tried.raised:
        return {**expect, "error": tried.error}
    if tried.refused:
        return {**expect, "refused": True, "reason": tried.reason}
    if kind == "response":
        return {**expect, "relation": tried.relation, "reason": tried.reason}
    return {**expect, "result": tried.result} if kind != "post" else expect


def _changed(before: Mapping[str, str], tried: Tried) -> dict[str, str | None]:
    """The attributes that the script set, and null for those that it removed."""
    changed: dict[str, str | None] = {
        name: value for name, value in tried.attributes.items() if before.get(name) != value
    }
    if not tried.raised:
        changed |= {name: None for name in before if name not in tried.attributes}
    return changed


async def _run_all(folder: Path, paths: list[Path]) -> list[CaseOutcome]:
    processes: dict[Limits, ScriptProcess] = {}
    try:
        return [
            CaseOutcome(str(path.relative_to(folder)), await _problems(path, processes)) for path in paths
        ]
    finally:
        for process in processes.values():
            await process.close()


async def _problems(path: Path, processes: dict[Limits, ScriptProcess]) -> list[str]:
    try:
        case = _read(path)
        limits = Limits(**case.get("limits", {}))
        seen = await _call(case, _text(case, path), processes.setdefault(limits, ScriptProcess(limits)))
    except _NoCase as error:
        return [f"not a case: {error}"]
    return list(_differences(case["expect"], seen))


def _read(path: Path) -> dict[str, Any]:
    try:
        case = exact_json.loads(path.read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise _NoCase(str(error)) from None
    if not isinstance(case, dict) or not isinstance(case.get("expect"), dict):
        raise _NoCase("it needs to be an object with `kind`, a script or spec, and `expect`")
    if case.get("kind") not in _KINDS:
        raise _NoCase(f"`kind` is one of {', '.join(_KINDS)}")
    _refuse_unknown(case, _KEYS, "the case")
    _refuse_unknown(case["expect"], _EXPECTED, "`expect`")
    _refuse_unknown(case.get("limits", {}), {field.name for field in fields(Limits)}, "`limits`")
    return case


def _refuse_unknown(given: dict[str, Any], known: set[str], where: str) -> None:
    unknown = sorted(set(given) - known)
    if unknown:
        raise _NoCase(f"{where} has unknown keys: {', '.join(unknown)}; known are {', '.join(sorted(known))}")


def _text(case: dict[str, Any], path: Path) -> str:
    key = "spec" if case["kind"] == "mapping" else "script"
    given = case.get(key)
    if isinstance(given, dict) and set(given) == {"file"}:
        try:
            return Path(path.parent, str(given["file"])).read_text("utf-8")
        except (OSError, ValueError) as error:
            raise _NoCase(f"`{key}`: {error}") from None
    if isinstance(given, str):
        return given
    if isinstance(given, list) and given and all(isinstance(line, str) for line in given):
        return "\n".join(given) + "\n"
    if key == "spec" and isinstance(given, list | dict):
        return exact_json.dumps(given)
    raise _NoCase(f"`{key}` is a text, a list of lines, or {{'file': ...}}")


async def _call(case: dict[str, Any], text: str, process: ScriptProcess) -> _Seen:
    try:
        if case["kind"] == "mapping":
            return _Seen(result=await process.map(text, case.get("input")))
        result: ScriptResult = await process.run(
            case["kind"],
            text,
            case.get("input"),
            case.get("attributes", {}),
            request=case.get("request"),
            response=case.get("response", case.get("input")),
        )
    except PlanFailed as error:
        log = "\n".join(getattr(error, "log", []))
        return _Seen(error=str(error), attributes=getattr(error, "attributes", None), log=log)
    said = {name: getattr(result, name) for name in ("result", "attributes", "relation", "reason", "refused")}
    return _Seen(**said, log="\n".join(result.log))


def _differences(expect: dict[str, Any], seen: _Seen) -> Iterator[str]:
    if seen.error is not None and "error" not in expect:
        yield f"failed: {seen.error}"
        return
    for name, wanted in expect.items():
        found = getattr(seen, name)
        if name == "attributes":
            yield from _attribute_differences(wanted, found or {})
        elif name in ("error", "log"):
            if wanted not in (found or ""):
                yield f"{name}: expected {wanted!r} in {found!r}"
        elif not _same(wanted, found):
            yield f"{name}: expected {_shown(wanted)}, got {_shown(found)}"


def _attribute_differences(wanted: dict[str, str | None], found: dict[str, str]) -> Iterator[str]:
    for name, value in wanted.items():
        if found.get(name) != value:
            yield f"attribute {name!r}: expected {value!r}, got {found.get(name)!r}"


def _same(wanted: Any, found: Any) -> bool:
    """Equal as JSON: 1, 1.0 and true differ, the order of keys does not matter."""
    return json.dumps(wanted, sort_keys=True) == json.dumps(found, sort_keys=True)


def _shown(value: Any) -> str:
    return exact_json.dumps(value, ensure_ascii=False)[:2000]
