"""The parent's side of the script process: calls with a deadline, and a new process where one is spent.

One process serves one task: it starts on first use, runs call after call, and is replaced when a call
overran, broke it, or left something behind. It inherits neither memory nor descriptors nor environment.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import hashlib
import importlib.util
import json
import logging
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Self

from include.order_cancel.errors import MappingFailed, PlanFailed, ScriptFailed
from include.order_cancel.scripts import frames, strict_json
from include.order_cancel.scripts.confinement import Policy
from include.order_cancel.scripts.contract import MAX_CONTENT
from include.order_cancel.scripts.reading import Kind

_CHILD = Path(__file__).with_name("child.py")
_PROJECT = Path(__file__).resolve().parents[3]
_MARK = "ORDER_CANCEL_SCRIPT_PROCESS"
_START_SECONDS = 60
_MAX_ANSWER = 4 * MAX_CONTENT
# Documents that go to the process in one write: beyond some dozens the write is no longer what costs.
_MAPPED_AT_ONCE = 64
_MAPPED_BYTES = 256 * 1024
_READ_BYTES = 64 * 1024
log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Limits:
    """What one call may use: seconds until its end, MB beyond the bare process, and the network or not.

    `confinement`: whether the kernel must confine the process, does where it can, or does not.
    """

    timeout_seconds: float = 30
    memory_mb: int = 512
    network: bool = True
    confinement: Policy = "best_effort"


@dataclass(frozen=True)
class ScriptResult:
    """What a script said: its result (JSON, None without one), attributes, and what it printed and logged.

    `relation` is a response script's word, not yet judged. `refused`: the script chose REL_FAILURE.
    """

    result: Any
    attributes: dict[str, str]
    relation: str | None
    reason: str | None
    refused: bool
    log: list[str]


class ScriptRunFailed(ScriptFailed):
    """A script raised, overran or answered nonsense; with the attributes and log lines made by then."""

    def __init__(
        self, message: str, attributes: dict[str, str] | None = None, log: list[str] | None = None
    ) -> None:
        super().__init__(message)
        self.attributes = attributes or {"log.script.error": message}
        self.log = log or []


@dataclass
class _Running:
    """One started process: its connection, its stderr, its folder, its mark, and the texts it has been sent."""

    process: subprocess.Popen[bytes]
    connection: socket.socket
    complaints: IO[bytes]
    scratch: str
    mark: str
    known: set[str] = field(default_factory=set)
    unread: bytearray = field(default_factory=bytearray)


@dataclass(frozen=True)
class _Waiting:
    """A document that waits for its mapping."""

    spec: str
    content: bytes
    result: asyncio.Future[Any]

    def settle(self, header: dict[str, Any], body: bytes) -> None:
        try:
            result = _value(_judged(header, body, MappingFailed)[1], MappingFailed)
        except MappingFailed as error:
            self.fail(error)
        else:
            if not self.result.done():
                self.result.set_result(result)

    def fail(self, error: Exception) -> None:
        if not self.result.done():
            self.result.set_exception(error)


class _Ended(Exception):
    """The process closed its connection or sent what is no answer."""


class ScriptProcess:
    """Runs scripts and mappings, one call at a time, in one event loop; an async context manager."""

    def __init__(self, limits: Limits) -> None:
        self.limits = limits
        self.starts = 0
        self._lock = asyncio.Lock()
        self._running: _Running | None = None
        self._calls = 0
        self._waiting: deque[_Waiting] = deque()
        self._mapper: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def map(self, spec: str, document: Any) -> Any:
        """The document as the Jolt chain `spec` (its text) leaves it. Raises MappingFailed."""
        return await self._map(spec, _json(document, MappingFailed))

    async def map_text(self, spec: str, document: str) -> Any:
        """The same for a document that is JSON text already. Raises MappingFailed."""
        return await self._map(spec, document.encode("utf-8", "surrogatepass"))

    async def _map(self, spec: str, content: bytes) -> Any:
        loop = asyncio.get_running_loop()
        waiting = _Waiting(spec, content, loop.create_future())
        self._waiting.append(waiting)
        if self._mapper is None or self._mapper.done():
            self._mapper = loop.create_task(self._map_all())
        return await waiting.result

    async def trace(self, spec: str, document: Any) -> list[tuple[str, Any]]:
        """`(operation, document after it)` for each step of the chain. Raises MappingFailed."""
        _, body = await self._call("trace", spec, _json(document, MappingFailed), {}, MappingFailed)
        return [(operation, after) for operation, after in _value(body, MappingFailed)]

    async def run(
        self,
        kind: Kind,
        text: str,
        document: Any,
        attributes: Mapping[str, str],
        *,
        request: Any = None,
        response: Any = None,
    ) -> ScriptResult:
        """Runs a script of this kind on a plan.

        `document` is what a `script` transforms; `request` (the body sent to the ERP) and `response` (its
        answer's body, as text or as parsed JSON) are what `response` and `post` scripts get. Raises
        ScriptRunFailed, which is a ScriptFailed with `attributes` and `log`.
        """
        content = _content(kind, document, request, response)
        extra: dict[str, Any] = {"attributes": dict(attributes)}
        if kind == "response":
            extra["request"] = request
        header, body = await self._call(kind, text, content, extra, ScriptRunFailed)
        return ScriptResult(
            result=_value(body, ScriptRunFailed) if body else None,
            attributes=header["attributes"],
            relation=header["relation"],
            reason=header["reason"],
            refused=header["refused"],
            log=header["log"],
        )

    async def close(self) -> None:
        """Ends the process, if one runs. The object may be used again."""
        if self._mapper is not None and not self._mapper.done():
            self._mapper.cancel()
            await asyncio.wait([self._mapper])
        for waiting in self._waiting:
            waiting.result.cancel()
        self._waiting.clear()
        async with self._lock:
            await self._replace()

    async def _call(
        self, op: str, text: str, content: bytes, extra: dict[str, Any], failure: type[PlanFailed]
    ) -> tuple[dict[str, Any], bytes]:
        async with self._lock:
            running = await self._started(failure)
            try:
                async with asyncio.timeout(self.limits.timeout_seconds):
                    header, body = await self._exchange(running, op, text, content, extra)
            except TimeoutError:
                await self._replace()
                raise failure(self._overrun) from None
            except _Ended:
                raise failure(await self._epitaph()) from None
            except BaseException:
                await self._replace()
                raise
            if header["spent"]:
                await self._replace()
        return _judged(header, body, failure)

    async def _map_all(self) -> None:
        """Maps what waits. While some documents are under way the next ones gather, and share one write."""
        while self._waiting:
            async with self._lock:
                batch = self._next_batch()
                try:
                    while batch:
                        await self._map_some(batch)
                except Exception as error:  # whoever waits must hear of it
                    for waiting in batch:
                        waiting.fail(error)
                except BaseException:
                    self._waiting.extendleft(reversed(batch))
                    raise

    def _next_batch(self) -> deque[_Waiting]:
        batch: deque[_Waiting] = deque()
        size = 0
        while self._waiting and len(batch) < _MAPPED_AT_ONCE and size < _MAPPED_BYTES:
            batch.append(self._waiting.popleft())
            size += len(batch[-1].content)
        return batch

    async def _map_some(self, batch: deque[_Waiting]) -> None:
        """Take from `batch` what one process maps, and the one at which it ended: the others are not to blame."""
        running = await self._started(MappingFailed)
        try:
            spent = await self._exchange_all(running, batch)
        except TimeoutError:
            await self._replace()
            batch.popleft().fail(MappingFailed(self._overrun))
        except _Ended:
            batch.popleft().fail(MappingFailed(await self._epitaph()))
        except BaseException:
            await self._replace()
            raise
        else:
            if spent:
                await self._replace()

    async def _exchange_all(self, running: _Running, batch: deque[_Waiting]) -> bool:
        """Settle the batch in its order, until it is empty or the process is spent, which is returned."""
        calls = [self._packed(running, "map", waiting.spec, waiting.content, {}) for waiting in batch]
        parts = [part for _, of_call in calls for part in of_call]
        # Beside the reading: a process that cannot get rid of its answers reads no further calls.
        sending = asyncio.create_task(_send(running.connection, [b"".join(parts)]))
        try:
            for call_id, _ in calls:
                async with asyncio.timeout(self.limits.timeout_seconds):
                    header, body = await _answered(running, call_id)
                waiting = batch.popleft()
                waiting.settle(header, body)
                if header["spent"]:
                    return True
                if header.get("error") is None:
                    running.known.add(_digest("map", waiting.spec))
        finally:
            sending.cancel()
            await asyncio.gather(sending, return_exceptions=True)
        return False

    @property
    def _overrun(self) -> str:
        return f"stopped after {self.limits.timeout_seconds:g} s (scripts.timeout_seconds)"

    def _packed(
        self, running: _Running, op: str, text: str, content: bytes, extra: dict[str, Any]
    ) -> tuple[str, list[bytes]]:
        """A call's id and its frame; the text is left out where the process has compiled it before."""
        self._calls += 1
        digest = _digest(op, text)
        call = {"id": f"{self._calls}-{secrets.token_hex(8)}", "op": op, "digest": digest, **extra}
        if digest not in running.known:
            call["text"] = text
        return call["id"], frames.pack(call, content)

    async def _exchange(
        self, running: _Running, op: str, text: str, content: bytes, extra: dict[str, Any]
    ) -> tuple[dict[str, Any], bytes]:
        call_id, parts = self._packed(running, op, text, content, extra)
        await _send(running.connection, parts)
        header, body = await _answered(running, call_id)
        if header.get("error") is None:
            running.known.add(_digest(op, text))
        return header, body

    async def _started(self, failure: type[PlanFailed]) -> _Running:
        if self._running is not None and _has_unread_bytes(self._running):
            # Something spoke out of turn: a thread that a script left, or an end that nobody has noticed yet.
            await self._replace()
        if self._running is not None:
            return self._running
        try:
            running = self._running = self._start()
            self.starts += 1
            async with asyncio.timeout(_START_SECONDS):
                header, _ = await _receive(running)
            _expect_ready(header)
            if self.starts == 1:
                log.log(logging.INFO if header["complete"] else logging.WARNING, "%s", header["holds"])
        except (OSError, _Ended) as error:
            why = str(error) or await self._obituary()
            raise failure(f"the process for scripts and mappings did not start: {why}") from None
        except BaseException:
            await self._replace()
            raise
        return running

    def _start(self) -> _Running:
        ours, theirs = socket.socketpair()
        ours.setblocking(False)
        mark = secrets.token_hex(16)
        complaints = tempfile.TemporaryFile()  # noqa: SIM115  (it lives as long as the process)
        scratch = tempfile.mkdtemp(prefix="order_cancel_script_")
        try:
            with theirs:
                process = self._popen(theirs.fileno(), mark, complaints, scratch)
        except OSError:
            ours.close()
            complaints.close()
            os.rmdir(scratch)  # noqa: PTH106  (an event loop waits)
            raise
        return _Running(process, ours, complaints, scratch, mark)

    def _popen(
        self, descriptor: int, mark: str, complaints: IO[bytes], scratch: str
    ) -> subprocess.Popen[bytes]:
        config = {
            "descriptor": descriptor,
            "paths": _import_paths(),
            "scratch": scratch,
            "memory_mb": self.limits.memory_mb,
            "timeout_seconds": self.limits.timeout_seconds,
            "network": self.limits.network,
            "confinement": self.limits.confinement,
            "parent": os.getpid(),
        }
        return subprocess.Popen(
            [sys.executable, "-I", "-S", "-X", "utf8", str(_CHILD), json.dumps(config)],
            env={"PATH": "/usr/bin:/bin", "LANG": "C.UTF-8", "MALLOC_ARENA_MAX": "2", _MARK: mark},
            cwd=scratch,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=complaints,
            pass_fds=(descriptor,),
            start_new_session=True,
        )

    async def _replace(self) -> int | None:
        """Ends the process and all that it started; its exit code, None where none ran."""
        running, self._running = self._running, None
        if running is None:
            return None
        running.connection.close()
        running.complaints.close()
        return await asyncio.to_thread(_end, running)

    async def _obituary(self) -> str:
        """How a process that did not start ended, and its last words."""
        words = ""
        if self._running is not None:
            self._running.complaints.seek(0)
            words = self._running.complaints.read().decode("utf-8", "replace")[-500:].strip()
        return f"{_told(await self._replace())} {words}"

    async def _epitaph(self) -> str:
        if self._running is not None:
            # It may be about to end by itself, and how it does is worth telling.
            with contextlib.suppress(subprocess.TimeoutExpired):
                await asyncio.to_thread(self._running.process.wait, 0.5)
        code = await self._replace()
        return f"the script ended or broke its own process ({_told(code)})"


@functools.lru_cache(maxsize=64)
def _digest(op: str, text: str) -> str:
    return f"{op}:{hashlib.sha256(text.encode('utf-8', 'surrogatepass')).hexdigest()}"


def _json(value: Any, failure: type[PlanFailed]) -> bytes:
    try:
        return strict_json.dumps(value)
    except strict_json.NotJson as error:
        raise failure(f"what goes in is not JSON: {error}") from None


def _content(kind: Kind, document: Any, request: Any, response: Any) -> bytes:
    if kind == "script":
        return _json(document, ScriptRunFailed)
    if kind == "post":
        return _json({"request_data": request, "response_data": _parsed(response)}, ScriptRunFailed)
    if isinstance(response, str):
        return response.encode("utf-8", "replace")
    return _json(response, ScriptRunFailed)


def _parsed(response: Any) -> Any:
    """An answer's body as a script gets it: parsed where it is JSON, else the text."""
    if not isinstance(response, str):
        return response
    try:
        return strict_json.loads(response)
    except strict_json.NotJson:
        return response


def _value(body: bytes, failure: type[PlanFailed]) -> Any:
    try:
        return strict_json.loads(body)
    except strict_json.NotJson as error:
        raise failure(f"the result is not JSON: {error}") from None


def _judged(header: dict[str, Any], body: bytes, failure: type[PlanFailed]) -> tuple[dict[str, Any], bytes]:
    error, spent = header.get("error"), header["spent"]
    if spent and "log" in header:
        header["log"].append(f"(the script's process was replaced: {spent})")
    if error is None:
        return header, body
    if failure is ScriptRunFailed:
        raise ScriptRunFailed(error, header.get("attributes"), header.get("log"))
    raise failure(error)


def _expect_ready(header: dict[str, Any]) -> None:
    if header.get("id") != frames.READY:
        raise _Ended


def _is_answer(header: dict[str, Any], call_id: str) -> bool:
    """Whether this is the answer to the call, in the shape that the child gives it."""
    attributes, log = header.get("attributes", {}), header.get("log", [])
    return (
        header.get("id") == call_id
        and "spent" in header
        and _is_text_or_none(header.get("error"))
        and _is_text_or_none(header.get("relation"))
        and _is_text_or_none(header.get("reason"))
        and isinstance(header.get("refused", False), bool)
        and isinstance(attributes, dict)
        and all(isinstance(value, str) for value in attributes.values())
        and isinstance(log, list)
        and all(isinstance(line, str) for line in log)
    )


def _is_text_or_none(value: Any) -> bool:
    return value is None or isinstance(value, str)


async def _send(connection: socket.socket, parts: list[bytes]) -> None:
    loop = asyncio.get_running_loop()
    try:
        for part in parts:
            await loop.sock_sendall(connection, part)
    except OSError:
        raise _Ended from None


async def _answered(running: _Running, call_id: str) -> tuple[dict[str, Any], bytes]:
    header, body = await _receive(running)
    if not _is_answer(header, call_id):
        raise _Ended
    return header, body


async def _receive(running: _Running) -> tuple[dict[str, Any], bytes]:
    try:
        header_length, body_length = frames.lengths(await _read(running, frames.LENGTHS.size))
        if body_length > _MAX_ANSWER:
            raise _Ended
        header = frames.unpack_header(await _read(running, header_length))
        return header, bytes(await _read(running, body_length))
    except (OSError, frames.BrokenFrame):
        raise _Ended from None


async def _read(running: _Running, length: int) -> bytearray:
    """The next `length` bytes; what came with them is kept for the next call."""
    loop = asyncio.get_running_loop()
    while len(running.unread) < length:
        more = await loop.sock_recv(running.connection, max(_READ_BYTES, length - len(running.unread)))
        if not more:
            raise _Ended
        running.unread += more
    data = running.unread[:length]
    del running.unread[:length]
    return data


def _has_unread_bytes(running: _Running) -> bool:
    if running.unread:
        return True
    try:
        running.connection.recv(1, socket.MSG_PEEK)
    except BlockingIOError:
        return False
    except OSError:
        return True
    return True


def _end(running: _Running) -> int:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(running.process.pid, signal.SIGKILL)
    code = running.process.wait()
    _end_strays(running.mark)
    shutil.rmtree(running.scratch, ignore_errors=True)
    return code


def _end_strays(mark: str, seconds: float = 2) -> None:
    """Kills whatever carries the process's mark: children of its that left its group."""
    until = time.monotonic() + seconds
    while strays := _marked(mark):
        for pid in strays:
            with contextlib.suppress(OSError):
                os.kill(pid, signal.SIGKILL)
        if time.monotonic() > until:
            return


def _marked(mark: str) -> list[int]:
    wanted = f"{_MARK}={mark}".encode()
    found = []
    for entry in os.scandir("/proc"):
        with contextlib.suppress(OSError, ValueError):
            pid = int(entry.name)
            environment = Path(entry.path, "environ").read_bytes()
            if wanted in environment:
                found.append(pid)
    return found


def _told(code: int | None) -> str:
    if code is not None and code < 0:
        with contextlib.suppress(ValueError):
            name = signal.Signals(-code).name
            return f"{name}: it used more CPU than it may" if name == "SIGXCPU" else name
    return f"exit code {code}"


def _import_paths() -> list[str]:
    """The project's root, and where the packages stand that scripts may import."""
    paths = [str(_PROJECT)]
    for package in ("pyjolt", "requests", "pendulum"):
        spec = importlib.util.find_spec(package)
        if spec is not None and spec.origin is not None:
            parent = str(Path(spec.origin).parents[1])
            if parent not in paths:
                paths.append(parent)
    return paths
