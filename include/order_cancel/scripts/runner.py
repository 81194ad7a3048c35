"""Runs one script once: content and attributes in, an Outcome out. Runs inside the script process."""

from __future__ import annotations

import builtins
import inspect
import traceback
from dataclasses import dataclass, field
from types import CodeType
from typing import Any

from include.order_cancel.errors import ScriptFailed
from include.order_cancel.scripts import contract, reading, strict_json
from include.order_cancel.scripts.reading import FILENAME, Form, Kind

MAX_ATTRIBUTES = 1024 * 1024
MAX_MESSAGE = 2000

# Names of Python 2 that Jython scripts use and whose Python 3 namesake does the same.
_PYTHON_2_NAMES = {"unicode": str, "basestring": str, "long": int, "xrange": range, "unichr": chr}
_HINTS = {
    "'dict' object has no attribute 'has_key'": "in Python 3: key in d",
    "'dict' object has no attribute 'iteritems'": "in Python 3: d.items()",
    "'dict' object has no attribute 'itervalues'": "in Python 3: d.values()",
    "'dict' object has no attribute 'iterkeys'": "in Python 3: d.keys()",
    "name 'raw_input' is not defined": "a script has no terminal",
    "name 'reduce' is not defined": "in Python 3: from functools import reduce",
    "No module named 'StringIO'": "in Python 3: from io import StringIO",
    "No module named 'urllib2'": "in Python 3: urllib.request, or requests",
}


@dataclass
class Outcome:
    """What came of a call. `body` is the result as JSON; None stands for no result."""

    body: bytes | None = None
    attributes: dict[str, str] = field(default_factory=dict)
    relation: str | None = None
    reason: str | None = None
    refused: bool = False
    error: str | None = None
    log: list[str] = field(default_factory=list)
    out_of_memory: bool = False


@dataclass(frozen=True)
class Program:
    """A script, read and compiled once, run for many plans."""

    kind: Kind
    form: Form
    code: CodeType
    imports: tuple[str, ...]
    # The class to run where a script only defines a callback and never names the session.
    callback: str | None
    names_input_text: bool


def compile_script(text: str, kind: Kind) -> Program:
    """Raises ScriptFailed as `reading.form_of` does."""
    form = reading.form_of(text, kind)
    tree = reading.parse(text)
    code = reading.compiled(tree, text)
    callback = reading.callback_to_run(tree)
    name = callback.name if callback else None
    return Program(kind, form, code, reading.imports(tree), name, reading.names(tree, "input_text"))


def run(
    program: Program, content: bytes, attributes: dict[str, str], request: Any, log: contract.Log
) -> Outcome:
    """Runs the script; whatever it does short of ending the process becomes an Outcome."""
    outcome = Outcome(attributes=attributes)
    try:
        if program.form == "plain":
            _run_plain(program, content, request, log, outcome)
        else:
            _run_integrator(program, content, log, outcome)
        _check_attributes(outcome.attributes)
    except BaseException as error:
        _fail(outcome, error)
    log.flush()
    outcome.log = log.lines
    return outcome


def _run_plain(program: Program, content: bytes, request: Any, log: contract.Log, outcome: Outcome) -> None:
    namespace: dict[str, Any] = {"__name__": "script", "__builtins__": builtins, "log": log}
    exec(program.code, namespace)  # noqa: S102  (what this process is for)
    function = namespace[reading.FUNCTIONS[program.kind][0]]
    attributes = outcome.attributes
    if program.kind == "script":
        outcome.body = _document(function(strict_json.loads(content), attributes))
    elif program.kind == "response":
        answer = function(request, _json_or_text(content), attributes)
        outcome.relation, outcome.reason = _relation_and_reason(answer)
    else:
        exchange = strict_json.loads(content)
        function(exchange["request_data"], exchange["response_data"], attributes)


def _document(result: Any) -> bytes:
    if result is None:
        raise ScriptFailed("transform() returned None; it has to return the document")
    try:
        body = strict_json.dumps(result)
    except strict_json.NotJson as error:
        raise ScriptFailed(f"what transform() returned is not JSON: {error}") from None
    _check_size(body)
    return body


def _relation_and_reason(answer: Any) -> tuple[str | None, str | None]:
    relation, reason = answer if isinstance(answer, tuple | list) and len(answer) == 2 else (answer, None)
    if not _is_text_or_none(relation) or not _is_text_or_none(reason):
        raise ScriptFailed("respond() returns a relation, or (relation, reason), both as text")
    return None if relation is None else str(relation), None if reason is None else str(reason)


def _run_integrator(program: Program, content: bytes, log: contract.Log, outcome: Outcome) -> None:
    session = contract.Session(content, outcome.attributes)
    try:
        namespace = _integrator_namespace(program, session, log)
        exec(program.code, namespace)  # noqa: S102  (what this process is for)
        if program.callback:
            _run_callback(namespace[program.callback], session)
    finally:
        outcome.attributes = session.current.attributes
    if program.kind == "script" and session.removed:
        raise ScriptFailed("the script removed the flow file, so there is nothing to send")
    outcome.refused = any(relation is contract.REL_FAILURE for _, relation in session.transferred)
    _take_words(program, outcome)
    _take_content(program, session.current, outcome)


def _integrator_namespace(program: Program, session: contract.Session, log: contract.Log) -> dict[str, Any]:
    def get_attribute(name: str, default: str | None = None) -> str | None:
        return session.current.attributes.get(name, default)

    flow_file = session.current
    namespace = _PYTHON_2_NAMES | {
        "__name__": "__main__",
        "__builtins__": builtins,
        "session": session,
        "flowFile": flow_file,
        "log": log,
        "get_attribute": get_attribute,
        "inputStream": contract.InputStream(flow_file.content),
        "outputStream": contract.direct_output(flow_file),
        "REL_SUCCESS": contract.REL_SUCCESS,
        "REL_FAILURE": contract.REL_FAILURE,
        "StreamCallback": contract.StreamCallback,
        "IOUtils": contract.IOUtils,
        "StandardCharsets": contract.StandardCharsets,
    }
    if program.names_input_text:
        namespace["input_text"] = flow_file.content.decode("utf-8")
    return namespace


def _run_callback(kind: type, session: contract.Session) -> None:
    flow_file = session.get()
    try:
        inspect.signature(kind).bind(flow_file)
    except TypeError:
        callback = kind()
    else:
        callback = kind(flow_file)
    if contract.only_reads(callback):
        session.read(flow_file, callback)
    else:
        session.write(flow_file, callback)


def _take_words(program: Program, outcome: Outcome) -> None:
    _check_attributes(outcome.attributes)
    if program.kind == "response":
        outcome.relation = outcome.attributes.get("relation")
    outcome.reason = outcome.attributes.get("reason")
    if outcome.refused and outcome.reason is None:
        outcome.reason = outcome.attributes.get("log.script.error")


def _take_content(program: Program, flow_file: contract.FlowFile, outcome: Outcome) -> None:
    """The output counts in a `script` that did not refuse; elsewhere it is only shown where there is one."""
    if program.kind == "script" and not outcome.refused:
        outcome.body = _strict_output(flow_file.content)
    elif flow_file.written:
        outcome.body = _shown_output(flow_file.content)
    if outcome.body is not None:
        _check_size(outcome.body)


def _strict_output(content: bytes) -> bytes:
    if not content.strip():
        raise ScriptFailed("the script's output is empty")
    try:
        value = strict_json.loads(content)
        if value is None:
            raise ScriptFailed("the script's output is null")
        return strict_json.dumps(value)
    except strict_json.NotJson as error:
        raise ScriptFailed(f"the script's output is not JSON: {error}") from None


def _shown_output(content: bytes) -> bytes:
    return strict_json.dumps(_json_or_text(content))


def _json_or_text(content: bytes) -> Any:
    try:
        return strict_json.loads(content)
    except strict_json.NotJson:
        return content.decode("utf-8", "replace")


def _is_text_or_none(value: Any) -> bool:
    return value is None or isinstance(value, str)


def _check_size(body: bytes) -> None:
    if len(body) > contract.MAX_CONTENT:
        raise ScriptFailed(f"the output is larger than {contract.MAX_CONTENT // 1024 // 1024} MB")


def _check_attributes(attributes: dict[Any, Any]) -> None:
    total = 0
    for name, value in attributes.items():
        if not isinstance(name, str) or not isinstance(value, str):
            what = f"attribute {name!r} is of type {type(value).__name__}"
            raise ScriptFailed(f"{what}; attributes are strings: use str()")
        total += len(name) + len(value)
    if total > MAX_ATTRIBUTES:
        raise ScriptFailed(f"the attributes hold more than {MAX_ATTRIBUTES // 1024} KB")
    try:
        strict_json.dumps(attributes)
    except strict_json.NotJson as error:
        raise ScriptFailed(f"attribute {error}") from None


def _fail(outcome: Outcome, error: BaseException) -> None:
    outcome.body = outcome.relation = outcome.reason = None
    outcome.refused = False
    outcome.out_of_memory = isinstance(error, MemoryError)
    outcome.error = explain(error)
    kept = {name: value for name, value in outcome.attributes.items() if _is_kept(name) and _is_kept(value)}
    outcome.attributes = dict(list(kept.items())[:1000]) | {"log.script.error": outcome.error}


def _is_kept(text: Any) -> bool:
    return type(text) is str and len(text) <= MAX_ATTRIBUTES // 100


def explain(error: BaseException) -> str:
    """The failure in one paragraph, with the script's own line numbers."""
    if isinstance(error, MemoryError):
        return "the script needed more memory than scripts.memory_mb allows"
    what = _safe_text(error)
    if isinstance(error, SystemExit):
        what = f"the script called sys.exit({what}); to refuse a plan, transfer it to REL_FAILURE or raise"
    elif not isinstance(error, ScriptFailed | contract.ContractBroken | strict_json.NotJson):
        name = type(error).__name__
        what = f"{name}: {what}{_hint(what)}" if what else name
    return _fit(what + _where(error))


def _safe_text(error: BaseException) -> str:
    try:
        return str(error)
    except BaseException as second:
        return f"(its message cannot be read: {type(second).__name__})"


def _hint(text: str) -> str:
    return next((f" ({hint})" for known, hint in _HINTS.items() if known in text), "")


def _where(error: BaseException) -> str:
    lines = [
        f"line {number}" + (f" in {frame.f_code.co_name}" if frame.f_code.co_name != "<module>" else "")
        for frame, number in traceback.walk_tb(error.__traceback__)
        if frame.f_code.co_filename == FILENAME
    ]
    if len(lines) > 6:
        lines = [*lines[:3], "...", *lines[-2:]]
    return f" ({', '.join(lines)})" if lines else ""


def _fit(text: str) -> str:
    clean = text.encode("utf-8", "backslashreplace").decode("utf-8")
    return (
        clean
        if len(clean) <= MAX_MESSAGE
        else clean[: MAX_MESSAGE // 2] + contract.CUT + clean[-MAX_MESSAGE // 2 :]
    )
