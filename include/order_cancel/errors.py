"""The errors, named after what happens next.

OrderCancelError
├── SettingsError      the settings are wrong: nothing is started, every problem is listed by field
├── RetryLater         nothing is wrong with the plan: the same task may be tried again
│   ├── RowBusy        somebody else is working on the row
│   └── JournalDown    the journal cannot be reached
├── PlanFailed         this plan failed; its neighbours go on
│   └── MappingFailed  the mapping cannot be applied to this document
│   └── ScriptFailed   the script refused, raised or overran
├── StopFlow           nothing more may be sent in this run; unsent plans are held
│   └── TokenRefused   a system refuses a token, a new one too
└── LeaseLost          another process took the row over; whatever this one knows is old

A message names flow, plan and step, and never a secret.
"""

from __future__ import annotations

from dataclasses import dataclass


class OrderCancelError(Exception):
    """The root: whatever this package raises on purpose."""


@dataclass(frozen=True)
class Problem:
    """One mistake in the settings: the field's dotted path, and in words how to mend it."""

    path: str
    message: str

    def __str__(self) -> str:
        return f"{self.path}: {self.message}" if self.path else self.message


class SettingsError(OrderCancelError):
    """The settings cannot be used; `problems` holds every mistake, not just the first."""

    def __init__(self, problems: list[Problem]) -> None:
        self.problems = problems
        super().__init__("\n".join(str(problem) for problem in problems))


class RetryLater(OrderCancelError):
    """Nothing is wrong with the plan; the same call may succeed later."""


class RowBusy(RetryLater):
    """Another task holds the row's lease."""


class JournalDown(RetryLater):
    """The journal cannot be reached or is locked."""


class PlanFailed(OrderCancelError):
    """This plan cannot go on in this run; the message says why. `own_stop`: as of `StopFlow`."""

    own_stop = False


class MappingFailed(PlanFailed):
    """The mapping cannot be compiled or applied; the message says where in the spec."""


class ScriptFailed(PlanFailed):
    """A script raised, refused (REL_FAILURE), overran its limits or answered nonsense."""


class StopFlow(OrderCancelError):
    """The run must not send anything more: a refused token, an ERP that is down. `alert`: the event that it is.

    `own_stop`: the answer to one plan's own request led to it, and may be about that plan alone.
    """

    alert = ""
    own_stop = False


class TokenRefused(StopFlow):
    """A system refuses a token, a new one too."""

    alert = "token_refused"
    own_stop = True


class LeaseLost(OrderCancelError):
    """The row was taken over by another process; this one's moves are refused."""
