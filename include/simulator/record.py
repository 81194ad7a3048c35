"""What was asked of a simulator and changed it, in a file that outlives its process: one line per request."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from multidict import CIMultiDict

from include.simulator.wire import Request


class Record:
    """An append-only file. A line is handed to the kernel before its request is answered.

    So a killed process has answered nothing that is not in the file. It is not synced: a power cut may lose lines.
    """

    def __init__(self, path: Path) -> None:
        """Raises OSError where the file cannot be opened."""
        self._path = path
        self._file = path.open("ab", buffering=0)
        self._cut_off_half_a_line()

    def add(self, call: Request) -> None:
        """Append one request."""
        self._file.write(json.dumps(as_line(call), ensure_ascii=False).encode() + b"\n")

    def requests(self) -> Iterator[Request]:
        """The requests of earlier processes, oldest first. Raises ValueError or KeyError where the file is none."""
        with self._path.open(encoding="utf-8") as lines:
            for line in lines:
                told = json.loads(line)
                told["raw"], told["headers"] = told["raw"].encode(), CIMultiDict(told["headers"])
                yield Request(**told)

    def _cut_off_half_a_line(self) -> None:
        content = self._path.read_bytes()
        self._file.truncate(content.rfind(b"\n") + 1)


def as_line(call: Request) -> dict[str, Any]:
    return {
        "method": call.method,
        "path": call.path,
        "query": call.query,
        "headers": {name: value for name, value in call.headers.items() if name.lower() != "authorization"},
        "time": call.time,
        "raw": call.raw.decode("utf-8", "replace"),
    }
