"""CPU and memory of process trees, from /proc (Linux)."""

from __future__ import annotations

import contextlib
import os
import threading
from pathlib import Path
from types import TracebackType
from typing import Self

from include.demo.keeper import descendants

_TICKS = os.sysconf("SC_CLK_TCK")
_EVERY_SECONDS = 0.25


def cpu_seconds(*keepers: int) -> float:
    """User and system time of all that runs below these processes, of their ended children too (proc(5))."""
    return sum(_ticks(pid) for keeper in keepers for pid in (keeper, *descendants(keeper))) / _TICKS


def _ticks(pid: int) -> int:
    with contextlib.suppress(OSError):
        fields = Path(f"/proc/{pid}/stat").read_text(errors="replace").rpartition(")")[2].split()
        return sum(int(field) for field in fields[11:15])
    return 0


def peak_mb(pid: int) -> float:
    """The most memory that a process has had resident until now, in MB; 0 where it has ended."""
    with contextlib.suppress(OSError):
        for line in Path(f"/proc/{pid}/status").read_text(errors="replace").splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) / 1024
    return 0.0


class PeakOfTasks:
    """The largest peak among the processes that were started below `keeper` within the `with` block."""

    def __init__(self, keeper: int) -> None:
        self.mb = 0.0
        self._keeper = keeper
        self._there_before = set(descendants(keeper))
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._look_again_and_again)

    def _look_again_and_again(self) -> None:
        while not self._over.wait(_EVERY_SECONDS):
            new = set(descendants(self._keeper)) - self._there_before
            self.mb = max([self.mb, *map(peak_mb, new)])

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._over.set()
        self._thread.join()
