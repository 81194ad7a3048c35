"""Keeps one command, and leaves nothing of it behind.

Run as a script: `python keeper.py SECONDS COMMAND [ARGUMENT ...]`. The command gets a session of its own.
It is ended, with all that it started, as soon as one of these happens: it exits itself, a signal asks for
it, or the standard input closes. The standard input is a pipe that the owner holds, so an owner that is
killed outright ends the command too. SECONDS is how long each of SIGINT and SIGTERM may take.

Linux only (`prctl`, `/proc`). Needs nothing but the standard library, so it starts in some 20 ms.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import select
import signal
import sys
import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from pathlib import Path

PR_SET_CHILD_SUBREAPER = 36
ENDING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def adopt_orphans() -> None:
    """Make this process the parent of every descendant whose own parent dies (see prctl(2))."""
    if ctypes.CDLL(None, use_errno=True).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "prctl(PR_SET_CHILD_SUBREAPER)")


def parents() -> dict[int, list[int]]:
    """The children of every process, by the parent's id; see proc(5) for the fields of `stat`."""
    children = defaultdict(list)
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with contextlib.suppress(OSError):
                state, parent = (entry / "stat").read_text(errors="replace").rpartition(")")[2].split()[:2]
                if state != "Z":
                    children[int(parent)].append(int(entry.name))
    return children


def descendants(of: int) -> list[int]:
    """Ids of the living processes below `of`, parents before their children."""
    children = parents()
    found = list(children[of])
    for pid in found:
        found.extend(children[pid])
    return found


def reap() -> dict[int, int]:
    """Exit codes of the children that have ended, adopted ones included."""
    ended: dict[int, int] = {}
    with contextlib.suppress(ChildProcessError):
        while (found := os.waitpid(-1, os.WNOHANG))[0]:
            ended[found[0]] = os.waitstatus_to_exitcode(found[1])
    return ended


def end_everything(patience: float) -> None:
    """SIGINT to what is below this process, then SIGTERM, then SIGKILL; returns when nothing is left."""
    for number in (signal.SIGINT, signal.SIGTERM):
        if ended(number, patience):
            return
    while not ended(signal.SIGKILL, patience):
        continue


def ended(number: signal.Signals, patience: float) -> bool:
    """Send a signal to everything below; whether it was gone within `patience` seconds."""
    for pid in descendants(os.getpid()):
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, number)
    deadline = time.monotonic() + patience
    while descendants(os.getpid()):
        reap()
        if time.monotonic() > deadline:
            return False
        time.sleep(0.02)
    reap()
    return True


def wait(child: int, asked: Callable[[], bool], wake: int) -> int | None:
    """Wait for the child's exit code, or None when the owner or a signal wants it ended."""
    while not asked():
        code = reap().get(child)
        if code is not None:
            return code
        readable, _, _ = select.select([sys.stdin.fileno(), wake], [], [])
        if sys.stdin.fileno() in readable:
            return None
        os.read(wake, 4096)
    return None


def main(arguments: Sequence[str]) -> int:
    """Keep the command; its exit code, 128 + n when signal n ended it, 0 when it was ended on request."""
    patience, command = float(arguments[0]), list(arguments[1:])
    requests: list[int] = []
    wake, wakened = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
    signal.set_wakeup_fd(wakened)
    for number in ENDING:
        signal.signal(number, lambda number, _frame: requests.append(number))
    signal.signal(signal.SIGCHLD, lambda _number, _frame: None)
    adopt_orphans()
    nothing = (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0)
    defaults = (*ENDING, signal.SIGCHLD)
    child = os.posix_spawn(
        command[0], command, os.environ, file_actions=[nothing], setsid=True, setsigdef=defaults
    )
    code = wait(child, lambda: bool(requests), wake)
    end_everything(patience)
    return 0 if code is None else code if code >= 0 else 128 - code


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
