"""What an operator may narrow one run by: the Params of Airflow's trigger form, as one value."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Any

from include.order_cancel.errors import Problem, SettingsError
from include.order_cancel.text import printable

DESCRIPTIONS = {
    "plan_ids": "Only these plans, by their number in Omnitron (a list). Also tries again plans that rest or are dead.",
    "limit": "At most so many plans, the oldest first.",
    "dry_run": "Go up to, not including, the write to the ERP: the prepared requests go to the log of "
    "get_data_from_omnitron, and nothing is claimed, stored or moved.",
    "retry_only": "Ask Omnitron for no new plans: only those that earlier runs left open.",
    "since": "For a `completed` flow: from this time (ISO, with offset) instead of the last query time.",
    "until": "For a `completed` flow: up to this time (ISO, with offset).",
    "resend_ids": "Send these finished plans AGAIN, as a new generation with a new key (a list of plan numbers). "
    "The ERP cannot recognise them as repeats.",
    "max_plans": "How many plans this run may find, instead of the flow's `omnitron.max_plans`.",
}


@dataclass(frozen=True)
class Params:
    """One run's Params. Only a run with none of them moves the last query time."""

    plan_ids: tuple[str, ...] = ()
    limit: int | None = None
    dry_run: bool = False
    retry_only: bool = False
    since: str | None = None
    until: str | None = None
    resend_ids: tuple[str, ...] = ()
    max_plans: int | None = None

    @property
    def narrows(self) -> bool:
        """Whether this run is not an ordinary one."""
        return self != Params()

    def as_dict(self) -> dict[str, Any]:
        """The Params that were given, as JSON values."""
        given = {name: value for name, value in asdict(self).items() if value != getattr(Params, name)}
        return {name: list(value) if isinstance(value, tuple) else value for name, value in given.items()}


def read(raw: Mapping[str, Any]) -> Params:
    """The Params of a run as one value. Raises SettingsError that names each wrong one."""
    problems: list[Problem] = []
    values: dict[str, Any] = {}
    for name in DESCRIPTIONS:
        given = raw.get(name)
        if given in (None, "", [], False):
            continue
        try:
            values[name] = _READERS[name](given)
        except ValueError as error:
            problems.append(Problem(f"params.{name}", str(error)))
    if problems:
        raise SettingsError(problems)
    return Params(**values)


def moment(text: str) -> datetime:
    """An ISO time with its offset, in UTC. Raises ValueError in words."""
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        raise ValueError(f"'{printable(text, 60)}' is not an ISO time; write 2025-03-01T08:00:00Z") from None
    if found.tzinfo is None:
        raise ValueError(f"'{printable(text, 60)}' has no offset; write 2025-03-01T08:00:00Z")
    return found.astimezone(UTC)


def _plan_numbers(given: Any) -> tuple[str, ...]:
    items = given.replace(",", " ").split() if isinstance(given, str) else given
    if not isinstance(items, list) or not all(isinstance(item, int | str) for item in items):
        raise ValueError("must be a list of plan numbers: [5001, 5002]")
    return tuple(dict.fromkeys(str(item).strip() for item in items))


def _count(given: Any) -> int:
    if isinstance(given, bool) or not isinstance(given, int) or given < 1:
        raise ValueError("must be a whole number from 1")
    return given


def _yes(given: Any) -> bool:
    if given is not True:
        raise ValueError("must be true or false")
    return True


def _time(given: Any) -> str:
    return moment(given if isinstance(given, str) else repr(given)).isoformat()


_READERS = {
    "plan_ids": _plan_numbers,
    "limit": _count,
    "dry_run": _yes,
    "retry_only": _yes,
    "since": _time,
    "until": _time,
    "resend_ids": _plan_numbers,
    "max_plans": _count,
}

# What Airflow's trigger form is told of each Param.
PARAM_SCHEMAS: dict[str, dict[str, Any]] = {
    "plan_ids": {"type": ["null", "array"], "items": {"type": ["integer", "string"]}},
    "limit": {"type": ["null", "integer"], "minimum": 1},
    "dry_run": {"type": ["null", "boolean"]},
    "retry_only": {"type": ["null", "boolean"]},
    "since": {"type": ["null", "string"], "format": "date-time"},
    "until": {"type": ["null", "string"], "format": "date-time"},
    "resend_ids": {"type": ["null", "array"], "items": {"type": ["integer", "string"]}},
    "max_plans": {"type": ["null", "integer"], "minimum": 1},
}
