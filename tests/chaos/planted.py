"""Faults that no simulated world can show, put into the product on purpose, and the tests that find each: a plugin.

`PLANTED="..." python -m pytest -p tests.chaos.planted TEST` runs a test with the product broken.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from include.order_cancel import flow, http, params


def _numbers_are_believed() -> None:
    flow._own_run = lambda around, journal, run_id: journal.run(run_id)  # type: ignore[assignment]


def _secrets_by_index() -> None:
    from include.order_cancel_page import masking

    def restored(edited: Any, original: Any) -> Any:
        if isinstance(edited, dict) and isinstance(original, dict):
            return {name: restored(value, original.get(name)) for name, value in edited.items()}
        if isinstance(edited, list) and isinstance(original, list):
            pairs = [*original, *[None] * len(edited)]
            return [restored(value, pairs[place]) for place, value in enumerate(edited)]
        return original if edited == masking.HIDDEN and original is not None else edited

    masking.restored = restored


def _params_that_are_not_understood_are_none() -> None:
    real = params.read

    def read(raw: Mapping[str, Any], conf: Mapping[str, Any] | None = None) -> params.Params:
        known = {name: value for name, value in raw.items() if name in params.DESCRIPTIONS}
        return real({name: value for name, value in known.items() if value not in ("", [], 0)})

    params.read = read


def _unread_bytes_are_kept() -> None:
    async def check_alive(connection: Any) -> None: ...

    http.check_alive = check_alive  # type: ignore[assignment]


# The point: the fault, and the tests that must find it.
PLANTED: dict[str, tuple[Callable[[], None], str]] = {
    "numbers in XCom are believed": (
        _numbers_are_believed,
        "tests/integration/test_foreign_runs.py::test_a_task_does_nothing_with_a_run_that_is_not_its_own",
    ),
    "a hidden secret is filled in by its index": (
        _secrets_by_index,
        "tests/page/test_hidden_values.py::test_in_no_small_document_a_secret_ends_at_another_item",
    ),
    "Params that are not understood are left out": (
        _params_that_are_not_understood_are_none,
        "tests/unit/test_params.py",
    ),
    "a kept connection is not looked at": (
        _unread_bytes_are_kept,
        "tests/unit/test_connections.py::test_what_came_while_a_connection_was_kept_is_no_answer_to_the_next_request",
    ),
}


def pytest_configure(config: Any) -> None:
    """Break the product as the environment says."""
    for name in _asked():
        PLANTED[name][0]()


def _asked() -> Iterable[str]:
    return [name for name in [os.environ.get("PLANTED", "")] if name]
