"""Starts a simulator as a process of its own: `python -m include.simulator omnitron|erp --port N`."""

from __future__ import annotations

import argparse
import asyncio
import errno
import json
import signal
import sys
from collections.abc import Sequence
from pathlib import Path

from include.simulator.data import plans, transactions
from include.simulator.erp import AUTH_MODES, ErpSimulator
from include.simulator.omnitron import OmnitronSimulator
from include.simulator.server import HOST, Simulator, listening


def arguments(words: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m include.simulator", description=__doc__)
    parser.add_argument("system", choices=("omnitron", "erp"))
    parser.add_argument("--port", type=int, required=True, help="on loopback; 0 takes a free one")
    parser.add_argument(
        "--data", type=Path, help="JSON file: plans, transactions, faults, settings, channel_types"
    )
    parser.add_argument(
        "--plans", type=int, default=0, metavar="COUNT", help="so many generated plans (omnitron)"
    )
    parser.add_argument("--status", default="waiting", help="the status of the generated plans")
    parser.add_argument(
        "--transactions", action="store_true", help="with transactions for the generated plans"
    )
    parser.add_argument("--seed", type=int, default=1, help="of the generated plans")
    parser.add_argument("--username", help="that logins must give (default: the system's name)")
    parser.add_argument("--password", default="secret", help="that logins must give")
    parser.add_argument("--auth", choices=AUTH_MODES, default="none", help="what the ERP asks for")
    parser.add_argument("--latency-ms", type=float, default=0.0, help="before every answer")
    parser.add_argument(
        "--keep", type=int, metavar="N", help="record the last N requests only (default: all)"
    )
    parser.add_argument("--light", action="store_const", const=0, dest="keep", help="record none, only count")
    parser.add_argument(
        "--state", type=Path, help="file that keeps data and bookings beyond the end of the process"
    )
    return parser.parse_args(words)


def build(options: argparse.Namespace) -> Simulator:
    """Raises OSError, ValueError, TypeError or KeyError where the data file is missing or wrong."""
    simulator: OmnitronSimulator | ErpSimulator
    if options.system == "omnitron":
        made = plans(options.seed, options.plans, status=options.status)
        moved = transactions(options.seed, made) if options.transactions else []
        simulator = OmnitronSimulator(
            made, moved, username=options.username or "omnitron", password=options.password, keep=options.keep
        )
    else:
        simulator = ErpSimulator(
            auth=options.auth, user=options.username or "erp", password=options.password, keep=options.keep
        )
    simulator.set(latency_ms=options.latency_ms)
    if options.data:
        simulator.load(json.loads(options.data.read_text(encoding="utf-8")))
    if options.state:
        simulator.outlive(options.state)
    return simulator


async def serve(simulator: Simulator, port: int) -> None:
    """Serves until SIGTERM or SIGINT. Raises OSError where the port cannot be had."""
    over = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, over.set)
    async with listening(simulator, port) as taken:
        print(f"{simulator.name} simulator on http://{HOST}:{taken}", flush=True)
        await over.wait()


def main(words: Sequence[str] | None = None) -> int:
    options = arguments(words)
    try:
        simulator = build(options)
    except (OSError, ValueError, TypeError, KeyError) as error:
        print(f"{options.system} simulator: cannot use the data: {error!r}", file=sys.stderr)
        return 2
    try:
        asyncio.run(serve(simulator, options.port))
    except OSError as error:
        reason = "is taken" if error.errno == errno.EADDRINUSE else f"cannot be had: {error}"
        print(f"{options.system} simulator: port {options.port} {reason}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
