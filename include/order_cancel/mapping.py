"""Jolt mappings: compiled once, applied to one document after another, with errors that say where.

The engine is jolt-py (import name `pyjolt`), a port of bazaarvoice/jolt. This module adds what the engine
leaves open: the place of a mistake, unknown functions as errors, a mapping that yields nothing as a failure.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterator
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from pyjolt import (
    Cardinality,
    Chainr,
    Default,
    ModifyDefault,
    ModifyDefine,
    ModifyOverwrite,
    Remove,
    Shift,
    Sort,
    Transform,
)
from pyjolt._common.functions import FUNCTIONS

from include.order_cancel.errors import MappingFailed
from include.order_cancel.exact_json import Number
from include.order_cancel.scripts import strict_json

_SHORT_NAMES: dict[str, type[Transform]] = {
    "shift": Shift,
    "default": Default,
    "remove": Remove,
    "sort": Sort,
    "cardinality": Cardinality,
    "modify-overwrite-beta": ModifyOverwrite,
    "modify-default-beta": ModifyDefault,
    "modify-define-beta": ModifyDefine,
}
# The engine's short aliases and the Java class names that Jolt accepts in place of an operation's name.
_OPERATIONS: dict[str, type[Transform]] = _SHORT_NAMES | {
    "modify-overwrite": ModifyOverwrite,
    "modify-default": ModifyDefault,
    "modify-define": ModifyDefine,
    "com.bazaarvoice.jolt.Shiftr": Shift,
    "com.bazaarvoice.jolt.Defaultr": Default,
    "com.bazaarvoice.jolt.Removr": Remove,
    "com.bazaarvoice.jolt.Sortr": Sort,
    "com.bazaarvoice.jolt.CardinalityTransform": Cardinality,
    "com.bazaarvoice.jolt.Modifier$Overwritr": ModifyOverwrite,
    "com.bazaarvoice.jolt.Modifier$Defaultr": ModifyDefault,
    "com.bazaarvoice.jolt.Modifier$Definr": ModifyDefine,
}
_MODIFIERS = (ModifyOverwrite, ModifyDefault, ModifyDefine)

_LEAVES = frozenset({str, int, float, bool, type(None)})

Path = tuple[str, ...]
# The engine computes with plain floats only. By its own number: a float, which is kept so, and the Number in its place.
_Numbers = dict[int, tuple[float, Number]]


@dataclass(frozen=True)
class _Step:
    number: int
    operation: str
    transform: Transform

    @property
    def name(self) -> str:
        return f"step {self.number} ({self.operation})"


class CompiledMapping:
    """A checked chain of Jolt operations. Made by `compile_mapping`; holds no state between documents."""

    def __init__(self, steps: list[_Step], numbers: _Numbers) -> None:
        self._steps, self._numbers = steps, numbers
        self._chain = Chainr([step.transform for step in steps])

    def apply(self, document: Any) -> Any:
        """The mapped document; `document` stays as it is.

        Raises MappingFailed where a step fails, nothing is produced, or the result is not JSON.
        """
        numbers = self._numbers.copy()
        plain = _plain_document(document, numbers)
        try:
            result = self._chain.apply(plain)
        except MemoryError:
            raise
        except Exception:
            # Told again step by step, which finds the one to blame.
            result = self._run(plain)[-1][1]
        if result is None:
            raise MappingFailed(f"the mapping produced nothing: {self._where_it_vanished(plain)}")
        return _checked(result, numbers)

    def trace(self, document: Any) -> list[tuple[str, Any]]:
        """`(operation, document after it)` for each step, null results included. Raises MappingFailed."""
        numbers = self._numbers.copy()
        seen = self._run(_plain_document(document, numbers))
        return [(operation, _exact(after, numbers)) for operation, after in seen]

    def _run(self, document: Any) -> list[tuple[str, Any]]:
        seen: list[tuple[str, Any]] = []
        for step in self._steps:
            document = _apply_step(step, document)
            seen.append((step.operation, document))
        return seen

    def _where_it_vanished(self, document: Any) -> str:
        for step, (_, after) in zip(self._steps, self._run(document), strict=True):
            if after is None:
                return f"{step.name} matched no part of the document"
        return "the last step left null"


def compile_mapping(spec: str | list[Any] | dict[str, Any]) -> CompiledMapping:
    """The mapping of a Jolt chain, or of a single operation; as text it may hold `//` and `/* */` comments.

    Raises MappingFailed with step number, operation and path: `step 1 (shift) at order > items: ...`.
    """
    numbers: _Numbers = {}
    entries = _plain(_entries(spec), numbers)
    steps = [_compile_step(number, entry) for number, entry in enumerate(entries, start=1)]
    return CompiledMapping(steps, numbers)


def _entries(spec: str | list[Any] | dict[str, Any]) -> list[Any]:
    try:
        text = _without_comments(spec) if isinstance(spec, str) else strict_json.dumps(spec)
        chain = strict_json.loads(text)
    except strict_json.NotJson as error:
        raise MappingFailed(f"the mapping is not JSON: {error}") from None
    if isinstance(chain, dict):
        chain = [chain]
    if not isinstance(chain, list):
        raise MappingFailed("a mapping is a list of operations, or one operation; this is neither")
    if not chain:
        raise MappingFailed("the mapping has no operations; leave it out to send the document as it is")
    return chain


_STRING_OR_COMMENT = re.compile(r'"(?:\\.|[^"\\])*"|//[^\n]*|/\*.*?\*/', re.DOTALL)


def _without_comments(text: str) -> str:
    """The text with comments blanked, so that line and column of an error still hold."""

    def blank(match: re.Match[str]) -> str:
        found = match.group()
        return found if found.startswith('"') else re.sub(r"[^\n]", " ", found)

    return _STRING_OR_COMMENT.sub(blank, text.removeprefix("\ufeff"))


def _compile_step(number: int, entry: Any) -> _Step:
    if not isinstance(entry, dict) or not isinstance(entry.get("operation"), str):
        raise MappingFailed(
            f'step {number}: an operation looks like {{"operation": "shift", "spec": {{...}}}}'
        )
    operation = entry["operation"]
    kind = _OPERATIONS.get(operation)
    if kind is None:
        raise MappingFailed(f"step {number}: unknown operation {operation!r}{_hint(operation, _SHORT_NAMES)}")
    name = f"step {number} ({operation})"
    if kind is Sort:
        return _Step(number, operation, Sort())
    spec = entry.get("spec")
    if not isinstance(spec, dict):
        raise MappingFailed(f"{name}: needs a `spec`, an object")
    if kind in _MODIFIERS:
        _refuse_unknown_functions(name, spec)
    return _Step(number, operation, _build(name, kind, spec))


def _build(name: str, kind: Any, spec: dict[str, Any]) -> Transform:
    try:
        transform: Transform = kind(spec)
    except Exception as error:
        path, branch, culprit = _locate(kind, spec, error)
        place = f" at {' > '.join(path)}" if path else ""
        written = f"{branch!r}: " if isinstance(branch, str) else ""
        raise MappingFailed(f"{name}{place}: {written}{_reason(culprit)}") from None
    return transform


def _locate(kind: Any, spec: dict[str, Any], error: Exception) -> tuple[Path, Any, Exception]:
    """The deepest key whose branch alone does not compile, that branch, and what the engine says of it."""
    path: Path = ()
    branch: Any = spec
    while isinstance(branch, dict):
        for key, value in branch.items():
            failure = _failure(kind, _nested((*path, key), value))
            if failure is not None:
                path, branch, error = (*path, key), value, failure
                break
        else:
            break
    return path, branch, error


def _failure(kind: Any, spec: Any) -> Exception | None:
    try:
        kind(spec)
    except Exception as error:
        return error
    return None


def _nested(path: Path, value: Any) -> Any:
    for key in reversed(path):
        value = {key: value}
    return value


def _refuse_unknown_functions(name: str, spec: dict[str, Any]) -> None:
    for path, call in _calls(spec, ()):
        function = call[1:].partition("(")[0]
        if function not in FUNCTIONS:
            place = " > ".join(path)
            raise MappingFailed(
                f"{name} at {place}: unknown function {function!r}{_hint(function, FUNCTIONS)}"
            )
        if "(" in call and not call.endswith(")"):
            raise MappingFailed(f"{name} at {' > '.join(path)}: {call!r} has no closing bracket")


def _calls(spec: Any, path: Path) -> Iterator[tuple[Path, str]]:
    if isinstance(spec, dict):
        for key, value in spec.items():
            yield from _calls(value, (*path, key))
    else:
        for value in spec if isinstance(spec, list) else [spec]:
            if isinstance(value, str) and value.startswith("="):
                yield path, value


def _hint(word: str, known: dict[str, Any]) -> str:
    close = difflib.get_close_matches(word, known, n=1)
    return f"; did you mean {close[0]!r}?" if close else f"; known are {', '.join(sorted(known))}"


def _apply_step(step: _Step, document: Any) -> Any:
    try:
        return Chainr([step.transform]).apply(document)
    except MemoryError:
        raise
    except Exception as error:
        raise MappingFailed(f"{step.name}: {_reason(error)}") from None


def _reason(error: Exception) -> str:
    if isinstance(error, RecursionError):
        return "nested too deep"
    return str(error) or type(error).__name__


def _plain_document(document: Any, numbers: _Numbers) -> Any:
    try:
        return _plain(document, numbers)
    except RecursionError:
        raise MappingFailed("the document is nested too deep") from None


def _plain(value: Any, numbers: _Numbers) -> Any:
    """The value in the types that a JSON parser yields; the engine ignores or breaks on any other.

    Which of its floats stands for which Number is added to `numbers`.
    """
    if type(value) in _LEAVES:
        return value
    if isinstance(value, dict):
        # Leaves and text keys without a call each: a document is mostly those.
        return {
            (key if type(key) is str else _plain_key(key)): (
                item if type(item) in _LEAVES else _plain(item, numbers)
            )
            for key, item in value.items()
        }
    if isinstance(value, list | tuple):
        return [_plain(item, numbers) for item in value]
    if isinstance(value, Number):
        plain_float = float(value)
        numbers[id(plain_float)] = (plain_float, value)
        return plain_float
    if isinstance(value, Decimal) and value.is_finite():
        return int(value) if value == value.to_integral_value() else float(value)
    for plain in (str, int, float):
        if isinstance(value, plain):
            return plain(value)
    raise MappingFailed(f"the document holds a value of type {type(value).__name__}, which is not JSON")


def _exact(value: Any, numbers: _Numbers) -> Any:
    """The value with each float that the engine handed through as the Number for which it stands."""
    if not numbers:
        return value
    if isinstance(value, dict):
        return {key: _exact(item, numbers) for key, item in value.items()}
    if isinstance(value, list):
        return [_exact(item, numbers) for item in value]
    return numbers[id(value)][1] if id(value) in numbers else value


def _plain_key(key: Any) -> str:
    if isinstance(key, str):
        return key
    if isinstance(key, int) and not isinstance(key, bool):
        return str(key)
    raise MappingFailed(f"the document holds a key of type {type(key).__name__}, which is not JSON")


def _checked(result: Any, numbers: _Numbers) -> Any:
    try:
        exact = _exact(result, numbers)
        strict_json.dumps(exact)
    except RecursionError:
        raise MappingFailed("the mapping's result is nested too deep") from None
    except strict_json.NotJson as error:
        raise MappingFailed(f"the mapping's result is not JSON: {error}") from None
    return exact
