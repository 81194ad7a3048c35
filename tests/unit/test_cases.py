"""Every golden case of mappings and scripts, found by glob; and the runner itself."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from include.order_cancel.cases import CaseOutcome, run_cases

CASES = Path(__file__).parents[1] / "cases"
FOLDERS = ("mapping", "scripts")
NAMES = sorted(
    str(path.relative_to(CASES)) for folder in FOLDERS for path in (CASES / folder).rglob("*.json")
)


@pytest.fixture(scope="module")
def outcomes() -> dict[str, CaseOutcome]:
    # One process runs case after case, so each also shows that those before it left nothing behind.
    return {
        f"{folder}/{outcome.name}": outcome for folder in FOLDERS for outcome in run_cases(CASES / folder)
    }


@pytest.mark.parametrize("name", NAMES)
def test_golden_case(name: str, outcomes: dict[str, CaseOutcome]) -> None:
    assert outcomes[name].problems == []


def write(folder: Path, name: str, case: object) -> None:
    (folder / name).write_text(json.dumps(case), "utf-8")


def test_a_case_says_every_difference(tmp_path: Path) -> None:
    script = ["def transform(plan, attributes):", "    attributes['a'] = '1'", "    return plan"]
    expect = {"result": {"pk": 2}, "attributes": {"a": "2", "b": None}, "log": "hello"}
    write(tmp_path, "c.json", {"kind": "script", "script": script, "input": {"pk": 1}, "expect": expect})

    (outcome,) = run_cases(tmp_path)

    assert not outcome.passed
    assert outcome.problems == [
        'result: expected {"pk": 2}, got {"pk": 1}',
        "attribute 'a': expected '2', got '1'",
        "log: expected 'hello' in ''",
    ]


def test_numbers_of_another_type_differ(tmp_path: Path) -> None:
    spec = [{"operation": "shift", "spec": {"a": "a"}}]
    write(
        tmp_path,
        "c.json",
        {"kind": "mapping", "spec": spec, "input": {"a": 1}, "expect": {"result": {"a": 1.0}}},
    )

    (outcome,) = run_cases(tmp_path)

    assert outcome.problems == ['result: expected {"a": 1.0}, got {"a": 1}']


def test_a_failure_that_no_case_expects_is_a_problem(tmp_path: Path) -> None:
    script = "def transform(plan, attributes):\n    return 1 / 0\n"
    write(tmp_path, "c.json", {"kind": "script", "script": script, "input": {}, "expect": {"result": 1}})

    (outcome,) = run_cases(tmp_path)

    assert outcome.problems == ["failed: ZeroDivisionError: division by zero (line 2 in transform)"]


def test_script_and_spec_may_stand_in_files_beside_the_case(tmp_path: Path) -> None:
    (tmp_path / "s.py").write_text("def transform(plan, attributes):\n    return [plan]\n", "utf-8")
    (tmp_path / "m.jolt").write_text('{"operation": "sort"} // the whole of it\n', "utf-8")
    write(
        tmp_path,
        "s.json",
        {"kind": "script", "script": {"file": "s.py"}, "input": 1, "expect": {"result": [1]}},
    )
    write(
        tmp_path,
        "m.json",
        {"kind": "mapping", "spec": {"file": "m.jolt"}, "input": 1, "expect": {"result": 1}},
    )

    outcomes = run_cases(tmp_path)

    assert [(outcome.name, outcome.problems) for outcome in outcomes] == [("m.json", []), ("s.json", [])]


@pytest.mark.parametrize(
    ("case", "problem"),
    [
        ([], "needs to be an object"),
        ({"kind": "script", "script": "x"}, "needs to be an object"),
        ({"kind": "scripts", "expect": {}}, "`kind` is one of"),
        (
            {"kind": "script", "script": "x", "expect": {"relations": 1}},
            "`expect` has unknown keys: relations",
        ),
        ({"kind": "script", "script": "x", "inputs": 1, "expect": {}}, "the case has unknown keys: inputs"),
        ({"kind": "script", "expect": {}}, "`script` is a text"),
        ({"kind": "script", "script": {"file": "absent.py"}, "expect": {}}, "absent.py"),
        (
            {"kind": "script", "script": "x", "limits": {"seconds": 1}, "expect": {}},
            "`limits` has unknown keys",
        ),
    ],
)
def test_a_file_that_holds_no_case_says_why(tmp_path: Path, case: object, problem: str) -> None:
    write(tmp_path, "c.json", case)

    (outcome,) = run_cases(tmp_path)

    assert problem in outcome.problems[0]


def test_a_folder_that_is_not_there_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="no folder"):
        run_cases(tmp_path / "absent")
