"""The fault matrix in docs/reliability.md against what its cells are held to."""

from __future__ import annotations

from tests.chaos.expected import EXPECTED
from tests.chaos.fault_matrix import COLUMNS, ROWS
from tests.chaos.fault_table import DOCUMENT, table, with_table


def test_the_document_has_every_cell_of_the_fault_matrix_as_it_is_expected() -> None:
    written = DOCUMENT.read_text("utf-8")

    assert written == with_table(written, table(EXPECTED)), "run: python -m tests.chaos.fault_table --write"


def test_every_cell_is_expected_or_reasoned() -> None:
    assert set(EXPECTED) == {(row, column) for row in ROWS for column in COLUMNS}
    assert all(EXPECTED.values())
