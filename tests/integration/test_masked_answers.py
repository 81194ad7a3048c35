"""An answer that holds a secret's text is judged as it came, now and later, and shown to nobody as it came."""

from __future__ import annotations

import json
from typing import Any

import pytest

from include.order_cancel import steps
from include.simulator import ErpSimulator, OmnitronSimulator, plans
from tests.canaries import dump
from tests.harness import Flow
from tests.integration.conftest import SEED, MakeFlow
from tests.journal_fixtures import let_lease_lapse

PASSWORD = "12345678"
NUMBER = 9123456780  # a document's number that holds the password by chance
ANSWER = {"documentNumber": NUMBER, "note": f"by {PASSWORD}", "status": "OK"}
SCRIPT = """
def respond(request, response, attributes):
    attributes["document"] = str(response["documentNumber"])
    log.warn("document " + attributes["document"])
    return ("continue" if response["documentNumber"] == 9_123_456_780 else "failure"), attributes["document"]
"""
RAISES = """
def respond(request, response, attributes):
    raise ValueError("seen " + str(response) + attributes["invokehttp.response.body"])
"""
AFTER = """
def after(request, response, attributes):
    assert response["documentNumber"] == 9_123_456_780
    attributes["after"] = response["note"]
    log.info("after " + response["note"])
"""


@pytest.fixture
def make(make_flow: MakeFlow) -> Any:
    """A flow of one plan, whose ERP answers with the password in its document's number."""

    def made(body: Any = ANSWER, **changes: Any) -> Flow:
        erp = ErpSimulator(auth="basic", user="erp", password=PASSWORD)
        flow = make_flow(1, erp=erp, **{"erp__in_doubt": "hold", **changes})
        flow.erp_password = PASSWORD
        erp.fail("answer", plan=5001, status=200, body=json.dumps(body), effect=True)
        return flow

    return made


def scripted(text: str, **more: Any) -> dict[str, Any]:
    return {
        "erp__custom_response": True,
        "erp__custom_response_script": text,
        "erp__reference_path": None,
        **more,
    }


def shown(flow: Flow, caplog: pytest.LogCaptureFixture) -> bytes:
    """All that the journal and the log hold."""
    flow.close()
    return dump(flow.journal_url) + caplog.text.encode()


@pytest.mark.parametrize("number", [NUMBER, str(NUMBER)])
def test_a_document_number_that_holds_the_password_is_the_reference(make: Any, number: Any) -> None:
    flow = make({"documentNumber": number})

    flow.run()

    assert (flow.state(5001), flow.row(5001).erp_reference) == ("done", str(NUMBER))


def test_a_reference_that_is_the_password_itself_is_not_shown(
    make: Any, caplog: pytest.LogCaptureFixture
) -> None:
    flow = make({"documentNumber": PASSWORD})

    flow.run()

    assert (flow.state(5001), flow.row(5001).erp_reference) == ("done", "***")
    assert PASSWORD.encode() not in shown(flow, caplog)


def test_a_refusal_that_stands_behind_the_password_is_found(make: Any) -> None:
    refusal = f'{{"documentNumber": {NUMBER}, "{PASSWORD}": {{"error": {NUMBER}}}}}'
    flow = make(json.loads(refusal), erp__refused_path=f"{PASSWORD}.error")

    flow.run()

    assert flow.state(5001) == "failed"


def test_a_script_reads_the_answer_as_it_came_and_nobody_else_does(
    make: Any, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("DEBUG")
    flow = make(**scripted(SCRIPT, post_script=AFTER))

    flow.run()

    row = flow.row(5001)
    assert (row.state, row.error) == ("done", None)
    assert row.attributes["document"] == "9***0"
    assert row.attributes["after"] == "by ***"
    content = shown(flow, caplog)
    assert b"document 9***0" in content
    assert PASSWORD.encode() not in content


@pytest.mark.parametrize("judged", ["by a script", "by default"])
def test_an_answer_whose_script_failed_is_judged_as_it_came_by_the_next_run(
    make: Any, caplog: pytest.LogCaptureFixture, judged: str
) -> None:
    caplog.set_level("DEBUG")
    flow = make(**scripted(RAISES))
    flow.run()
    assert flow.state(5001) == "failed"
    assert "9***0" in (flow.row(5001).error or "")

    if judged == "by a script":
        flow.raw["erp"]["custom_response_script"] = SCRIPT
    else:
        del flow.raw["erp"]["custom_response"], flow.raw["erp"]["custom_response_script"]
        flow.raw["erp"]["refused_path"] = "error"
        flow.raw["erp"]["reference_path"] = "documentNumber"
    flow.run()

    assert flow.state(5001) == "done"
    assert len(flow.sent(5001)) == 1
    assert PASSWORD.encode() not in shown(flow, caplog)


class Killed(BaseException):
    """The worker dies."""


@pytest.mark.parametrize("found", [False, True], ids=["the answer", "a lookup's"])
def test_an_answer_whose_worker_died_is_judged_as_it_came(
    make: Any, monkeypatch: pytest.MonkeyPatch, found: bool
) -> None:
    async def die(*_: Any) -> None:
        raise Killed

    flow = make(**scripted(SCRIPT))
    if found:
        flow.raw["erp"] |= {"in_doubt": "lookup", "lookup": {"url": "/documents?plan={{ plan.pk }}"}}
        flow.erp.simulator.faults.clear()
        flow.erp.simulator.fail("drop", plan=5001, path="/cancellations", effect=True)
        flow.erp.simulator.fail("answer", path="/documents", status=200, body=json.dumps(ANSWER))
    with monkeypatch.context() as patch:
        patch.setattr(steps, "_judge", die)
        with pytest.raises(Killed):
            flow.run()
    let_lease_lapse(flow.journal_url, flow.row(5001))
    assert flow.state(5001) == "answered"

    flow.run_again()

    assert flow.state(5001) == "done"
    assert len(flow.sent(5001)) == 1


@pytest.mark.parametrize("policy", ["hold", "resend"])
def test_an_answer_that_cannot_be_opened_any_more_is_in_doubt(
    make: Any, caplog: pytest.LogCaptureFixture, policy: str
) -> None:
    flow = make(**scripted(RAISES, erp__in_doubt=policy))
    flow.run()

    flow.raw["erp"]["custom_response_script"] = SCRIPT
    flow.erp_password = flow.erp.simulator.password = "another-password"
    flow.run()

    row = flow.row(5001)
    assert row.state == "in_doubt"
    assert "secrets, which have changed since" in (row.error or "")
    assert len(flow.sent(5001)) == 1
    assert PASSWORD.encode() not in shown(flow, caplog)


def test_a_post_script_whose_answer_cannot_be_opened_fails_in_words(make: Any) -> None:
    flow = make(
        **scripted(SCRIPT, post_script="def after(request, response, attributes): raise ValueError('no')")
    )
    outcome = flow.run()
    assert flow.row(5001).post == "failed"

    flow.raw["post_script"] = AFTER
    flow.erp_password = "another-password"
    outcome.clear(5001)

    row = flow.row(5001)
    assert (row.state, row.post) == ("done", "failed")
    assert "secrets, which have changed since" in (row.error or "")


def test_a_plan_that_holds_omnitron_s_token_reaches_the_erp_as_it_came(make_flow: MakeFlow) -> None:
    documents = plans(SEED, 1)
    documents[0] |= {"refund_amount": "1234567890.00", "note": NUMBER}
    documents[0]["order"]["number"] = f"A-{NUMBER}"
    omnitron = OmnitronSimulator(documents)
    issue = omnitron.tokens.issue

    def known() -> str:
        issue()
        omnitron.tokens._current = PASSWORD
        return PASSWORD

    omnitron.tokens.issue = known  # type: ignore[method-assign]
    flow = make_flow(omnitron=omnitron)

    flow.run()

    (call,) = flow.sent(5001)
    sent = json.loads(call.raw)
    assert (sent["note"], sent["order"]["number"]) == (NUMBER, f"A-{NUMBER}")
    assert flow.row(5001).order_number == f"A-{NUMBER}"
    assert flow.state(5001) == "done"
