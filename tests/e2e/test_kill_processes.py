"""A small play of `tests.chaos.kill_processes`: a real scheduler, a few kills, every plan delivered once."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.chaos.kill_processes import perform
from tests.chaos.own_postgres import binaries

SEED = 64  # draws the ERP, a task of the bulk lane, PostgreSQL and the scheduler

pytestmark = [
    pytest.mark.thorough,
    pytest.mark.skipif(binaries() is None, reason="no PostgreSQL is installed"),
]


def test_processes_killed_under_load_cost_no_plan_and_double_none(tmp_path: Path) -> None:
    print(f"seed {SEED}")

    chaos, found, _ = perform(tmp_path, seed=SEED, plans=80, kills=4, waves=3, say=print)

    assert found.problems() == []
    assert chaos.killed.total() == 4
