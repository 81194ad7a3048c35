"""What an Integrator script sees: the session, its flow file, streams, callbacks, and Java names to import.

The names and their behaviour follow the ExecuteScript processor of Apache NiFi, as the product's page uses
it. One flow file is one cancellation plan. Where a script writes no output, the content stays as it was.
"""
# The names are those of NiFi and Java:
# ruff: noqa: N802, N815

from __future__ import annotations

import re
import types
from collections.abc import Callable, Iterable, Iterator
from typing import Any

CUT = " ... "  # stands where the middle of a message that was too long was
MAX_CONTENT = 16 * 1024 * 1024
MAX_LOG = 256 * 1024

_TAKES_ANY_NUMBER = 0x04  # inspect.CO_VARARGS


class ContractBroken(Exception):
    """The script used the contract in a way it does not allow; the message is for its author."""


class Log:
    """The script's `log` and its prints: lines kept for the plan's log, cut at 256 KB."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self._room = MAX_LOG
        self._open = ""

    def trace(self, message: Any, *values: Any) -> None:
        self.add("TRACE", message, values)

    def debug(self, message: Any, *values: Any) -> None:
        self.add("DEBUG", message, values)

    def info(self, message: Any, *values: Any) -> None:
        self.add("INFO", message, values)

    def warn(self, message: Any, *values: Any) -> None:
        self.add("WARN", message, values)

    warning = warn

    def error(self, message: Any, *values: Any) -> None:
        self.add("ERROR", message, values)

    def add(self, level: str, message: Any, values: Iterable[Any] = ()) -> None:
        """One line; `{}` in the message are filled in turn, as SLF4J does."""
        text = str(message)
        for value in values:
            text = text.replace("{}", str(value), 1)
        self._keep(f"{level} {text}")

    def write(self, text: str) -> int:
        """What the script prints; a line is kept when it is whole."""
        if self._room <= 0:
            return len(text)
        *whole, self._open = (self._open + text[: self._room + 1]).split("\n")
        for line in whole:
            self._keep(line)
        if len(self._open) > self._room:
            self.flush()
        return len(text)

    def flush(self) -> None:
        """Keeps the line that was begun, where there is one."""
        if self._open:
            self._keep(self._open)
            self._open = ""

    def isatty(self) -> bool:
        return False

    def _keep(self, line: str) -> None:
        if self._room <= 0:
            return
        kept = line[: self._room].encode("utf-8", "backslashreplace").decode("utf-8")
        self._room -= len(kept) + 1
        self.lines.append(kept)
        if self._room <= 0:
            self.lines.append(f"(the log is cut here: more than {MAX_LOG // 1024} KB)")


class InputStream:
    """The content to read: bytes, whole or in parts, as Python's and Java's readers do."""

    def __init__(self, content: bytes) -> None:
        self._content = content
        self._position = 0

    def read(self, size: int | None = None) -> bytes:
        start = self._position
        end = len(self._content) if size is None or size < 0 else min(len(self._content), start + size)
        self._position = end
        return self._content[start:end]

    readAllBytes = read

    def available(self) -> int:
        return len(self._content) - self._position

    def readline(self) -> bytes:
        end = self._content.find(b"\n", self._position)
        return self.read(None if end < 0 else end + 1 - self._position)

    def readlines(self) -> list[bytes]:
        return list(self)

    def __iter__(self) -> Iterator[bytes]:
        return iter(self.readline, b"")

    def close(self) -> None:
        """Streams are closed when the callback returns; closing earlier does no harm."""


class OutputStream:
    """The content to write: text, bytes or bytearray, in as many parts as the script likes."""

    def __init__(self) -> None:
        self._parts: list[bytes] = []
        self._size = 0
        self._open = True

    def write(self, data: str | bytes | bytearray) -> None:
        if not self._open:
            raise ContractBroken("outputStream.write() after process() has returned")
        part = _as_bytes(data)
        self._size += len(part)
        if self._size > MAX_CONTENT:
            raise ContractBroken(f"the output is larger than {MAX_CONTENT // 1024 // 1024} MB")
        self._parts.append(part)

    def flush(self) -> None:
        """Nothing is held back."""

    def close(self) -> None:
        self._open = False

    @property
    def written(self) -> bytes | None:
        """All that was written; None where nothing was."""
        return b"".join(self._parts) if self._parts else None


def _as_bytes(data: Any) -> bytes:
    if isinstance(data, str):
        try:
            return data.encode("utf-8")
        except UnicodeEncodeError:
            raise ContractBroken("the output holds half a surrogate pair, which is no text") from None
    if isinstance(data, bytes | bytearray | memoryview):
        return bytes(data)
    raise ContractBroken(f"outputStream.write() takes text or bytes, not {type(data).__name__}")


class JavaMap(dict[str, str]):
    """A dict that also answers to the names of java.util.Map."""

    def containsKey(self, key: str) -> bool:
        return key in self

    def keySet(self) -> list[str]:
        return list(self)

    def entrySet(self) -> list[Entry]:
        return [Entry(key, value) for key, value in self.items()]

    def size(self) -> int:
        return len(self)

    def isEmpty(self) -> bool:
        return not self


class Entry:
    """A pair of java.util.Map."""

    def __init__(self, key: str, value: str) -> None:
        self.key = key
        self.value = value

    def getKey(self) -> str:
        return self.key

    def getValue(self) -> str:
        return self.value


class FlowFile:
    """One plan on its way through a script: content and attributes. The same object is current everywhere."""

    def __init__(self, content: bytes, attributes: dict[str, str]) -> None:
        self.content = content
        self.attributes = attributes
        self.written = False

    def getAttribute(self, name: str) -> str | None:
        return self.attributes.get(name)

    def getAttributes(self) -> JavaMap:
        return JavaMap(self.attributes)

    def getSize(self) -> int:
        return len(self.content)

    def getId(self) -> int:
        return 1


class Relationship:
    """REL_SUCCESS or REL_FAILURE."""

    def __init__(self, name: str) -> None:
        self.name = name

    def getName(self) -> str:
        return self.name

    def __repr__(self) -> str:
        return f"REL_{self.name.upper()}"


REL_SUCCESS = Relationship("success")
REL_FAILURE = Relationship("failure")


class StreamCallback:
    """Base of a callback with `process(self, inputStream, outputStream)`; any class with `process` does."""


class InputStreamCallback(StreamCallback):
    """Base of a callback with `process(self, inputStream)`."""


class OutputStreamCallback(StreamCallback):
    """Base of a callback with `process(self, outputStream)`."""


class Session:
    """The ProcessSession of one call: one flow file in, one out."""

    def __init__(self, content: bytes, attributes: dict[str, str]) -> None:
        self._input = FlowFile(content, attributes)
        self._taken = False
        self._live = [self._input]
        self.transferred: list[tuple[FlowFile, Relationship]] = []

    @property
    def current(self) -> FlowFile:
        """The flow file that counts: the one transferred, else the last one that was not removed."""
        if self.transferred:
            return self.transferred[-1][0]
        return self._live[-1] if self._live else self._input

    @property
    def removed(self) -> bool:
        return not self._live and not self.transferred

    def get(self, most: int | None = None) -> Any:
        """The plan's flow file, once; then None, as from an empty queue. With a number: a list."""
        found = [] if self._taken else [self._input]
        self._taken = True
        if most is not None:
            return found
        return found[0] if found else None

    def create(self, parent: FlowFile | None = None) -> FlowFile:
        made = FlowFile(b"", dict(parent.attributes) if parent else {})
        self._live.append(made)
        return made

    def clone(self, parent: FlowFile) -> FlowFile:
        made = self.create(_known(parent))
        made.content = parent.content
        return made

    def read(self, flow_file: FlowFile, callback: Any = None) -> Any:
        """With a callback: runs its `process`. Without: the stream to read."""
        stream = InputStream(_known(flow_file).content)
        if callback is None:
            return stream
        _process(callback)(stream)
        return None

    def write(self, flow_file: FlowFile, callback: Any = None) -> Any:
        """With a callback: runs its `process` and keeps what it wrote. Without: the stream to write to."""
        _known(flow_file)
        if callback is None:
            return _DirectOutput(flow_file)
        output = OutputStream()
        try:
            _call_writer(_process(callback), InputStream(flow_file.content), output)
        finally:
            output.close()
        _take(flow_file, output)
        return flow_file

    def append(self, flow_file: FlowFile, callback: Any) -> FlowFile:
        output = OutputStream()
        _process(callback)(output)
        output.close()
        if output.written is not None:
            flow_file.content += output.written
            flow_file.written = True
        return flow_file

    def putAttribute(self, flow_file: FlowFile, name: Any, value: Any) -> FlowFile:
        _known(flow_file).attributes[_text(name, "an attribute's name")] = _text(value, f"attribute {name!r}")
        return flow_file

    def putAllAttributes(self, flow_file: FlowFile, attributes: dict[str, str]) -> FlowFile:
        for name, value in dict(attributes).items():
            self.putAttribute(flow_file, name, value)
        return flow_file

    def removeAttribute(self, flow_file: FlowFile, name: str) -> FlowFile:
        _known(flow_file).attributes.pop(name, None)
        return flow_file

    def removeAllAttributes(self, flow_file: FlowFile, names: Any) -> FlowFile:
        """Takes a collection of names, or a regular expression that whole names match."""
        pattern = re.compile(names) if isinstance(names, str) else None
        for name in list(_known(flow_file).attributes):
            if pattern.fullmatch(name) if pattern else name in names:
                del flow_file.attributes[name]
        return flow_file

    def transfer(self, flow_file: Any, relationship: Any = REL_SUCCESS) -> None:
        for one in flow_file if isinstance(flow_file, list | tuple) else [flow_file]:
            self._transfer(_known(one), relationship)

    def _transfer(self, flow_file: FlowFile, relationship: Any) -> None:
        if not isinstance(relationship, Relationship):
            raise ContractBroken("session.transfer() takes REL_SUCCESS or REL_FAILURE")
        if any(earlier is not flow_file for earlier, _ in self.transferred):
            raise ContractBroken("the script transferred two flow files; one plan gives one output")
        self.transferred.append((flow_file, relationship))

    def remove(self, flow_file: Any) -> None:
        gone = flow_file if isinstance(flow_file, list | tuple) else [flow_file]
        self._live = [one for one in self._live if not any(one is other for other in gone)]

    def commit(self) -> None:
        """Integrator commits when the script ends; so does this."""

    def getProvenanceReporter(self) -> _Ignored:
        return _Ignored()


def _ignore(*_values: Any, **_named: Any) -> None:
    pass


class _Ignored:
    def __getattr__(self, name: str) -> Callable[..., None]:
        return _ignore


class _DirectOutput(OutputStream):
    """The stream of `session.write(flowFile)`, and the global `outputStream`: each part counts at once."""

    def __init__(self, flow_file: FlowFile) -> None:
        super().__init__()
        self._flow_file = flow_file

    def write(self, data: str | bytes | bytearray) -> None:
        super().write(data)
        _take(self._flow_file, self)

    def __enter__(self) -> _DirectOutput:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()


def direct_output(flow_file: FlowFile) -> OutputStream:
    """A stream whose parts become the flow file's content at once."""
    return _DirectOutput(flow_file)


def _take(flow_file: FlowFile, output: OutputStream) -> None:
    if output.written is not None:
        flow_file.content = output.written
        flow_file.written = True


def _known(flow_file: Any) -> FlowFile:
    if not isinstance(flow_file, FlowFile):
        what = (
            "None (session.get() gives the flow file once)" if flow_file is None else type(flow_file).__name__
        )
        raise ContractBroken(f"the session was given {what} in place of a flow file")
    return flow_file


def _text(value: Any, what: str) -> str:
    if not isinstance(value, str):
        raise ContractBroken(f"{what} is of type {type(value).__name__}; attributes are strings: use str()")
    return str(value)


def _process(callback: Any) -> Callable[..., Any]:
    process = getattr(callback, "process", callback)
    if not callable(process):
        raise ContractBroken("a callback is an object with a method process(self, inputStream, outputStream)")
    return process  # type: ignore[no-any-return]


def _call_writer(process: Callable[..., Any], source: InputStream, output: OutputStream) -> None:
    """Runs `process(inputStream, outputStream)`, or with the one stream that it takes."""
    names = _argument_names(process)
    if len(names) != 1:
        process(source, output)
    elif names[0].lower().startswith("in"):
        process(source)
    else:
        process(output)


def only_reads(callback: Any) -> bool:
    """Whether the callback has `process(self, inputStream)`, without a stream to write to."""
    names = _argument_names(_process(callback))
    return len(names) == 1 and names[0].lower().startswith("in")


def _argument_names(process: Callable[..., Any]) -> tuple[str, ...]:
    code = getattr(getattr(process, "__func__", process), "__code__", None)
    if code is None or code.co_flags & _TAKES_ANY_NUMBER:
        return ()
    bound = 1 if isinstance(process, types.MethodType) else 0
    return tuple(code.co_varnames[bound : code.co_argcount])


class Charset(str):
    """A java.nio.charset.Charset: the name of an encoding."""

    def name(self) -> str:
        return str(self)

    @staticmethod
    def forName(name: str) -> Charset:
        return Charset(name)

    @staticmethod
    def defaultCharset() -> Charset:
        return Charset("utf-8")


class StandardCharsets:
    """java.nio.charset.StandardCharsets."""

    UTF_8 = Charset("utf-8")
    US_ASCII = Charset("ascii")
    ISO_8859_1 = Charset("iso-8859-1")
    UTF_16 = Charset("utf-16")
    UTF_16BE = Charset("utf-16-be")
    UTF_16LE = Charset("utf-16-le")


class IOUtils:
    """org.apache.commons.io.IOUtils, as far as scripts use it."""

    @staticmethod
    def toString(stream: Any, charset: str | None = None) -> str:
        data = stream if isinstance(stream, bytes | bytearray) else stream.read()
        return data if isinstance(data, str) else bytes(data).decode(charset or "utf-8")

    @staticmethod
    def toByteArray(stream: Any) -> bytes:
        return _as_bytes(stream.read())

    @staticmethod
    def readLines(stream: Any, charset: str | None = None) -> list[str]:
        return IOUtils.toString(stream, charset).splitlines()

    @staticmethod
    def write(data: Any, output: Any, charset: str | None = None) -> None:
        output.write(data.encode(charset) if isinstance(data, str) and charset else data)

    @staticmethod
    def copy(source: Any, output: Any) -> int:
        data = source.read()
        output.write(data)
        return len(data)

    @staticmethod
    def closeQuietly(*streams: Any) -> None:
        for stream in streams:
            stream.close()


class InputStreamReader:
    """java.io.InputStreamReader."""

    def __init__(self, stream: Any, charset: str | None = None) -> None:
        self._text = IOUtils.toString(stream, charset)

    def read(self) -> str:
        text, self._text = self._text, ""
        return text

    def close(self) -> None:
        """Nothing to close."""


class BufferedReader:
    """java.io.BufferedReader: `readLine()` gives one line after another, then None."""

    def __init__(self, reader: InputStreamReader) -> None:
        self._lines = iter(reader.read().splitlines())

    def readLine(self) -> str | None:
        return next(self._lines, None)

    def close(self) -> None:
        """Nothing to close."""


_NAMES: dict[str, dict[str, Any]] = {
    "org.apache.commons.io": {"IOUtils": IOUtils},
    "java.nio.charset": {"StandardCharsets": StandardCharsets, "Charset": Charset},
    "java.io": {"InputStreamReader": InputStreamReader, "BufferedReader": BufferedReader},
    "org.apache.nifi.processor.io": {
        "StreamCallback": StreamCallback,
        "InputStreamCallback": InputStreamCallback,
        "OutputStreamCallback": OutputStreamCallback,
    },
}


def java_modules() -> dict[str, types.ModuleType]:
    """The Java packages that scripts import, by dotted name, parents included, ready for sys.modules."""
    modules: dict[str, types.ModuleType] = {}
    for package, names in _NAMES.items():
        parent: types.ModuleType | None = None
        parts = package.split(".")
        for depth in range(1, len(parts) + 1):
            dotted = ".".join(parts[:depth])
            module = modules.setdefault(dotted, _package(dotted))
            if parent is not None:
                setattr(parent, parts[depth - 1], module)
            parent = module
        vars(parent).update(names)
    return modules


def _package(name: str) -> types.ModuleType:
    module = types.ModuleType(name, "A Java package, as far as scripts need it.")
    module.__path__ = []
    return module
