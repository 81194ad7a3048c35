"""Nobody gets in by a route that was forgotten, by another site, or with more than there is room for."""

from __future__ import annotations

import pytest
from fastapi import APIRouter, FastAPI

from include.order_cancel_page.app import build
from include.order_cancel_page.door import Right
from include.order_cancel_page.limits import MOST_BYTES
from include.order_cancel_page.rights import GuardedRoute, need_of, needs, router
from tests.page.conftest import FLOW, FakeDoor, Site, serving


def all_routes(app: FastAPI) -> list[GuardedRoute]:
    return [route for route in app.routes if isinstance(route, GuardedRoute)]


def filled(path: str) -> str:
    values = {"flow": FLOW, "name": "page.css", "row_id": "1", "digest": "0" * 64}
    return path.lstrip("/").format_map({**dict.fromkeys(_names(path), "1"), **values})


def _names(path: str) -> list[str]:
    return [part.partition("}")[0].partition(":")[0] for part in path.split("{")[1:]]


def test_every_route_states_a_right(site: Site) -> None:
    unguarded = [route for route in site.app.routes if not isinstance(route, GuardedRoute)]

    assert site.app.routes
    assert unguarded == []
    assert all(need_of(route.endpoint) for route in all_routes(site.app))


def test_no_route_answers_an_anonymous_request(site: Site) -> None:
    answers = {
        (method, route.path): site.ask(
            method, filled(route.path), None, json={}, headers={"Sec-Fetch-Site": "same-origin"}
        ).status_code
        for route in all_routes(site.app)
        for method in route.methods
    }

    assert set(answers.values()) == {401}, answers


def test_no_route_lets_somebody_act_who_may_only_read(site: Site) -> None:
    answers = {}
    for route in all_routes(site.app):
        need = need_of(route.endpoint)
        if need is not None and need.right in (Right.ACT, Right.CONFIGURE):
            for method in route.methods:
                headers = {"Sec-Fetch-Site": "same-origin"}
                answer = site.ask(method, filled(route.path), "viewer", json={}, headers=headers)
                answers[method, route.path] = answer.status_code

    assert set(answers.values()) <= {403}, answers


def test_what_changes_something_needs_more_than_a_look(site: Site) -> None:
    lax = [
        route.path
        for route in all_routes(site.app)
        if route.methods - {"GET", "HEAD"}
        and (need := need_of(route.endpoint)) is not None
        and need.right in (Right.SIGNED_IN, Right.READ)
    ]

    assert lax == []


def test_a_route_without_a_right_cannot_be_made() -> None:
    with pytest.raises(TypeError, match="states no right"):
        router().get("/open")(lambda: "hello")


def test_a_right_for_a_flow_needs_a_flow_in_the_path() -> None:
    @needs(Right.READ)
    def forgotten() -> str:
        return "hello"

    with pytest.raises(TypeError, match="names no"):
        router().get("/plans/{row_id}")(forgotten)


def test_a_plain_route_that_slips_in_is_refused() -> None:
    plain = APIRouter()
    plain.get("/open")(lambda: "hello")
    app = build(FakeDoor())
    app.include_router(plain)
    with serving(app) as url:
        answer = Site(f"{url}/", FakeDoor(), app).get("open")

    assert answer.status_code == 403
    assert "states no right" in answer.text


@pytest.fixture
def acting(site: Site) -> Site:
    """The page with a route that changes something."""
    routes = router()

    @routes.post("/flows/{flow}/change")
    @needs(Right.ACT)
    def change(flow: str, body: dict[str, str]) -> dict[str, str]:
        return {"flow": flow}

    site.app.include_router(routes)
    return site


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"Sec-Fetch-Site": "same-origin"}, 200),
        ({"Sec-Fetch-Site": "same-site"}, 403),
        ({"Sec-Fetch-Site": "cross-site"}, 403),
        ({"Sec-Fetch-Site": "none"}, 403),
        ({"Origin": "http://airflow.example"}, 200),
        ({"Origin": "http://evil.example"}, 403),
        ({"Origin": "null"}, 403),
        ({}, 403),
        ({"Sec-Fetch-Site": "same-origin", "Content-Type": "text/plain"}, 415),
    ],
)
def test_only_the_page_itself_changes_things(acting: Site, headers: dict[str, str], status: int) -> None:
    answer = acting.ask("POST", f"flows/{FLOW}/change", "editor", json={}, headers=headers)

    assert answer.status_code == status, answer.text


def test_the_pages_own_host_is_no_other_site(acting: Site) -> None:
    origin = acting.url.split("/base")[0]
    answer = acting.ask("POST", f"flows/{FLOW}/change", "editor", json={}, headers={"Origin": origin})

    assert answer.status_code == 200


def test_a_body_has_a_bound_told_or_not(acting: Site) -> None:
    large = b'{"a": "' + b"x" * MOST_BYTES + b'"}'
    headers = {"Sec-Fetch-Site": "same-origin", "Content-Type": "application/json"}
    path = f"flows/{FLOW}/change"

    told = acting.ask("POST", path, "editor", data=large, headers=headers)
    streamed = acting.ask("POST", path, "editor", data=iter([large[:10], large[10:]]), headers=headers)

    assert (told.status_code, streamed.status_code) == (413, 413)


def test_answers_forbid_scripts_and_frames_of_others(site: Site) -> None:
    policy = site.get("flows").headers["content-security-policy"]

    assert "default-src 'none'" in policy
    assert "script-src 'self'" in policy
    assert "frame-ancestors 'self'" in policy
    assert "unsafe" not in policy


def test_a_refused_request_carries_the_headers_too(site: Site) -> None:
    assert "content-security-policy" in site.get("flows", None).headers
