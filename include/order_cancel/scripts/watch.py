"""Notices what a script leaves behind in its process, so that the next plan gets a clean one."""
# This runs after every call, hence os and not pathlib:
# ruff: noqa: PTH109, PTH208

from __future__ import annotations

import decimal
import gc
import os
import signal
import sys
from collections.abc import Mapping
from types import ModuleType
from typing import Any

from include.order_cancel.scripts.guard import MEGABYTE, memory_in_use

# Modules whose names and classes a script must leave as they are.
_ALWAYS = (
    "builtins", "json", "json.decoder", "json.encoder", "os", "posixpath", "io", "re", "time", "decimal",
    "include.order_cancel.errors",
    "include.order_cancel.exact_json",
    "include.order_cancel.scripts.contract",
    "include.order_cancel.scripts.reading",
    "include.order_cancel.scripts.runner",
    "include.order_cancel.scripts.strict_json",
    "include.order_cancel.scripts.frames",
)  # fmt: skip
# Others rebind their own names in use (urllib.request, uuid) or load parts late (concurrent.futures).
_WHEN_IMPORTED = {
    "requests": ("requests", "requests.api", "requests.sessions", "requests.models"),
    "pendulum": ("pendulum",),
} | {
    name: (name,)
    for name in (
        "base64", "collections", "copy", "csv", "datetime", "functools", "hashlib", "hmac", "itertools",
        "math", "operator", "string", "urllib.parse",
    )
}  # fmt: skip
_SIGNALS = (signal.SIGALRM, signal.SIGINT, signal.SIGXCPU)
_MORE_DESCRIPTORS = 32

_Seen = tuple[Mapping[str, Any], list[Any]]


class Watch:
    """The state of the process before scripts ran in it."""

    def __init__(self, memory_mb: int) -> None:
        self._modules: dict[str, tuple[ModuleType, list[_Seen]]] = {}
        self._system = _system_state()
        self._memory = memory_in_use() + memory_mb * MEGABYTE // 2
        self._descriptors = len(os.listdir("/proc/self/fd")) + _MORE_DESCRIPTORS
        self._scratch = os.getcwd()
        self._add(_ALWAYS)

    def add_imports(self, names: tuple[str, ...]) -> None:
        """Watches what a script imports; call it when that is loaded and the script has not yet run."""
        for name in names:
            self._add(_WHEN_IMPORTED.get(name, ()))

    def _add(self, names: tuple[str, ...]) -> None:
        for name in names:
            module = sys.modules.get(name)
            if module is not None and name not in self._modules:
                self._modules[name] = (module, _contents(module))

    def reset(self) -> None:
        """Puts back what is cheap to put back, before a call."""
        decimal.setcontext(decimal.Context())

    def disturbed(self) -> str | None:
        """What the last script left behind; None where the process is as it was."""
        threads = len(sys._current_frames()) - 1
        if threads:
            return f"{threads} thread(s) still running"
        for name, (module, contents) in self._modules.items():
            if sys.modules.get(name) is not module or not _is_unchanged(contents):
                return f"changes in the module {name!r}"
        if _system_state() != self._system:
            return "changes to the interpreter's settings"
        if len(os.listdir("/proc/self/fd")) > self._descriptors:
            return "open files or connections"
        if os.listdir(self._scratch):
            return "files in its folder"
        return self.held_memory()

    def held_memory(self) -> str | None:
        """Whether the process still holds much memory after a call."""
        if memory_in_use() > self._memory:
            gc.collect()
            if memory_in_use() > self._memory:
                return "too much memory in use"
        return None


def _contents(module: ModuleType) -> list[_Seen]:
    spaces: list[Mapping[str, Any]] = [vars(module)]
    spaces += [
        vars(value)
        for value in vars(module).values()
        if isinstance(value, type) and value.__module__ == module.__name__
    ]
    return [(space, list(space.values())) for space in spaces]


def _is_unchanged(contents: list[_Seen]) -> bool:
    return all(list(space.values()) == seen for space, seen in contents)


def _system_state() -> tuple[Any, ...]:
    socket = sys.modules.get("_socket")
    return (
        sys.getrecursionlimit(),
        sys.getswitchinterval(),
        sys.gettrace(),
        sys.getprofile(),
        sys.stdin,
        sys.stdout,
        sys.stderr,
        sys.displayhook,
        sys.excepthook,
        sys.unraisablehook,
        list(map(id, sys.meta_path)),
        list(map(id, sys.path_hooks)),
        list(sys.path),
        dict(os.environ),
        os.getcwd(),
        gc.isenabled(),
        gc.get_threshold(),
        list(map(id, gc.callbacks)),
        signal.getitimer(signal.ITIMER_REAL)[0] > 0,
        [signal.getsignal(number) for number in _SIGNALS],
        socket.getdefaulttimeout() if socket else None,
    )
