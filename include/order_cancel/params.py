"""What an operator may narrow one run by: the Params of Airflow's trigger form, as one value."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Any

from include.order_cancel.errors import Problem, SettingsError
from include.order_cancel.settings_words import suggestion
from include.order_cancel.text import printable

DESCRIPTIONS = {
    "plan_ids": "Only these plans, by their number in Omnitron (a list). Also tries again plans that rest or are dead.",
    "limit": "At most so many plans, the oldest first.",
    "dry_run": "Go up to, not including, the write to the ERP: the prepared requests go to the log of "
    "get_data_from_omnitron, and nothing is claimed, stored or moved. All other Params count as in a real run.",
    "retry_only": "Ask Omnitron for no new plans: only those that earlier runs left open.",
    "since": "For a `completed` flow: from this time (ISO, with offset) instead of the last query time.",
    "until": "For a `completed` flow: up to this time (ISO, with offset).",
    "resend_ids": "Send these finished plans AGAIN, as a new generation with a new key (a list of plan numbers). "
    "The ERP cannot recognise them as repeats.",
    "max_plans": "How many plans this run may find, instead of the flow's `omnitron.max_plans`.",
}

# Together, one of the two would be ignored, or more would be sent than asked for.
_NEVER_WITH = {
    "retry_only": ("plan_ids", "resend_ids", "since", "until", "max_plans"),
    "resend_ids": ("limit", "since", "until", "max_plans"),
    "plan_ids": ("since", "until", "max_plans"),
}
_NOT_A_PARAM_YET = (
    "was asked for, but has not become a Param: Airflow's `[core] dag_run_conf_overrides_params` is off; "
    "nothing is sent until it is on"
)


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


def read(raw: Mapping[str, Any], conf: Mapping[str, Any] | None = None) -> Params:
    """The Params of a run as one value; null is not given. Raises SettingsError that names each wrong one.

    `conf`: what the run was started with. What stands there must have become a Param.
    """
    given, asked = _without_nulls(raw), _without_nulls(conf or {})
    problems: list[Problem] = []
    values: dict[str, Any] = {}
    for name in {**given, **asked}:
        try:
            if name not in _READERS:
                raise ValueError(_unknown(name))
            if name in asked and asked[name] != given.get(name):
                raise ValueError(_NOT_A_PARAM_YET)
            values[name] = _READERS[name](given[name])
        except ValueError as error:
            problems.append(Problem(f"params.{printable(name, 60)}", str(error)))
    if not problems:
        params = Params(**values)
        problems = list(_contradictions(params))
    if problems:
        raise SettingsError(problems)
    return params


def _without_nulls(raw: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in raw.items() if value is not None}


def _unknown(name: str) -> str:
    return f"is no Param of a run{suggestion(name, DESCRIPTIONS) or '; there are ' + ', '.join(DESCRIPTIONS)}"


def _contradictions(params: Params) -> Iterator[Problem]:
    given = params.as_dict()
    for name, others in _NEVER_WITH.items():
        for other in others:
            if name in given and other in given:
                yield Problem(f"params.{other}", f"cannot be asked for together with {name}")
    if both := [pk for pk in params.plan_ids if pk in params.resend_ids]:
        yield Problem(
            "params.resend_ids", f"holds plans that plan_ids holds too: {printable(', '.join(both))}"
        )
    if params.since and params.until and moment(params.since) >= moment(params.until):
        yield Problem("params.until", "must be later than since")


def check_window(params: Params, cancel_status: str) -> None:
    """Raise SettingsError where a window is asked of a flow that has none."""
    asked = [name for name in ("since", "until") if name in params.as_dict()]
    if asked and cancel_status != "completed":
        words = f"only a `completed` flow has a window; omnitron.cancel_status of this one is {cancel_status}"
        raise SettingsError([Problem(f"params.{name}", words) for name in asked])


def moment(text: str) -> datetime:
    """An ISO time with its offset, in UTC. Raises ValueError in words."""
    try:
        found = datetime.fromisoformat(text)
        if found.tzinfo is not None:
            return found.astimezone(UTC)
    except (ValueError, OverflowError):
        raise ValueError(f"'{printable(text, 60)}' is not an ISO time; write 2025-03-01T08:00:00Z") from None
    raise ValueError(f"'{printable(text, 60)}' has no offset; write 2025-03-01T08:00:00Z")


def _plan_numbers(given: Any) -> tuple[str, ...]:
    items = given.replace(",", " ").split() if isinstance(given, str) else given
    if not isinstance(items, list) or not items or not all(map(_is_plan_number, items)):
        raise ValueError("must be a list of plan numbers that is not empty: [5001, 5002]")
    return tuple(dict.fromkeys(str(item).strip() for item in items))


def _is_plan_number(item: Any) -> bool:
    if isinstance(item, str):
        return bool(item.strip())
    return isinstance(item, int) and not isinstance(item, bool)


def _count(given: Any) -> int:
    if isinstance(given, bool) or not isinstance(given, int) or given < 1:
        raise ValueError("must be a whole number from 1")
    return given


def _switch(given: Any) -> bool:
    if given is not True and given is not False:
        raise ValueError("must be true or false, without quotes")
    return bool(given)


def _time(given: Any) -> str:
    return moment(given if isinstance(given, str) else repr(given)).isoformat()


_READERS = {
    "plan_ids": _plan_numbers,
    "limit": _count,
    "dry_run": _switch,
    "retry_only": _switch,
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
