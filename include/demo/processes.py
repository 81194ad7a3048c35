"""Processes that end with their owner, and ports that are free."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

from include.demo import keeper

LOOPBACK = "127.0.0.1"


class Kept:
    """A running command with a log file, ended with all its descendants by `stop()`, by the end of the
    `with` block, or by the death of the process that started it."""

    def __init__(
        self,
        command: Sequence[str | Path],
        *,
        env: Mapping[str, str],
        log: Path,
        cwd: Path,
        patience: float = 5,
    ) -> None:
        """Start the command; `patience` is what SIGINT and SIGTERM may take, in seconds each.

        Raises OSError when the log cannot be written or the working directory is not there."""
        self.name = log.stem
        self.log = log
        kept = [sys.executable, "-I", "-S", keeper.__file__, str(patience), *command]
        with log.open("ab") as output:
            self._process = subprocess.Popen(
                kept,
                env=dict(env),
                cwd=cwd,
                stdin=subprocess.PIPE,
                stdout=output,
                stderr=output,
                start_new_session=True,
            )

    @property
    def pid(self) -> int:
        """The id of the keeper, the parent of the command."""
        return self._process.pid

    @property
    def exit_code(self) -> int | None:
        """The command's exit code, or None while it runs."""
        return self._process.poll()

    def wait(self, timeout: float | None = None) -> int:
        """The exit code; raises subprocess.TimeoutExpired."""
        return self._process.wait(timeout)

    def ask_to_stop(self) -> None:
        """Begin to end the command, without waiting for it."""
        if self._process.stdin:
            self._process.stdin.close()

    def stop(self) -> None:
        """End the command and wait until nothing of it is left."""
        self.ask_to_stop()
        self._process.wait()

    def descendants(self) -> list[int]:
        """Ids of the command and of all that it has started, parents first."""
        return keeper.descendants(self.pid)

    def crash(self) -> None:
        """End the command as a power cut would, with all that it started."""
        for pid in self.descendants():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self._process.wait()

    def tail(self, lines: int = 20) -> str:
        """The end of the log, for a message."""
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-lines:])

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()


def is_free(port: int) -> bool:
    """Whether a server could listen on this loopback port now."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((LOOPBACK, port))
        except OSError:
            return False
    return True


def free_port() -> int:
    """A loopback port that nobody uses now."""
    with socket.socket() as probe:
        probe.bind((LOOPBACK, 0))
        port: int = probe.getsockname()[1]
        return port
