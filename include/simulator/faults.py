"""What goes wrong on demand: which requests a fault meets, how often, and what it does to them."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any

from include.simulator.wire import Answer, Request, answer, number_or_text

KINDS = (
    "refuse",
    "status",
    "answer",
    "delay",
    "stall",
    "drop",
    "hangup",
    "truncate",
    "expire_token",
)
ANY_PLAN = "*"


@dataclass(slots=True)
class Fault:
    """One fault.

    `plan`, `path` (a part of it) and `method` say which requests it meets; all that are given must fit.
    Without `path`, `plan` is `*`: every request that names a plan. `times`: how many requests it meets (None:
    all), after it has let `after` of them pass.

    Kinds: `refuse`, `status` and `answer` answer `status`, `body`, `headers` (and Retry-After: `retry_after`
    seconds); `delay` books and then waits `seconds`, `stall` waits and then books; `drop` reads the request
    and cuts the connection; `hangup` cuts it before it reads the body (where no fault's plan has to be looked
    for in there); `truncate` cuts in the middle of the usual answer; `expire_token` revokes all tokens and
    answers 401.

    `effect`: whether the request nevertheless did what it asked for; by default only `truncate`,
    `delay` and `stall` do.
    """

    kind: str
    plan: int | str | None = None
    path: str | None = None
    method: str | None = None
    times: int | None = None
    after: int = 0
    status: int | None = None
    body: Any = None
    headers: dict[str, str] = field(default_factory=dict)
    retry_after: float | None = None
    seconds: float = 0.0
    effect: bool | None = None

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise ValueError(f"{self.kind!r} is no kind of fault; there are {', '.join(KINDS)}")
        if self.plan is None and self.path is None:
            self.plan = ANY_PLAN
        self.plan = number_or_text(self.plan)
        if self.effect is None:
            self.effect = self.kind == "truncate"

    def fits(self, call: Request) -> bool:
        return (
            (self.path is None or self.path in call.path)
            and (self.method is None or self.method == call.method)
            and (self.plan is None or (call.names_plan and self.plan in (ANY_PLAN, call.pk)))
        )

    def answer(self, refusal: int) -> Answer:
        """The answer of the kinds that give one; `refusal` is the simulator's usual refusing status."""
        status = self.status or {"refuse": refusal, "status": 500, "answer": 200}[self.kind]
        headers = dict(self.headers)
        if self.retry_after is not None:
            headers["Retry-After"] = f"{self.retry_after:g}"
        if isinstance(self.body, str):
            return Answer(
                status, self.body.encode(), {"Content-Type": "text/plain; charset=utf-8", **headers}
            )
        default = {"error": "refused"} if self.kind == "refuse" else {"detail": f"status {status} on demand"}
        return answer(status, default if self.body is None else self.body, headers)


class FaultBook:
    """The faults in force, in the order in which they were added; each request meets at most one."""

    def __init__(self) -> None:
        self._faults: list[Fault] = []

    def __len__(self) -> int:
        return len(self._faults)

    def add(self, fault: Fault) -> None:
        self._faults.append(fault)

    def clear(self) -> None:
        self._faults.clear()

    def name_plans(self) -> bool:
        """Whether some fault is about one plan: then requests are read before faults are matched."""
        return any(fault.plan not in (None, ANY_PLAN) for fault in self._faults)

    def take(self, call: Request) -> Fault | None:
        """The first fault that meets this request; counted as used once."""
        for fault in self._faults:
            if not fault.fits(call):
                continue
            if fault.after:
                fault.after -= 1
                continue
            self._use_up(fault)
            return fault
        return None

    def as_dicts(self) -> list[dict[str, Any]]:
        return [asdict(fault) for fault in self._faults]

    def _use_up(self, fault: Fault) -> None:
        if fault.times is None:
            return
        fault.times -= 1
        if fault.times <= 0:
            self._faults.remove(fault)
