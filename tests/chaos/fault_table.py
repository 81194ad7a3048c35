"""The table of the fault matrix in docs/reliability.md: `python -m tests.chaos.fault_table --write` runs every cell."""

from __future__ import annotations

import logging
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path

from include.order_cancel.journal import Journal
from tests.chaos.expected import EXPECTED
from tests.chaos.fault_matrix import CELLS, COLUMNS, ROWS, RUN, cell
from tests.chaos.fault_proxy import Network

DOCUMENT = Path(__file__).resolve().parents[2] / "docs" / "reliability.md"
BEGIN = "<!-- fault matrix: written by `python -m tests.chaos.fault_table --write` -->"
END = "<!-- end of the fault matrix -->"


def table(cells: Mapping[tuple[str, str], str]) -> str:
    """The matrix as Markdown, one line per fault."""
    lines = [f"| fault | {' | '.join(COLUMNS)} |", "|---|" + "---|" * len(COLUMNS)]
    lines += [f"| {row} | {' | '.join(cells[row, column] for column in COLUMNS)} |" for row in ROWS]
    return "\n".join(lines)


def with_table(text: str, new: str) -> str:
    """The document with `new` between the markers. Raises ValueError where a marker is missing."""
    before, found, rest = text.partition(BEGIN)
    _, ended, after = rest.partition(END)
    if not (found and ended):
        raise ValueError(f"the markers {BEGIN} and {END} must stand in the document")
    return f"{before}{BEGIN}\n\n{new}\n\n{END}{after}"


def last_run() -> dict[tuple[str, str], str]:
    """Every cell as it comes out now; one that breaks what holds everywhere says so."""
    found = {place: EXPECTED[place] for place in CELLS if place not in RUN}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        empty = folder / "empty.db"
        Journal.open(f"sqlite:///{empty}").close()
        with Network(folder).running() as network:
            for row, column in RUN:
                try:
                    found[row, column], _ = cell(row, column, network, empty, folder)
                except AssertionError as error:
                    found[row, column] = f"BROKEN: {error}"
    return found


def main(arguments: list[str]) -> int:
    """Run the matrix, say which cells are not as expected, and write the document where asked to."""
    logging.disable(logging.CRITICAL)
    found = last_run()
    wrong = [place for place in CELLS if found[place] != EXPECTED[place]]
    for row, column in wrong:
        print(f"{row} x {column}: {found[row, column]}\n    expected: {EXPECTED[row, column]}")
    print(f"{len(RUN)} cells run, {len(CELLS) - len(RUN)} with a reason, {len(wrong)} not as expected")
    if "--write" in arguments:
        DOCUMENT.write_text(with_table(DOCUMENT.read_text("utf-8"), table(found)), "utf-8")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
