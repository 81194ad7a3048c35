"""The whole flow, killed at every boundary: it holds, the same seed replays, and a broken product is found out.

More of it: `make chaos SEEDS=1000`.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.chaos.simulation.history import database, run, shown
from tests.chaos.simulation.mutants import MUTANTS, mutated
from tests.chaos.simulation.seams import Database
from tests.shares import thorough

SEEDS = 25
# Each mutant is tried with the seeds up to here; which seed finds it is no matter of luck.
MOST_SEEDS = 250
QUICK_MUTANT = "the key changes while in doubt"


@pytest.fixture(scope="module")
def memory() -> Iterator[Database]:
    with database() as opened:
        yield opened


def test_every_history_holds(memory: Database) -> None:
    results = [run(seed, memory) for seed in range(SEEDS)]

    assert not [shown(result, 25) for result in results if result.breaches]
    assert sum(sum(result.hits.values()) for result in results) > SEEDS / 4


def test_histories_hold_on_postgresql(postgres_url: str) -> None:
    with database(postgres_url) as postgres:
        results = [run(seed, postgres) for seed in range(1000, 1004)]

    assert not [shown(result, 25) for result in results if result.breaches]


def test_the_same_seed_gives_the_same_history(memory: Database) -> None:
    for seed in (3, 7, 11):
        first, second = run(seed, memory), run(seed, memory)

        assert first.trail == second.trail
        assert first.digest == second.digest


@pytest.mark.parametrize("name", [name if name == QUICK_MUTANT else thorough(name) for name in MUTANTS])
def test_a_broken_product_is_found_out(memory: Database, name: str) -> None:
    with mutated(name):
        found = next((seed for seed in range(MOST_SEEDS) if run(seed, memory).breaches), None)

    assert found is not None, f"{MOST_SEEDS} histories found nothing wrong where {name}"
