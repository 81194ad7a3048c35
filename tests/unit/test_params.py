"""What may be asked of one run, and what is refused because it would be ignored, or would send something else."""

from __future__ import annotations

from itertools import combinations
from typing import Any

import pytest

from include.order_cancel.errors import SettingsError
from include.order_cancel.params import DESCRIPTIONS, PARAM_SCHEMAS, Params, read

NOTHING = dict.fromkeys(DESCRIPTIONS)
EXAMPLES: dict[str, Any] = {
    "plan_ids": [5001],
    "limit": 2,
    "dry_run": True,
    "retry_only": True,
    "since": "2025-03-01T00:00:00Z",
    "until": "2025-03-02T00:00:00Z",
    "resend_ids": [5002],
    "max_plans": 9,
}
TOGETHER = {
    ("plan_ids", "limit"),
    ("plan_ids", "dry_run"),
    ("plan_ids", "resend_ids"),
    ("limit", "dry_run"),
    ("limit", "retry_only"),
    ("limit", "since"),
    ("limit", "until"),
    ("limit", "max_plans"),
    ("dry_run", "retry_only"),
    ("dry_run", "since"),
    ("dry_run", "until"),
    ("dry_run", "resend_ids"),
    ("dry_run", "max_plans"),
    ("since", "until"),
    ("since", "max_plans"),
    ("until", "max_plans"),
}
PAIRS = list(combinations(EXAMPLES, 2))


def problems(raw: dict[str, Any], conf: dict[str, Any] | None = None) -> dict[str, str]:
    with pytest.raises(SettingsError) as refused:
        read(raw, conf)
    return {problem.path: problem.message for problem in refused.value.problems}


@pytest.mark.parametrize("name", EXAMPLES)
def test_each_param_is_read_alone(name: str) -> None:
    assert read({name: EXAMPLES[name]}).as_dict().keys() == {name}


@pytest.mark.parametrize("raw", [{}, NOTHING, {"dry_run": False, "retry_only": False}])
def test_null_and_a_switch_that_is_off_ask_for_nothing(raw: dict[str, Any]) -> None:
    assert read(raw, raw) == Params()


@pytest.mark.parametrize(
    ("name", "meant"),
    [("dryrun", "dry_run"), ("plan_id", "plan_ids"), ("dry-run", "dry_run"), ("Limit", "limit")],
)
def test_a_name_that_nobody_knows_is_refused_and_the_likely_one_told(name: str, meant: str) -> None:
    told = problems({**NOTHING, name: [5001]})

    assert told == {f"params.{name}": f"is no Param of a run; did you mean '{meant}'?"}


def test_a_name_like_none_that_there_is_is_refused_with_those_that_there_are() -> None:
    told = problems({**NOTHING, "openlineage": {"parentRunId": "1"}})

    assert told == {"params.openlineage": f"is no Param of a run; there are {', '.join(DESCRIPTIONS)}"}


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *((name, empty) for name in DESCRIPTIONS for empty in ("", " ", [], {}, 0)),
        *((name, False) for name in DESCRIPTIONS if name not in ("dry_run", "retry_only")),
        *((name, text) for name in ("dry_run", "retry_only") for text in ("true", "false", "yes", 1, [True])),
        *(
            (name, items)
            for name in ("plan_ids", "resend_ids")
            for items in (",", [""], [" "], [True], [None])
        ),
        *(
            (name, items)
            for name in ("plan_ids", "resend_ids")
            for items in ([5001.0], [[5001]], {"5001": 1}, 5001)
        ),
        *((name, number) for name in ("limit", "max_plans") for number in (-1, 1.0, "1", True, [1])),
        *((name, time) for name in ("since", "until") for time in ("soon", "2025-03-01", 20250301, True)),
        ("since", "0001-01-01T00:00:00+14:00"),
        ("until", "9999-12-31T23:59:59-14:00"),
    ],
)
def test_what_would_ask_for_nothing_or_is_not_understood_is_refused(name: str, value: Any) -> None:
    assert problems({name: value}).keys() == {f"params.{name}"}


def test_plan_numbers_may_be_one_text_and_are_taken_once() -> None:
    assert read({"plan_ids": "5001, 5002 5001"}).plan_ids == ("5001", "5002")
    assert read({"plan_ids": [5001, " 5001 ", "a/b"]}).plan_ids == ("5001", "a/b")


@pytest.mark.parametrize("pair", PAIRS, ids="+".join)
def test_two_params_of_which_one_would_be_ignored_are_refused(pair: tuple[str, str]) -> None:
    raw = {name: EXAMPLES[name] for name in pair}

    if pair in TOGETHER:
        assert read(raw).as_dict().keys() == set(pair)
    else:
        told = problems(raw)
        assert len(told) == 1
        (path, words), *_ = told.items()
        assert sorted((path.removeprefix("params."), words.rpartition(" ")[2])) == sorted(pair)


def test_a_plan_is_not_both_tried_and_sent_again() -> None:
    told = problems({"plan_ids": [5001, 5002, 5003], "resend_ids": ["5003", 5001]})

    assert told == {"params.resend_ids": "holds plans that plan_ids holds too: 5001, 5003"}


@pytest.mark.parametrize("until", ["2025-03-01T00:00:00Z", "2025-03-01T02:59:00+03:00"])
def test_a_window_ends_after_it_begins(until: str) -> None:
    told = problems({"since": "2025-03-01T00:00:00Z", "until": until})

    assert told == {"params.until": "must be later than since"}


@pytest.mark.parametrize("name", EXAMPLES)
def test_what_was_asked_for_and_never_became_a_param_is_refused(name: str) -> None:
    told = problems(NOTHING, {name: EXAMPLES[name]})

    assert told.keys() == {f"params.{name}"}
    assert "[core] dag_run_conf_overrides_params" in told[f"params.{name}"]


def test_a_name_that_nobody_knows_and_that_never_became_a_param_is_refused() -> None:
    assert problems(NOTHING, {"dryrun": True}) == {
        "params.dryrun": "is no Param of a run; did you mean 'dry_run'?"
    }


@pytest.mark.parametrize("name", EXAMPLES)
def test_what_was_asked_for_and_became_a_param_is_done(name: str) -> None:
    given = {**NOTHING, name: EXAMPLES[name]}

    assert read(given, {name: EXAMPLES[name]}) == read(given, given) == read(given)


@pytest.mark.parametrize("conf", [None, {}, NOTHING])
def test_a_run_that_nobody_asked_anything_of_is_an_ordinary_one(conf: dict[str, Any] | None) -> None:
    assert not read(NOTHING, conf).narrows


def test_every_param_has_its_words_and_its_field_in_the_form() -> None:
    assert DESCRIPTIONS.keys() == PARAM_SCHEMAS.keys() == EXAMPLES.keys()
