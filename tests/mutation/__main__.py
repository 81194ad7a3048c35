"""How many of a seeded sample of small changes to a module its tests notice; run once, by hand.

`python -m tests.mutation journal --seed 1 --sample 60 -- tests/unit/test_journal.py` works in a copy of the tree and
prints each change that survives. What follows `--` are pytest's arguments; a run that outlasts the deadline counts as
killed. Further sets of arguments, each behind a `--` of its own, are tried in order until one notices.
"""

from __future__ import annotations

import argparse
import ast
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from tests.mutation.places import Place, places

ROOT = Path(__file__).parents[2]
_PACKAGE = Path("include/order_cancel")
_NO_TESTS = 5  # pytest's exit code
_QUIET = ("-q", "-x", "-p", "no:cacheprovider")


def main() -> int:
    """Print each change and what became of it; exit 1 where fewer than `--least` were noticed."""
    sets = _split(sys.argv[1:])
    parser = argparse.ArgumentParser(description=__doc__, prog="python -m tests.mutation")
    parser.add_argument("module", help="journal, steps, http ...")
    parser.add_argument("--sample", type=int, default=60)
    parser.add_argument("--seed", type=int, default=20261127)
    parser.add_argument("--only", type=int, nargs="*", help="these places, not a sample")
    parser.add_argument(
        "--deadline", type=float, default=900.0, help="seconds that one set of tests may take"
    )
    parser.add_argument("--least", type=float, default=0.85, help="the share that must be noticed")
    given = parser.parse_args(sets[0])
    source = (ROOT / _PACKAGE / f"{given.module}.py").read_text()
    found = places(ast.parse(source))
    chosen = given.only or random.Random(given.seed).sample(range(len(found)), min(given.sample, len(found)))
    print(f"{given.module}.py: {len(found)} places, {len(chosen)} of them, seed {given.seed}", flush=True)
    killed = 0
    with tempfile.TemporaryDirectory(prefix="mutation") as folder:
        tree = _copy(Path(folder))
        if (failed := _first_that_fails(tree, sets[1:], given.deadline)) is not None:
            print(f"the tests fail without any change: {failed}")
            return 2
        for number in chosen:
            place, text = _mutant(source, number)
            (tree / _PACKAGE / f"{given.module}.py").write_text(text)
            began = time.monotonic()
            noticed = _first_that_fails(tree, sets[1:], given.deadline)
            killed += noticed is not None
            told = f"killed by {noticed}" if noticed is not None else "SURVIVED"
            seconds = time.monotonic() - began
            print(f"{number:5} line {place.line:4} {place.what} : {told} ({seconds:.0f} s)", flush=True)
    print(f"{killed} of {len(chosen)} killed, {killed / len(chosen):.0%}")
    return int(killed < given.least * len(chosen))


def _split(arguments: Sequence[str]) -> list[list[str]]:
    sets: list[list[str]] = [[]]
    for word in arguments:
        if word == "--":
            sets.append([])
        else:
            sets[-1].append(word)
    return sets


def _copy(folder: Path) -> Path:
    tree = folder / "tree"
    listed = subprocess.run(
        [shutil.which("git") or "git", "ls-files", "-z"], cwd=ROOT, check=True, capture_output=True, text=True
    ).stdout
    for name in filter(None, listed.split("\0")):
        (tree / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, tree / name)
    return tree


def _mutant(source: str, number: int) -> tuple[Place, str]:
    tree = ast.parse(source)
    place = places(tree)[number]
    place.change()
    return place, ast.unparse(ast.fix_missing_locations(tree))


def _first_that_fails(tree: Path, sets: Sequence[Sequence[str]], deadline: float) -> str | None:
    """The arguments with which the tests fail first, or outlast the deadline; None: all pass."""
    for arguments in sets:
        if _exit_code(tree, arguments, deadline) != 0:
            return " ".join(arguments)
    return None


def _exit_code(tree: Path, arguments: Sequence[str], deadline: float) -> int:
    process = subprocess.Popen(
        [sys.executable, "-B", "-m", "pytest", *_QUIET, *arguments],
        cwd=tree,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        code = process.wait(deadline)
    except subprocess.TimeoutExpired:
        code = -1
    finally:
        _end(process)
    if code == _NO_TESTS:
        raise SystemExit(f"no tests in {arguments}")
    return code


def _end(process: subprocess.Popen[bytes]) -> None:
    try:
        os.killpg(process.pid, signal.SIGKILL)
    except ProcessLookupError:
        return
    process.wait()


if __name__ == "__main__":
    sys.exit(main())
