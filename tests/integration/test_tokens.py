"""Systems that refuse an old token with another status than 401: one login, and everything goes on."""

from __future__ import annotations

import pytest

from include.simulator import OmnitronSimulator, plans
from include.simulator.wire import Answer, answer
from tests.integration.conftest import SEED, MakeFlow

COUNT = 6
PERHAPS = [403, 419, 440]


class OldTokensRefused(OmnitronSimulator):
    """An Omnitron that answers `status` to a token that is not valid."""

    def __init__(self, status: int) -> None:
        super().__init__(plans(SEED, COUNT))
        self._status = status

    def unauthorised(self) -> Answer:
        return answer(self._status, {"detail": "Invalid token."})


@pytest.mark.parametrize("fan_out", [50, 0], ids=["plan by plan", "side by side"])
@pytest.mark.parametrize("status", PERHAPS)
def test_a_token_that_ended_between_two_tasks_costs_one_login(
    make_flow: MakeFlow, status: int, fan_out: int
) -> None:
    flow = make_flow(omnitron=OldTokensRefused(status), fan_out=fan_out, lots=2)

    def expire(task: str) -> None:
        if task in ("login", "get_data"):
            flow.omnitron.simulator.expire_tokens()

    flow.between = expire
    outcome = flow.run()

    assert outcome.gate == "open"
    assert set(flow.states().values()) == {"done"}
    assert flow.omnitron.simulator.logins == 3


@pytest.mark.parametrize("status", PERHAPS)
def test_each_run_renews_a_token_that_ended_since_the_last_one(make_flow: MakeFlow, status: int) -> None:
    flow = make_flow(omnitron=OldTokensRefused(status))

    gates = []
    for _ in range(3):
        gates.append(flow.run().gate)
        flow.omnitron.simulator.expire_tokens()

    assert gates == ["open"] * 3
    assert flow.omnitron.simulator.logins == 3


@pytest.mark.parametrize("fan_out", [50, 0], ids=["plan by plan", "side by side"])
def test_a_right_that_is_missing_in_omnitron_costs_one_login_and_not_one_for_each_plan(
    make_flow: MakeFlow, fan_out: int
) -> None:
    flow = make_flow(COUNT, fan_out=fan_out, lots=1)
    flow.omnitron.simulator.fail("status", status=403, method="PATCH")

    flow.run()

    assert set(flow.states().values()) == {"failed"}
    assert len(flow.erp.simulator.effects) == COUNT
    assert flow.omnitron.simulator.logins == 2
