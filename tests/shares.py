"""Which share of the tests has what: the quick one, or the rest. tests/README.md tells why."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import HealthCheck, settings

QUICK = "quick"

settings.register_profile(QUICK)


def thorough(*values: Any, id: str | None = None) -> Any:  # noqa: A002
    """Values of a parametrized test that the quick share leaves out."""
    return pytest.param(*values, marks=pytest.mark.thorough, id=id)


def examples(count: int, *, suppress: Sequence[HealthCheck] = ()) -> settings:
    """Settings for `count` drawn examples, a tenth of them in the quick share; the same in every run."""
    drawn = max(10, count // 10) if settings.get_current_profile_name() == QUICK else count
    return settings(
        derandomize=True,
        deadline=None,
        max_examples=drawn,
        suppress_health_check=list(suppress),
        database=None,
    )
