from __future__ import annotations

import threading
import time
from typing import Any

import pytest
import requests

from include.simulator import ErpSimulator, Fault, RunningServer

Erp = RunningServer[ErpSimulator]


def send(server: Erp, plan: int = 5001, timeout: float = 10) -> requests.Response:
    headers = {"Idempotency-Key": f"k{plan}"}
    return requests.post(f"{server.url}/cancellations", json={"plan": plan}, headers=headers, timeout=timeout)


def test_a_refusal_is_for_its_plan_only(erp: Erp) -> None:
    erp.simulator.fail("refuse", plan=5001, body={"error": "customer blocked"})

    refused, booked = send(erp, 5001), send(erp, 5002)

    assert (refused.status_code, refused.json()) == (422, {"error": "customer blocked"})
    assert booked.status_code == 200
    assert [effect.plan for effect in erp.simulator.effects] == [5002]


def test_a_refusal_by_omnitron_is_a_400(omnitron: Any) -> None:
    omnitron.simulator.fail("refuse", plan=5001, method="PATCH")

    assert omnitron.write_back(5001, "approved").status_code == 400
    assert omnitron.ask("GET", "cancellation_plans/5001/").json()["status"] == "waiting"


def test_a_fault_ends_after_its_number_of_times(erp: Erp) -> None:
    erp.simulator.fail("status", plan=5001, status=502, times=2)

    assert [send(erp).status_code for _ in range(4)] == [502, 502, 200, 200]
    assert len(erp.simulator.faults) == 0


def test_a_fault_begins_after_a_number_of_requests(erp: Erp) -> None:
    erp.simulator.fail("status", status=503, after=2, times=1)

    assert [send(erp, plan).status_code for plan in range(4)] == [200, 200, 503, 200]


def test_the_first_fault_that_fits_is_the_one(erp: Erp) -> None:
    erp.simulator.fail("status", plan=5001, status=500, times=1)
    erp.simulator.fail("status", plan="*", status=503)

    assert [send(erp, plan).status_code for plan in (5001, 5001, 5002)] == [500, 503, 503]


@pytest.mark.parametrize("status", [500, 502, 503, 504, 429, 408])
def test_any_status_can_be_answered_with_a_retry_after(erp: Erp, status: int) -> None:
    erp.simulator.fail("status", status=status, retry_after=2)

    answer = send(erp)

    assert answer.status_code == status
    assert answer.headers["Retry-After"] == "2"
    assert erp.simulator.effects == []


def test_a_500_may_hide_that_the_document_was_booked(erp: Erp) -> None:
    erp.simulator.fail("status", status=500, effect=True, times=1)

    assert send(erp).status_code == 500
    assert [effect.plan for effect in erp.simulator.effects] == [5001]
    assert send(erp).json()["documentNumber"] == "C-000001"
    assert erp.simulator.replays == 1


def test_any_answer_can_be_given(erp: Erp) -> None:
    headers = {"Content-Type": "application/xml", "X-Trace": "7"}
    erp.simulator.fail("answer", status=202, body="<ok/>", headers=headers)

    answer = send(erp)

    assert (answer.status_code, answer.text) == (202, "<ok/>")
    assert answer.headers["Content-Type"] == "application/xml"
    assert answer.headers["X-Trace"] == "7"


@pytest.mark.parametrize("effect", [False, True])
@pytest.mark.parametrize("plan", [5001, "*"])
def test_a_connection_is_dropped_after_the_request_was_read(erp: Erp, plan: int | str, effect: bool) -> None:
    erp.simulator.fail("drop", plan=plan, effect=effect, times=1)

    with pytest.raises(requests.ConnectionError):
        send(erp)

    [call] = erp.simulator.requests
    assert (call.json, call.status) == ({"plan": 5001}, 0)
    assert len(erp.simulator.effects) == effect
    assert send(erp).status_code == 200
    assert len(erp.simulator.effects) == 1


def test_a_connection_is_dropped_before_the_request_is_read(erp: Erp) -> None:
    erp.simulator.fail("hangup", times=1)

    with pytest.raises(requests.ConnectionError):
        send(erp)

    [call] = erp.simulator.requests
    assert (call.raw, call.status) == (b"", 0)
    assert erp.simulator.effects == []


def test_a_hangup_for_one_plan_leaves_the_others(erp: Erp) -> None:
    erp.simulator.fail("hangup", plan=5001)

    assert send(erp, 5002).status_code == 200
    with pytest.raises(requests.ConnectionError):
        send(erp, 5001)
    assert erp.simulator.attempts == {5002: 1, 5001: 1}


def test_a_truncated_answer_hides_a_booked_document(erp: Erp) -> None:
    erp.simulator.fail("truncate", plan=5001)

    with pytest.raises((requests.ConnectionError, requests.exceptions.ChunkedEncodingError)):
        send(erp)

    assert [effect.plan for effect in erp.simulator.effects] == [5001]


def test_a_truncated_answer_may_hide_that_nothing_was_booked(erp: Erp) -> None:
    erp.simulator.fail("truncate", effect=False)

    with pytest.raises((requests.ConnectionError, requests.exceptions.ChunkedEncodingError)):
        send(erp)

    assert erp.simulator.effects == []


def test_a_delayed_answer_comes_late_but_the_document_is_booked_at_once(erp: Erp) -> None:
    erp.simulator.fail("delay", seconds=30)

    with pytest.raises(requests.ReadTimeout):
        send(erp, timeout=0.3)

    assert [effect.plan for effect in erp.simulator.effects] == [5001]
    assert erp.simulator.requests[0].status is None


def test_a_stalled_document_is_not_booked_yet(erp: Erp) -> None:
    erp.simulator.fail("stall", seconds=30)

    with pytest.raises(requests.ReadTimeout):
        send(erp, timeout=0.3)

    assert erp.simulator.effects == []


@pytest.mark.parametrize("kind", ["delay", "stall"])
def test_a_patient_client_gets_a_late_answer(erp: Erp, kind: str) -> None:
    erp.simulator.fail(kind, seconds=0.2)
    began = time.monotonic()

    answer = send(erp)

    assert answer.json()["documentNumber"] == "C-000001"
    assert time.monotonic() - began >= 0.2


def test_a_token_expires_on_demand(omnitron: Any) -> None:
    omnitron.simulator.fail("expire_token", plan=5001, times=1)

    assert omnitron.write_back(5001, "approved").status_code == 401
    assert omnitron.plans().status_code == 401
    omnitron.log_in()
    assert omnitron.write_back(5001, "approved").status_code == 200


def test_an_unauthorised_request_uses_no_fault_up(omnitron: Any) -> None:
    omnitron.simulator.fail("status", plan=5001, status=503, times=1)
    omnitron.simulator.expire_tokens()

    assert omnitron.write_back(5001, "approved").status_code == 401
    omnitron.log_in()
    assert omnitron.write_back(5001, "approved").status_code == 503


def test_logins_and_lists_fail_by_path(omnitron: Any) -> None:
    omnitron.simulator.fail("status", path="/auth/login/", status=500)
    omnitron.simulator.fail("status", path="/cancellation_plans/", method="GET", status=502, times=1)

    assert omnitron.ask("POST", "auth/login/", json={}).status_code == 500
    assert [omnitron.plans().status_code for _ in range(2)] == [502, 200]


def test_a_fault_for_every_plan_spares_logins_and_lists(omnitron: Any) -> None:
    omnitron.simulator.fail("status", plan="*")

    assert omnitron.log_in()
    assert omnitron.plans().status_code == 200
    assert omnitron.write_back(5002, "approved").status_code == 500


def test_a_write_back_may_take_although_its_answer_is_lost(omnitron: Any) -> None:
    omnitron.simulator.fail("drop", plan=5001, effect=True, times=1)

    with pytest.raises(requests.ConnectionError):
        omnitron.write_back(5001, "approved")

    assert omnitron.simulator.status(5001) == "approved"


def test_faults_come_and_go_from_outside(erp: Erp) -> None:
    control = f"{erp.url}/_control/faults"
    faults = [{"kind": "refuse", "plan": "5001"}, {"kind": "status", "plan": 5002, "status": 503}]

    requests.post(control, json=faults, timeout=10)
    during = [send(erp, plan).status_code for plan in (5001, 5002)]
    requests.delete(control, timeout=10)
    after = [send(erp, plan).status_code for plan in (5001, 5002)]

    assert during == [422, 503]
    assert after == [200, 200]


def test_latency_is_for_all(erp: Erp) -> None:
    erp.simulator.set(latency_ms=150)
    began = time.monotonic()

    send(erp)

    assert time.monotonic() - began >= 0.15


def test_requests_at_the_same_time_are_counted(erp: Erp) -> None:
    erp.simulator.set(latency_ms=500)
    threads = [threading.Thread(target=send, args=(erp, plan)) for plan in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert erp.simulator.peak_in_flight == 4
    assert erp.simulator.in_flight == 0


def test_an_unknown_kind_is_refused() -> None:
    with pytest.raises(ValueError, match="earthquake"):
        Fault("earthquake")
