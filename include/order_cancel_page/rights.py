"""Who may use a route: each route says so with `needs`, and one that says nothing is refused.

Airflow mounts plugin apps without authentication, so the door is locked here, twice: a router refuses a route
without `needs` when it is made, and the app's dependencies refuse it when it is asked.

    @router.get("/flows/{flow}/plans/{row_id}")
    @needs(Right.READ)
    def plan(request: Request, flow: str, row_id: int) -> Response: ...
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Any, TypeVar
from urllib.parse import urlsplit

from fastapi import APIRouter, Depends, HTTPException, Request
from fastapi.routing import APIRoute

from include.order_cancel.settings import DAG_PREFIX
from include.order_cancel_page.door import Door, NotSignedIn, Person, Right

Endpoint = TypeVar("Endpoint", bound=Callable[..., Any])
_MARK = "order_cancel_needs"
_SAFE = ("GET", "HEAD")


@dataclass(frozen=True)
class Need:
    """The right that a route asks for, and how the request names the flow."""

    right: Right
    flow: Callable[[Request], str | None]


def flow_in_path(request: Request) -> str | None:
    """The flow that stands as `{flow}` in the route's path."""
    return request.path_params.get("flow")


def flow_of_dag(request: Request) -> str | None:
    """The flow whose DAG stands as `dag_id` in the query; None for a DAG of somebody else's."""
    dag = request.query_params.get("dag_id", "")
    return dag.removeprefix(DAG_PREFIX) if dag.startswith(DAG_PREFIX) else None


def needs(
    right: Right, flow: Callable[[Request], str | None] = flow_in_path
) -> Callable[[Endpoint], Endpoint]:
    """State the right that a route asks for. SIGNED_IN: the route itself shows only what the person may see."""

    def mark(endpoint: Endpoint) -> Endpoint:
        setattr(endpoint, _MARK, Need(right, flow))
        return endpoint

    return mark


def need_of(endpoint: Any) -> Need | None:
    """What `needs` said of a route's function, or None."""
    return getattr(endpoint, _MARK, None)


class GuardedRoute(APIRoute):
    """A route that cannot be made without a right."""

    def __init__(self, path: str, endpoint: Callable[..., Any], **options: Any) -> None:
        need = need_of(endpoint)
        if need is None:
            raise TypeError(f"route {path} states no right: add @needs(...)")
        if need.right is not Right.SIGNED_IN and need.flow is flow_in_path and "{flow}" not in path:
            raise TypeError(f"route {path} needs a right for a flow, but its path names no {{flow}}")
        super().__init__(path, endpoint, **options)


def router() -> APIRouter:
    """A router for one module's routes, all of them guarded."""
    return APIRouter(route_class=GuardedRoute)


def door_of(request: Request) -> Door:
    """The app's door to Airflow."""
    door: Door = request.app.state.door
    return door


async def _signed_in(request: Request) -> Person:
    try:
        person = await door_of(request).person(request)
    except NotSignedIn:
        raise HTTPException(401, "sign in to Airflow first") from None
    request.state.person = person
    return person


def _permitted(request: Request, person: Annotated[Person, Depends(_signed_in)]) -> None:
    need = need_of(getattr(request.scope.get("route"), "endpoint", None))
    if need is None:
        raise HTTPException(403, "this route states no right, so nobody may use it")
    if need.right is not Right.SIGNED_IN:
        flow = need.flow(request)
        if flow is not None and not person.may(need.right, flow):
            raise HTTPException(403, f"you may not {need.right}")
        if flow is None and need.flow is flow_in_path:
            raise HTTPException(403, "the request names no flow")
    if request.method not in _SAFE:
        _check_origin(request)


def _check_origin(request: Request) -> None:
    """Against requests that another site makes a signed-in browser send. Raises HTTPException."""
    if request.headers.get("content-type", "").partition(";")[0].strip().lower() != "application/json":
        raise HTTPException(415, "send JSON")
    site, origin = request.headers.get("sec-fetch-site"), request.headers.get("origin")
    if site is not None and site != "same-origin":
        raise HTTPException(403, "this request comes from another site")
    if site is None:
        known = {request.headers.get("host"), *door_of(request).origins()}
        if origin is None or urlsplit(origin).netloc not in known:
            raise HTTPException(403, "this request does not say that it comes from this page")


GUARDS = [Depends(_permitted)]


def person_of(request: Request) -> Person:
    """Who asks, as the guard found out."""
    person: Person = request.state.person
    return person


def allowed_flows(request: Request, right: Right = Right.READ) -> list[str]:
    """All flows for which the person holds the right."""
    return person_of(request).allowed(right, door_of(request).flows())
