"""Schedules: cron with five fields, read strictly, and the presets that Airflow takes.

What is accepted here, Airflow accepts; what would never come (30 February) is refused.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product

# Airflow 3.3: `airflow.sdk.definitions.timetables._cron.CRON_PRESETS`, and `@once`.
PRESETS = ("@once", "@hourly", "@daily", "@weekly", "@monthly", "@quarterly", "@yearly")
_MONTHS = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
_DAYS = ("sun", "mon", "tue", "wed", "thu", "fri", "sat")
_LONGEST = (31, 29, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31)


@dataclass(frozen=True)
class _Field:
    title: str
    first: int
    last: int
    names: tuple[str, ...] = ()


_FIELDS = (
    _Field("minute", 0, 59),
    _Field("hour", 0, 23),
    _Field("day of the month", 1, 31),
    _Field("month", 1, 12, _MONTHS),
    _Field("day of the week", 0, 7, _DAYS),
)


def check(schedule: str) -> str:
    """The schedule with single blanks; raises ValueError with the mend in words."""
    parts = schedule.split()
    if len(parts) == 1 and parts[0].startswith("@"):
        return _preset(parts[0])
    if len(parts) != len(_FIELDS):
        raise ValueError(
            f"a cron schedule has 5 fields (minute, hour, day, month, day of the week), not {len(parts)}; "
            "every five minutes is '*/5 * * * *'"
        )
    _, _, days, months, _ = (_values(part, field) for part, field in zip(parts, _FIELDS, strict=True))
    if parts[4] == "*" and not any(day <= _LONGEST[month - 1] for day, month in product(days, months)):
        raise ValueError(f"'{schedule}' never comes: no such month has such a day")
    return " ".join(parts)


def _preset(word: str) -> str:
    if word == "@continuous":
        raise ValueError("'@continuous' would ask Omnitron without a pause; use '*/1 * * * *'")
    if word not in PRESETS:
        raise ValueError(
            f"'{word[:40]}' is not a preset; use one of {', '.join(PRESETS)}, or five cron fields"
        )
    return word


def _values(part: str, field: _Field) -> set[int]:
    return {value for item in part.split(",") for value in _item(item, field)}


def _item(item: str, field: _Field) -> range:
    span, slash, step_text = item.partition("/")
    step = _step(step_text, field) if slash else 1
    if span == "*":
        return range(field.first, field.last + 1, step)
    low, dash, high = span.partition("-")
    first = _value(low, field)
    last = _value(high, field) if dash else (field.last if slash else first)
    if first > last:
        raise ValueError(f"the {field.title} '{span}' runs backwards; write the two parts as a list")
    return range(first, last + 1, step)


def _step(text: str, field: _Field) -> int:
    if not _is_number(text) or not 1 <= int(text) <= field.last:
        raise ValueError(f"the {field.title}'s step '/{text[:40]}' must be a number from 1 to {field.last}")
    return int(text)


def _value(text: str, field: _Field) -> int:
    if text.lower() in field.names:
        return field.names.index(text.lower()) + field.first
    if not _is_number(text) or not field.first <= int(text) <= field.last:
        names = f", or {field.names[0]} to {field.names[-1]}" if field.names else ""
        span = f"a number from {field.first} to {field.last}{names}"
        raise ValueError(f"the {field.title} '{text[:40]}' must be '*' or {span}")
    return int(text)


def _is_number(text: str) -> bool:
    return text.isascii() and text.isdigit() and len(text) <= 2
