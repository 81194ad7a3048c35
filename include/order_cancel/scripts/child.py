"""The script process: reads a call, runs it, answers, until its parent goes away.

Started as a file by `process.py` with a bare interpreter (`-I -S`); its argument is a JSON object: the
descriptor to talk over, the import paths (the project's first), its scratch folder, the limits, and the parent's
process id.
"""

from __future__ import annotations

import gc
import importlib
import json
import os
import socket
import sys
import traceback
from typing import Any

_config = json.loads(sys.argv[1]) if __name__ == "__main__" else {}
sys.path.extend(_config.get("paths", []))

from include.order_cancel.errors import MappingFailed, ScriptFailed  # noqa: E402  (the paths come first)
from include.order_cancel.scripts import confinement, contract, frames, guard, strict_json  # noqa: E402
from include.order_cancel.scripts.runner import Outcome, Program, compile_script, run  # noqa: E402
from include.order_cancel.scripts.watch import Watch  # noqa: E402

_CHUNK = 1024 * 1024


class Prints:
    """sys.stdout and sys.stderr: what is printed goes to the log of the call that runs."""

    encoding = "utf-8"
    errors = "backslashreplace"

    def __init__(self) -> None:
        self.log = contract.Log()

    def write(self, text: str) -> int:
        return self.log.write(text)

    def writelines(self, lines: list[str]) -> None:
        for line in lines:
            self.write(line)

    def flush(self) -> None:
        """A line is kept when it is whole."""

    def isatty(self) -> bool:
        return False

    def writable(self) -> bool:
        return True

    def fileno(self) -> int:
        raise OSError("prints go to the log, which has no descriptor")


class Wire:
    """The child's end of the connection."""

    def __init__(self, descriptor: int) -> None:
        self._socket = socket.socket(fileno=descriptor)

    def receive(self) -> tuple[dict[str, Any], bytes | None] | None:
        """The next call; its body is None where it does not fit into memory. None: the parent is gone."""
        prefix = self._read(frames.LENGTHS.size)
        if prefix is None:
            return None
        header_length, body_length = frames.lengths(prefix)
        header = self._read(header_length)
        if header is None:
            return None
        try:
            body = self._read(body_length)
        except MemoryError:
            self._skip(body_length)
            return frames.unpack_header(header), None
        return None if body is None else (frames.unpack_header(header), bytes(body))

    def send(self, header: dict[str, Any], body: bytes) -> None:
        for part in frames.pack(header, body):
            self._socket.sendall(part)

    def _read(self, length: int) -> bytearray | None:
        data = bytearray(length)
        view, done = memoryview(data), 0
        while done < length:
            count = self._socket.recv_into(view[done:])
            if not count:
                return None
            done += count
        return data

    def _skip(self, length: int) -> None:
        while length:
            length -= len(self._socket.recv(min(length, _CHUNK))) or length


class Server:
    """Answers calls one after another; compiles each script and mapping once."""

    def __init__(self, wire: Wire, prints: Prints, memory_mb: int, timeout_seconds: float) -> None:
        self._wire = wire
        self._prints = prints
        self._timeout_seconds = timeout_seconds
        self._programs: dict[str, Program] = {}
        self._mappings: dict[str, Any] = {}
        self._watch = Watch(memory_mb)

    def serve(self) -> None:
        while True:
            call = self._wire.receive()
            if call is None:
                return
            header, content = call
            guard.limit_cpu(self._timeout_seconds + 5)
            answer, body = self._answer(header, content)
            # A mapping runs none of the user's code, so only what it holds on to matters.
            left = self._watch.held_memory() if header["op"] in ("map", "trace") else self._watch.disturbed()
            spent = answer["spent"] = answer.get("spent") or left
            self._wire.send(answer | {"id": header["id"]}, body)
            if spent:
                return

    def _answer(self, header: dict[str, Any], content: bytes | None) -> tuple[dict[str, Any], bytes]:
        if content is None:
            return _OUT_OF_MEMORY.copy(), b""
        try:
            if header["op"] in ("map", "trace"):
                return self._map(header, content)
            return self._run(header, content)
        except MemoryError:
            return _OUT_OF_MEMORY.copy(), b""
        except (MappingFailed, ScriptFailed, strict_json.NotJson) as error:
            return {"error": str(error)}, b""

    def _map(self, header: dict[str, Any], content: bytes) -> tuple[dict[str, Any], bytes]:
        document = strict_json.loads(content)
        mapping = self._mapping(header)
        result = mapping.apply(document) if header["op"] == "map" else mapping.trace(document)
        return {}, strict_json.dumps(result)

    def _mapping(self, header: dict[str, Any]) -> Any:
        digest = header["digest"]
        if digest not in self._mappings:
            # Loaded on first use: most processes run either scripts or mappings.
            engine = importlib.import_module("include.order_cancel.mapping")
            self._mappings[digest] = engine.compile_mapping(header["text"])
        return self._mappings[digest]

    def _run(self, header: dict[str, Any], content: bytes) -> tuple[dict[str, Any], bytes]:
        program = self._program(header)
        log = self._prints.log = contract.Log()
        self._watch.reset()
        outcome = run(program, content, header["attributes"], header.get("request"), log)
        return _described(outcome), outcome.body or b""

    def _program(self, header: dict[str, Any]) -> Program:
        digest = header["digest"]
        if digest not in self._programs:
            program = compile_script(header["text"], header["op"])
            self._load(program.imports)
            self._programs[digest] = program
        return self._programs[digest]

    def _load(self, names: tuple[str, ...]) -> None:
        """Loads what the script will import, so that it is watched from before the script first runs."""
        for name in names:
            try:
                importlib.import_module(name)
            except Exception:  # noqa: S112  (the script's own import meets the same and tells it)
                continue
        self._watch.add_imports(names)


_MEMORY = "it ran out of memory"
_OUT_OF_MEMORY = {"error": "the document needs more memory than scripts.memory_mb allows", "spent": _MEMORY}


def _described(outcome: Outcome) -> dict[str, Any]:
    return {
        "attributes": outcome.attributes,
        "relation": outcome.relation,
        "reason": outcome.reason,
        "refused": outcome.refused,
        "log": outcome.log,
        "error": outcome.error,
        "spent": _MEMORY if outcome.out_of_memory else None,
    }


def main(config: dict[str, Any]) -> None:
    """Puts up the bars, then serves until the parent closes the connection."""
    guard.die_with_parent(config["parent"])
    os.environ.clear()
    os.environ.update({"PATH": "/usr/bin:/bin", "LANG": "C.UTF-8"})
    sys.modules.update(contract.java_modules())
    del sys.argv[1:]
    prints = Prints()
    sys.stdout = sys.stderr = prints
    wire = Wire(config["descriptor"])  # a socket, so made before the network is barred
    guard.limit(config["memory_mb"])
    holds, complete = _confined(config)
    guard.bar(network=config["network"])
    gc.freeze()
    server = Server(wire, prints, config["memory_mb"], config["timeout_seconds"])
    wire.send({"id": frames.READY, "holds": holds, "complete": complete}, b"")
    server.serve()


def _confined(config: dict[str, Any]) -> tuple[str, bool]:
    """Puts up the kernel's bars, after all that must be open by then is open; see `confine`."""
    guard.memory_in_use()  # opens a file below /proc/self, which pins that folder for its Landlock rule
    project, *packages = config["paths"]
    return confinement.confine(
        config["confinement"],
        scratch=config["scratch"],
        readable=confinement.readable_paths(project, packages),
        network=config["network"],
    )


if __name__ == "__main__":
    code = 1
    try:
        main(_config)
        code = 0
    except confinement.Unconfined as error:
        print(error, file=sys.__stderr__)
    except BaseException:
        traceback.print_exc(file=sys.__stderr__)
    finally:
        # Neither threads that a script left nor its atexit functions may delay the end.
        os._exit(code)
