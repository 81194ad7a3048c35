"""What a system repeats of its request's credentials comes neither into the journal nor into a log or an error."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from include.order_cancel.http import Endpoint
from include.order_cancel.tokens import LoginFailed
from include.simulator import plans
from tests.canaries import CANARIES, LOGIN, TOKEN_LOGIN, CanaryErp, CanaryOmnitron, dump, singing
from tests.harness import Flow, settings

SHOWS_ALL = """
def respond(request, response, attributes):
    attributes["log.seen"] = str(response)
    log.warn(str(response) + str(attributes))
    if attributes["invokehttp.status.code"] == "200":
        return "continue", str(response)
    raise RuntimeError(str(attributes))
"""
ECHOES = {5001: None, 5002: 422, 5003: 500, 5004: 503, 5005: 401, 5006: 404, 5007: 200}


class CanaryFlow(Flow):
    """A flow whose Connections hold canaries in every field."""

    def endpoint(self, conn_id: str) -> Endpoint:
        if conn_id == "omnitron":
            return Endpoint("omnitron", self.omnitron.url, LOGIN, CANARIES["Omnitron's password"])
        return Endpoint(
            "erp",
            self.erp.url,
            LOGIN,
            CANARIES["the ERP's password"],
            headers={"X-Api-Key": CANARIES["the ERP's static header"]},
            extra={"key": CANARIES["the ERP's extra"], "more": {"deep": [CANARIES["the ERP's extra"]]}},
        )


def canary_flow(serve: Callable[[Any], Any], url: str, auth: str, **changes: Any) -> CanaryFlow:
    given = settings(mapping=None, erp__reference_path="reference", **changes)
    if auth == "token":
        given["erp"]["login"] = TOKEN_LOGIN
    omnitron = CanaryOmnitron(plans(20250301, len(ECHOES)))
    return CanaryFlow(serve(omnitron), serve(CanaryErp(auth=auth)), url, given)


@pytest.mark.parametrize("auth", ["basic", "token"])
@pytest.mark.parametrize("script", [None, SHOWS_ALL], ids=["default rules", "a script that shows all"])
def test_an_erp_that_repeats_its_credentials_leaks_none(
    serve: Callable[[Any], Any],
    journal_url: str,
    auth: str,
    script: str | None,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    changes: dict[str, Any] = {"erp__custom_response": True, "erp__custom_response_script": script}
    flow = canary_flow(serve, journal_url, auth, **(changes if script else {}))
    flow.erp.simulator.echo.update(ECHOES)
    caplog.set_level("DEBUG")

    outcome = flow.run()
    flow.close()

    shown = "\n".join(record.getMessage() for record in caplog.records)
    assert "***" in shown
    assert singing(shown.encode()) == []
    assert singing(repr((outcome.report, outcome.gate, outcome.endings)).encode()) == []
    content = dump(journal_url)
    assert b"5001" in content
    assert b"***" in content
    assert singing(content) == []
    assert flow.state(5001) == "done"
    flow.close()


def test_the_request_that_repeats_its_credentials_had_them(
    serve: Callable[[Any], Any], sqlite_url: str
) -> None:
    flow = canary_flow(serve, sqlite_url, "token")

    flow.run()
    flow.close()

    (call,) = flow.sent(5001)
    assert call.headers["Authorization"] == "Bearer " + CANARIES["the ERP's token"]
    assert call.headers["X-Api-Key"] == CANARIES["the ERP's static header"]
    (login,) = flow.erp.simulator.calls(path="/token")
    assert login.headers["X-Extra"] == CANARIES["the ERP's extra"]
    assert "the ERP's password (itself)" in singing(login.raw)


def test_a_login_that_repeats_its_credentials_leaks_none(
    serve: Callable[[Any], Any], sqlite_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    flow = canary_flow(serve, sqlite_url, "token")
    flow.erp.simulator.echo_login = True
    caplog.set_level("DEBUG")

    with pytest.raises(LoginFailed) as caught:
        flow.run()
    flow.close()

    assert "was refused: 403" in str(caught.value)
    assert singing(str(caught.value).encode() + caplog.text.encode() + dump(sqlite_url)) == []


@pytest.mark.parametrize("address", ["/token/{{ extra.key }}", "/token?key={{ extra.key }}"])
def test_a_secret_in_the_address_of_a_login_that_fails_is_not_shown(
    serve: Callable[[Any], Any], sqlite_url: str, caplog: pytest.LogCaptureFixture, address: str
) -> None:
    flow = canary_flow(serve, sqlite_url, "none")
    flow.raw["erp"]["login"] = {"url": address}
    flow.erp.simulator.fail("drop", path="/token")
    caplog.set_level("DEBUG")

    with pytest.raises(LoginFailed) as caught:
        flow.run()
    flow.close()

    assert "/token" in str(caught.value)
    assert singing(str(caught.value).encode() + caplog.text.encode() + dump(sqlite_url)) == []
