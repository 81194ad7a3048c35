"""Both simulators as processes of their own, what they can answer at most, and whether every plan went through once."""

from __future__ import annotations

import asyncio
import json
import os
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import requests

from include.demo.airflow_server import ROOT, answers
from include.demo.processes import LOOPBACK, Kept, free_port
from tests.bench.watch import cpu_seconds

ERP_MS, OMNITRON_MS = 50, 30
FIRST_PK = 5001
LOGIN = {"username": "omnitron", "password": "secret"}
_START_SECONDS = 60.0
_CONNECTIONS = 64


class BenchError(Exception):
    """A measurement that does not count: a system that did not start, a plan that did not go through once."""


@dataclass(frozen=True)
class Ports:
    """Where the two simulators listen, each time they are started anew."""

    omnitron: int
    erp: int

    @classmethod
    def free(cls) -> Ports:
        """Two ports that nobody uses now."""
        return cls(free_port(), free_port())


@dataclass(frozen=True)
class Systems:
    """The running simulators: their addresses and the processes that keep them."""

    omnitron: str
    erp: str
    processes: tuple[Kept, Kept]

    def check_all_once(self, plans: int) -> None:
        """Raises BenchError unless each plan was sent once, booked once and written back once."""
        omnitron, erp = (requests.get(f"{url}/_control/state", timeout=60).json() for url in self.urls)
        booked = sorted(effect["plan"] for effect in erp["effects"])
        wanted = list(range(FIRST_PK, FIRST_PK + plans))
        if booked != wanted or erp["replays"]:
            raise BenchError(
                f"the ERP has booked {len(booked)} plans and {erp['replays']} repeats, not {plans}"
            )
        if omnitron["writes"] != {str(pk): 1 for pk in wanted}:
            raise BenchError(f"{len(omnitron['writes'])} plans were written back, or some twice, not {plans}")

    @property
    def urls(self) -> tuple[str, str]:
        """Omnitron's address and the ERP's."""
        return self.omnitron, self.erp


@contextmanager
def systems(ports: Ports, plans: int, folder: Path, *, latency: bool = True) -> Iterator[Systems]:
    """Run both simulators with this many plans waiting. Raises BenchError where one does not answer."""
    omnitron_words = ("--plans", str(plans), "--latency-ms", str(OMNITRON_MS if latency else 0))
    with ExitStack() as running:
        processes = (
            running.enter_context(_simulator(folder, "omnitron", ports.omnitron, *omnitron_words)),
            running.enter_context(
                _simulator(folder, "erp", ports.erp, "--latency-ms", str(ERP_MS if latency else 0))
            ),
        )
        started = Systems(f"http://{LOOPBACK}:{ports.omnitron}", f"http://{LOOPBACK}:{ports.erp}", processes)
        for process, url in zip(processes, started.urls, strict=True):
            _await_answer(process, url)
        yield started


def _simulator(folder: Path, name: str, port: int, *words: str) -> Kept:
    command = (sys.executable, "-m", "include.simulator", name, "--port", str(port), "--light", *words)
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    return Kept(command, env=environment, log=folder / f"{name}.log", cwd=ROOT)


def _await_answer(process: Kept, url: str) -> None:
    deadline = time.monotonic() + _START_SECONDS
    while not answers(f"{url}/_control/state"):
        if process.exit_code is not None or time.monotonic() > deadline:
            raise BenchError(f"the {process.name} simulator does not answer:\n{process.tail()}")
        time.sleep(0.05)


@dataclass(frozen=True)
class Ceiling:
    """What one simulator can answer: requests a second while one client asks it, and its own CPU for one of them."""

    system: str
    per_second: float
    cpu_ms: float


def ceilings(folder: Path, seconds: float = 2.0, plans: int = 1000) -> list[Ceiling]:
    """The simulators' own limits, without latency: PATCHes of plans, then bookings, over 64 connections."""
    with systems(Ports.free(), plans, folder, latency=False) as started:
        login = requests.post(f"{started.omnitron}/api/v1/auth/login/", json=LOGIN, timeout=30)
        token = {"Authorization": f"Token {login.json()['key']}"}
        pks = range(FIRST_PK, FIRST_PK + plans)
        patches = [
            _raw(
                "PATCH", f"{started.omnitron}/api/v1/cancellation_plans/{pk}/", {"status": "approved"}, token
            )
            for pk in pks
        ]
        bookings = [_raw("POST", f"{started.erp}/cancellations", {"plan": pk}, {}) for pk in pks]
        return [
            _ceiling(url, process, raw, seconds)
            for url, process, raw in zip(started.urls, started.processes, (patches, bookings), strict=True)
        ]


def _raw(method: str, url: str, body: object, headers: dict[str, str]) -> bytes:
    content = json.dumps(body).encode()
    parts = urlsplit(url)
    sent = {
        "Host": parts.netloc,
        "Content-Type": "application/json",
        "Content-Length": len(content),
        **headers,
    }
    lines = [f"{method} {parts.path} HTTP/1.1", *(f"{name}: {value}" for name, value in sent.items())]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + content


def _ceiling(url: str, process: Kept, raw: list[bytes], seconds: float) -> Ceiling:
    before, began = cpu_seconds(process.pid), time.monotonic()
    answered = asyncio.run(_flood(url, raw, began + seconds))
    took, used = time.monotonic() - began, cpu_seconds(process.pid) - before
    return Ceiling(process.name, answered / took, used / answered * 1000)


async def _flood(url: str, raw: list[bytes], until: float) -> int:
    port = urlsplit(url).port

    async def one_connection(first: int) -> int:
        reader, writer = await asyncio.open_connection(LOOPBACK, port)
        number = first
        while time.monotonic() < until:
            writer.write(raw[number % len(raw)])
            await _read_answer(reader)
            number += _CONNECTIONS
        writer.close()
        return (number - first) // _CONNECTIONS

    return sum(await asyncio.gather(*(one_connection(number) for number in range(_CONNECTIONS))))


async def _read_answer(reader: asyncio.StreamReader) -> None:
    head = (await reader.readuntil(b"\r\n\r\n")).lower()
    if not head.startswith(b"http/1.1 200"):
        raise BenchError(f"a simulator answered {head[:60]!r}")
    await reader.readexactly(int(head.partition(b"content-length:")[2].split(b"\r\n", 1)[0]))
