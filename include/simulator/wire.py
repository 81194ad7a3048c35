"""What goes over the wire, as plain values: a request as it was received and the answer to it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

CUT = 0
"""The status of a request whose connection was cut instead of answered."""


@dataclass(slots=True)
class Request:
    """One received request. `pk` is the plan (or transaction) it names, `time` Unix seconds of its arrival.

    `status` is what was answered: None while it is being handled, `CUT` where the connection was dropped.
    `names_plan` tells requests about one plan from logins, lists and look-ups; it is known before the body
    is.
    """

    method: str
    path: str
    query: dict[str, str]
    headers: Mapping[str, str]
    time: float
    raw: bytes = b""
    pk: int | str | None = None
    names_plan: bool = False
    status: int | None = None
    replayed: bool = False

    @property
    def json(self) -> Any:
        """The body as JSON; None where there is none. Raises ValueError where it is something else."""
        return json.loads(self.raw) if self.raw else None

    def as_dict(self) -> dict[str, Any]:
        return {
            "method": self.method,
            "path": self.path,
            "query": self.query,
            "headers": dict(self.headers),
            "body": self.raw.decode("utf-8", "replace"),
            "pk": self.pk,
            "time": self.time,
            "status": self.status,
            "replayed": self.replayed,
        }


@dataclass(frozen=True, slots=True)
class Answer:
    """A status, the bytes of the body and the headers besides Content-Length and Date."""

    status: int
    body: bytes = b""
    headers: Mapping[str, str] = field(default_factory=dict)


JSON_HEADERS = {"Content-Type": "application/json"}


def dump(value: Any) -> bytes:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode()


def answer(status: int, value: Any, headers: Mapping[str, str] | None = None) -> Answer:
    """A JSON answer."""
    return Answer(status, dump(value), {**JSON_HEADERS, **headers} if headers else JSON_HEADERS)


def number_or_text(value: Any) -> int | str | None:
    """How plan numbers are compared: "5001" and 5001 are the same plan."""
    if value is None or isinstance(value, int):
        return value
    text = str(value)
    return int(text) if text.isdecimal() else text
