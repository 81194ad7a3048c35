"""The mapping adapter: what compiles, where a mistake stands, what a document may be, what a step leaves."""

from __future__ import annotations

import json
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import HealthCheck, given
from hypothesis import strategies as st

from include.order_cancel import exact_json
from include.order_cancel.errors import MappingFailed
from include.order_cancel.mapping import compile_mapping
from tests.shares import examples

SHIFT = [{"operation": "shift", "spec": {"pk": "id"}}]


def problem(spec: Any) -> str:
    with pytest.raises(MappingFailed) as caught:
        compile_mapping(spec)
    return str(caught.value)


def test_text_list_and_single_operation_compile_to_the_same() -> None:
    document = {"pk": 1}

    results = [compile_mapping(spec).apply(document) for spec in (SHIFT, json.dumps(SHIFT), SHIFT[0])]

    assert results == [{"id": 1}] * 3


def test_comment_signs_inside_strings_are_no_comments() -> None:
    spec = '[{"operation": "default", "spec": {"url": "http://erp/*x*/", "q": "\\"//"}}] // end'

    result = compile_mapping(spec).apply({})

    assert result == {"url": "http://erp/*x*/", "q": '"//'}


def test_a_syntax_error_below_comments_keeps_its_line() -> None:
    assert problem('/* one\ntwo */\n[{"operation" "sort"}]') == (
        "the mapping is not JSON: line 3 column 15: Expecting ':' delimiter"
    )


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ([], "the mapping has no operations"),
        ("", "the mapping is not JSON"),
        ("5", "a mapping is a list of operations"),
        ([5], "step 1: an operation looks like"),
        ([{"spec": {}}], "step 1: an operation looks like"),
        ([*SHIFT, {"operation": "shft"}], "step 2: unknown operation 'shft'; did you mean 'shift'?"),
        ([{"operation": "shift"}], "step 1 (shift): needs a `spec`"),
        ([{"operation": "remove", "spec": "x"}], "step 1 (remove): needs a `spec`"),
        ([{"operation": "remove", "spec": {"a": {"b": 1}}}], "step 1 (remove) at a > b: Invalid Removr spec"),
        (
            [{"operation": "shift", "spec": {"a": {"b": "x[&1"}}}],
            "step 1 (shift) at a > b: 'x[&1': Invalid key",
        ),
        ([{"operation": "shift", "spec": {"a": {}}}], "step 1 (shift) at a: "),
        ([{"operation": "shift", "spec": {"a": {"x|x": "b"}}}], "step 1 (shift) at a > x|x: 'b': Duplicate"),
        ([{"operation": "cardinality", "spec": {"a": "TWO"}}], "step 1 (cardinality) at a: 'TWO': "),
        (
            [{"operation": "modify-default-beta", "spec": {"a": ["=toUper", "x"]}}],
            "step 1 (modify-default-beta) at a: unknown function 'toUper'; did you mean 'toUpper'?",
        ),
        (
            [{"operation": "modify-overwrite-beta", "spec": {"a": {"b": "=concat(1"}}}],
            "step 1 (modify-overwrite-beta) at a > b: '=concat(1' has no closing bracket",
        ),
    ],
)
def test_a_mistake_in_the_spec_is_told_with_its_place(spec: Any, message: str) -> None:
    assert message in problem(spec)


def test_an_unknown_function_without_a_near_one_lists_the_known() -> None:
    told = problem([{"operation": "modify-overwrite-beta", "spec": {"a": "=qqqq"}}])

    assert "unknown function 'qqqq'; known are " in told
    assert "toUpper" in told


def test_a_spec_nested_without_end_is_refused() -> None:
    spec: Any = "x"
    for _ in range(300):
        spec = {"a": spec}

    assert "nested deeper than 200 levels" in problem([{"operation": "shift", "spec": spec}])


def test_documents_are_read_as_plain_json() -> None:
    mapping = compile_mapping({"operation": "sort"})

    result = mapping.apply({1: ("a", Decimal("1.50")), "b": Decimal(2)})

    assert result == {"1": ["a", 1.5], "b": 2}
    assert type(result["b"]) is int


@pytest.mark.parametrize("value", [object(), {1, 2}, b"x", {None: 1}, {True: 1}, Decimal("NaN")])
def test_a_document_that_is_not_json_is_refused(value: Any) -> None:
    with pytest.raises(MappingFailed, match="which is not JSON"):
        compile_mapping({"operation": "sort"}).apply({"a": value} if not isinstance(value, dict) else value)


def test_the_document_stays_as_it_was() -> None:
    document = {"a": [1, {"b": None}]}

    compile_mapping(
        [{"operation": "default", "spec": {"x": 1}}, {"operation": "remove", "spec": {"a": ""}}]
    ).apply(document)

    assert document == {"a": [1, {"b": None}]}


def test_nothing_produced_names_the_step_that_lost_it() -> None:
    mapping = compile_mapping([{"operation": "sort"}, {"operation": "shift", "spec": {"x": "y"}}])

    with pytest.raises(
        MappingFailed, match=r"produced nothing: step 2 \(shift\) matched no part of the document"
    ):
        mapping.apply({"a": 1})


def test_a_failing_step_is_named() -> None:
    mapping = compile_mapping([{"operation": "sort"}, {"operation": "shift", "spec": {"a": "x.&7"}}])

    with pytest.raises(MappingFailed, match=r"step 2 \(shift\): Reference goes 7 levels up"):
        mapping.apply({"a": 1})


@pytest.mark.parametrize("value", ["\ud83d", float("inf"), float("nan")])
def test_a_result_that_json_cannot_hold_is_refused(value: Any) -> None:
    with pytest.raises(MappingFailed, match="result is not JSON: id: "):
        compile_mapping(SHIFT).apply({"pk": value})


def test_a_trace_shows_the_document_after_every_step() -> None:
    mapping = compile_mapping([*SHIFT, {"operation": "default", "spec": {"x": 1}}])

    assert mapping.trace({"pk": 7}) == [("shift", {"id": 7}), ("default", {"id": 7, "x": 1})]


def test_a_trace_goes_on_after_a_step_that_left_nothing() -> None:
    mapping = compile_mapping([*SHIFT, {"operation": "default", "spec": {"x": 1}}])

    assert mapping.trace({"other": 7}) == [("shift", None), ("default", {"x": 1})]


keys = st.text(alphabet="ab1*&@$#|[]().\\", max_size=4) | st.sampled_from(
    ["a", "b", "*", "@", "$", "&1", "@(1,a)"]
)
leaves = st.none() | st.booleans() | st.integers(-9, 9) | st.floats() | st.text(max_size=4) | keys
functions = st.sampled_from(
    ["=toUpper", "=concat(@(1,a),'x')", "=divide(@(1,a),0)", "=toDouble", "=size", "=x(", "^a"]
)
trees = st.recursive(
    leaves | functions, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(keys, inner, max_size=3)
)
operations = st.sampled_from(
    [
        "shift",
        "default",
        "remove",
        "sort",
        "cardinality",
        "modify-overwrite-beta",
        "modify-default-beta",
        "modify-define-beta",
    ]
)
steps = st.fixed_dictionaries({"operation": operations, "spec": st.dictionaries(keys, trees, max_size=4)})


@examples(300, suppress=[HealthCheck.too_slow])
@given(chain=st.lists(steps, max_size=3) | trees, document=trees)
def test_no_spec_and_no_document_gives_anything_but_json_or_a_mapping_failure(
    chain: Any, document: Any
) -> None:
    try:
        said = json.dumps(compile_mapping(chain).apply(document), allow_nan=False)
    except MappingFailed as error:
        said = str(error)

    assert said


@examples(200)
@given(text=st.text(alphabet='[]{}":,/*\n operationshift1', max_size=60))
def test_no_text_gives_anything_but_a_mapping_or_a_mapping_failure(text: str) -> None:
    try:
        said = bool(compile_mapping(text))
    except MappingFailed as error:
        said = bool(str(error))

    assert said


@pytest.mark.parametrize(
    ("operation", "spec", "written"),
    [
        ("shift", {"a": "b", "list": {"*": "l[&]"}}, '{"b": 1.10, "l": [1E400, 1e-5]}'),
        ("default", {"rate": 0}, '{"a": 1.10, "list": [1E400, 1e-5], "rate": 0}'),
        ("remove", {"list": ""}, '{"a": 1.10}'),
        ("modify-overwrite-beta", {"a": "=toDouble(@(1,a))", "list": "=size"}, '{"a": 1.10, "list": 2}'),
        ("modify-overwrite-beta", {"list": "=lastElement"}, '{"a": 1.10, "list": 1e-5}'),
        ("modify-overwrite-beta", {"list": "=doubleSum(@(1,a),@(1,a))"}, '{"a": 1.10, "list": 2.2}'),
        ("modify-overwrite-beta", {"list": "=concat(@(1,a),' EUR')"}, '{"a": 1.10, "list": "1.1 EUR"}'),
    ],
)
def test_only_a_number_that_is_computed_is_written_anew(operation: str, spec: Any, written: str) -> None:
    document = exact_json.loads('{"a": 1.10, "list": [1E400, 1e-5]}')
    mapping = compile_mapping([{"operation": operation, "spec": spec}])

    assert exact_json.dumps(mapping.apply(document)) == written
    assert exact_json.dumps(mapping.trace(document)[0][1]) == written


def test_a_number_in_the_mapping_is_written_as_it_stands_there() -> None:
    mapping = compile_mapping(
        '{"operation": "default", "spec": {"rate": 1.10, "more": 12345678901234567.89}}'
    )

    assert exact_json.dumps(mapping.apply({})) == '{"rate": 1.10, "more": 12345678901234567.89}'


def test_a_result_with_a_number_computed_beyond_all_bounds_is_refused() -> None:
    mapping = compile_mapping(
        [{"operation": "modify-overwrite-beta", "spec": {"a": "=doubleSum(@(1,b),@(1,b))"}}]
    )

    with pytest.raises(MappingFailed, match="a: inf is not a JSON number"):
        mapping.apply(exact_json.loads('{"b": 1E400}'))
