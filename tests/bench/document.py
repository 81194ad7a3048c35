"""Figures in the documents, between their markers."""

from __future__ import annotations

import os
import platform
from collections.abc import Sequence
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

from include.demo.airflow_server import ROOT

DOCUMENT = ROOT / "docs" / "performance.md"
RELIABILITY = ROOT / "docs" / "reliability.md"


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table, as wide as its cells."""
    lines = [list(head), ["-" * len(cell) for cell in head], *map(list, rows)]
    widths = [max(len(line[place]) for line in lines) for place in range(len(head))]
    padded = [
        [
            cell.ljust(width, "-" if cell.startswith("---") else " ")
            for cell, width in zip(line, widths, strict=True)
        ]
        for line in lines
    ]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in padded)


def write_part(name: str, text: str) -> None:
    """Put a part of the benchmarks in place of its former figures."""
    write(text, DOCUMENT, f"<!-- {name}: written by `make bench` -->", f"<!-- end of {name} -->")


def write(text: str, document: Path, begin_line: str, end_line: str) -> None:
    """Put the figures in place of the former ones. Raises ValueError where the document has no markers."""
    before, begin, rest = document.read_text(encoding="utf-8").partition(begin_line)
    _, end, after = rest.partition(end_line)
    if not begin or not end:
        raise ValueError(f"{document} has no lines {begin_line} and {end_line}")
    document.write_text(f"{before}{begin}\n\n{text.strip()}\n\n{end}{after}", encoding="utf-8")


def machine() -> str:
    """What the figures were measured on, in one sentence."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    return (
        f"{_processor()}, {os.cpu_count()} cores, {memory:.0f} GB of memory, Linux {platform.release()}, Python "
        f"{platform.python_version()}, Airflow {version('apache-airflow')}, {datetime.now(UTC):%Y-%m-%d}; load of the "
        f"machine at the start {os.getloadavg()[0]:.1f}"
    )


def _processor() -> str:
    for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()


def targets(wanted: Sequence[tuple[str, str, bool]]) -> str:
    """What was wanted, what was found, and whether it is met."""
    rows = [[what, found, "met" if met else "**missed**"] for what, found, met in wanted]
    return table(["target", "found", ""], rows)
