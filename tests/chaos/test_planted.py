"""Faults that the simulated world cannot show are found by tests of their own."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.chaos.planted import PLANTED

ROOT = Path(__file__).resolve().parents[2]
FAILED = 1  # pytest's exit code where tests were run, and some failed


@pytest.mark.thorough
@pytest.mark.parametrize("name", PLANTED)
def test_a_planted_fault_is_found(name: str) -> None:
    tests = PLANTED[name][1]
    if tests.startswith("tests/page/"):
        pytest.importorskip("fastapi")
    command = [sys.executable, "-m", "pytest", "-q", "-n0", "-x", "-p", "tests.chaos.planted", tests]

    ended = subprocess.run(
        command,
        cwd=ROOT,
        env={**os.environ, "PLANTED": name},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )

    assert ended.returncode == FAILED, ended.stdout[-2000:] + ended.stderr[-2000:]
