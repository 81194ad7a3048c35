"""The bars around a script inside its process: what it may import, what it may start, what it may use up.

These bars stop mistakes and ordinary malice from Python code, and say why in words. Those that rest on audit
events are no wall: native code that a script smuggles in could climb over them. The wall is the kernel's, in
`confinement.py`.
"""
# The process starts once per task and must do so quickly, hence os and not pathlib:
# ruff: noqa: PTH100, PTH115, PTH118, PTH120, PTH208

from __future__ import annotations

import _posixsubprocess
import ctypes
import functools
import os
import resource
import signal
import sys
from _socket import AF_INET, AF_INET6, SOCK_STREAM, getaddrinfo, inet_ntop, inet_pton
from importlib.machinery import ModuleSpec
from typing import Any

from include.order_cancel.scripts.imports import refusal

MEGABYTE = 1024 * 1024
MAX_FILE = 16 * MEGABYTE
MAX_DESCRIPTORS = 256
# Threads and processes of this user beyond those of now; wide, since other containers may share the user id.
MORE_TASKS = 1024

_PR_SET_PDEATHSIG = 1
_MAX_LINKS = 40

_PROCESSES = "a script cannot start processes"
_SIGNALS = "a script cannot send signals"
_NATIVE = "a script cannot call native libraries"
_NETWORK = "scripts.network is false: a script cannot use the network"
_REFUSED = {
    "os.fork": _PROCESSES,
    "os.forkpty": _PROCESSES,
    "os.posix_spawn": _PROCESSES,
    "os.exec": _PROCESSES,
    "os.spawn": _PROCESSES,
    "os.system": _PROCESSES,
    "subprocess.Popen": _PROCESSES,
    "pty.spawn": _PROCESSES,
    "os.kill": _SIGNALS,
    "os.killpg": _SIGNALS,
    "signal.pthread_kill": _SIGNALS,
    "ctypes.dlopen": _NATIVE,
    "ctypes.dlsym": _NATIVE,
    "ctypes.dlsym/handle": _NATIVE,
    "ctypes.call_function": _NATIVE,
    "ctypes.cdata": _NATIVE,
    "ctypes.string_at": _NATIVE,
    "ctypes.wstring_at": _NATIVE,
}
_ADDRESSED = ("socket.connect", "socket.sendto", "socket.sendmsg")
_REFUSED_OFFLINE = {
    "socket.__new__": _NETWORK,
    "socket.connect": _NETWORK,
    "socket.bind": _NETWORK,
    "socket.sendto": _NETWORK,
    "socket.getaddrinfo": _NETWORK,
    "socket.gethostbyname": _NETWORK,
    "socket.gethostbyaddr": _NETWORK,
    "socket.getnameinfo": _NETWORK,
}
# Where clouds hand out credentials to whoever asks from inside a machine: AWS, Azure, Google and others; the
# tasks of ECS and the pods of EKS; Alibaba. The kernel cannot tell addresses apart here, so Python must.
_METADATA = frozenset(
    {"169.254.169.254", "169.254.170.2", "169.254.170.23", "100.100.100.200", "fd00:ec2::254", "fd00:ec2::23"}
)
_EMBEDDED = ("::ffff:0:0", "64:ff9b::")  # an IPv4 address inside an IPv6 one


class ImportGuard:
    """A finder that comes first and refuses every module that is not for scripts."""

    def find_spec(self, name: str, _path: Any, _target: Any = None) -> ModuleSpec | None:
        if (message := refusal(name)) is not None:
            raise ModuleNotFoundError(message, name=name)
        return None


def die_with_parent(parent: int) -> None:
    """The kernel kills this process when its parent ends; at once, where that has happened already."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(1)


def bar(*, network: bool) -> None:
    """Refuses modules, processes, signals, native calls, and the network where it is off; for good."""
    for name in ("pidfd_open", "pidfd_send_signal"):
        for module in (os, signal):
            if hasattr(module, name):
                delattr(module, name)
    # The only way to start a process that tells no audit hook.
    _posixsubprocess.fork_exec = _refuse_process
    sys.meta_path.insert(0, ImportGuard())
    refused = _REFUSED if network else _REFUSED | _REFUSED_OFFLINE
    own = f"/proc/{os.getpid()}"

    def hook(event: str, arguments: tuple[Any, ...]) -> None:
        if event in refused:
            raise PermissionError(refused[event])
        if event in _ADDRESSED and _is_metadata(arguments[1]):
            raise PermissionError("a script cannot ask a cloud's metadata service")
        if event == "open" and _is_of_another_process(arguments[0], own):
            raise PermissionError("a script cannot look into other processes")

    sys.addaudithook(hook)


def _is_metadata(address: Any) -> bool:
    """Whether an address to connect or send to is a metadata service's, however it is written."""
    if not isinstance(address, tuple) or not address or not isinstance(address[0], str | bytes | bytearray):
        return False
    host = address[0] if isinstance(address[0], str) else bytes(address[0])
    try:
        found = getaddrinfo(host, None, 0, SOCK_STREAM)
    except (OSError, UnicodeError):
        return False  # the call that asks meets the same, and tells it
    return any(_plain(str(entry[4][0])) in _METADATA for entry in found)


def _plain(host: str) -> str:
    """The address without a zone; an IPv4 address inside an IPv6 one as itself."""
    host = host.partition("%")[0]
    if ":" not in host:
        return host
    packed = inet_pton(AF_INET6, host)
    if any(packed[:12] == inet_pton(AF_INET6, prefix)[:12] for prefix in _EMBEDDED):
        return inet_ntop(AF_INET, packed[12:])
    return inet_ntop(AF_INET6, packed)


def _refuse_process(*_arguments: Any) -> int:
    raise PermissionError(_PROCESSES)


def _is_of_another_process(path: Any, own: str) -> bool:
    """Whether the path, or a link on the way to it, stands in another process's folder below /proc."""
    if not isinstance(path, str | bytes):
        return False
    place = os.fsdecode(path)
    for _ in range(_MAX_LINKS):
        folder, name = os.path.split(os.path.abspath(place))
        place = os.path.join(os.path.realpath(folder), name)
        if place.startswith("/proc/") and place != own and not place.startswith((own + "/", "/proc/self")):
            return True
        try:
            place = os.path.join(os.path.dirname(place), os.readlink(place))
        except (OSError, ValueError):
            return False
    return True


def limit(memory_mb: int) -> None:
    """Bounds memory (beyond what the process holds now), files, descriptors, tasks; no core dumps."""
    _set(resource.RLIMIT_CORE, 0)
    _set(resource.RLIMIT_FSIZE, MAX_FILE)
    _set(resource.RLIMIT_NOFILE, MAX_DESCRIPTORS)
    _set(resource.RLIMIT_NPROC, _tasks_of_this_user() + MORE_TASKS)
    _set(resource.RLIMIT_AS, memory_in_use() + memory_mb * MEGABYTE)


def limit_cpu(seconds: float) -> None:
    """Ends this process when it has used so many more seconds of CPU; the parent's deadline comes earlier."""
    usage = resource.getrusage(resource.RUSAGE_SELF)
    soft = int(usage.ru_utime + usage.ru_stime + seconds) + 1
    resource.setrlimit(resource.RLIMIT_CPU, (soft, resource.getrlimit(resource.RLIMIT_CPU)[1]))


def memory_in_use() -> int:
    """This process's address space in bytes."""
    return int(os.pread(_statm(), 100, 0).split()[0]) * resource.getpagesize()


@functools.cache
def _statm() -> int:
    # Kept open, since it is read after every call.
    return os.open("/proc/self/statm", os.O_RDONLY | os.O_CLOEXEC)


def _set(what: int, value: int) -> None:
    hard = resource.getrlimit(what)[1]
    value = value if hard == resource.RLIM_INFINITY else min(value, hard)
    resource.setrlimit(what, (value, value))


def _tasks_of_this_user() -> int:
    user, tasks = os.getuid(), 0
    for entry in os.scandir("/proc"):
        try:
            if entry.name.isdigit() and entry.stat().st_uid == user:
                tasks += len(os.listdir(f"/proc/{entry.name}/task"))
        except OSError:
            continue  # ended in the meantime
    return tasks
