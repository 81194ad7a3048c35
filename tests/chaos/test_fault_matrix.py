"""Every cell of the fault matrix, and what holds of the times between tries."""

from __future__ import annotations

import itertools
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.chaos.expected import EXPECTED
from tests.chaos.fault_matrix import COLUMNS, RUN, Row, World, built, cell, run
from tests.chaos.fault_proxy import Exchange, Network, answering


@pytest.fixture(scope="module")
def network(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Network]:
    with Network(tmp_path_factory.mktemp("certificates")).running() as network:
        yield network


# The quick share has one cell in ten: some of every column, from all parts of the rows.
CELLS = [
    pytest.param(*cell, marks=[] if number % 10 == 0 else pytest.mark.thorough, id="-".join(cell))
    for number, cell in enumerate(RUN)
]


@pytest.mark.parametrize(("row", "column"), CELLS)
def test_a_fault_ends_as_the_matrix_says(
    network: Network, empty_journal: Path, tmp_path: Path, row: str, column: str
) -> None:
    seen, _ = cell(row, column, network, empty_journal, tmp_path)

    assert seen == EXPECTED[row, column]


@pytest.mark.parametrize("column", ["login", "list", "ERP token", "ERP write", "lookup", "write-back"])
def test_nothing_reaches_a_system_before_retry_after_allows(
    network: Network, empty_journal: Path, tmp_path: Path, column: str
) -> None:
    asked_at: list[float] = []

    def busy(world: World) -> None:
        async def act(exchange: Exchange) -> None:
            asked_at.append(world.time.skipped)
            await answering(429, Retry_After="7")(exchange)

        world.call(act)

    shutil.copy(empty_journal, tmp_path / "order_cancel.db")
    with built(Row("429", busy), COLUMNS[column], network, tmp_path / "order_cancel.db") as world:
        world.happens(None)
        run(world)

    assert len(asked_at) == 3
    assert all(later - earlier >= 7 for earlier, later in itertools.pairwise(asked_at))


@pytest.mark.parametrize("row", ["clock 10 minutes ahead", "clock 10 minutes behind", "clocks go back"])
def test_a_date_in_retry_after_is_waited_for_by_the_systems_own_clock(
    network: Network, empty_journal: Path, tmp_path: Path, row: str
) -> None:
    _, world = cell(row, "ERP write", network, empty_journal, tmp_path)

    assert 20 <= sum(world.time.slept) < 22
