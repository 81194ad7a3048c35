"""The page's web app, put together: routes, guards, limits, and how a failure is told."""

from __future__ import annotations

from fastapi import FastAPI, Request, Response
from starlette.exceptions import HTTPException as StarletteHTTPException
from starlette.responses import JSONResponse, PlainTextResponse

from include.order_cancel.errors import JournalDown, OrderCancelError, RowBusy, SettingsError
from include.order_cancel_page import bench, deciding, flows, overview, plan, plans, settings, shell
from include.order_cancel_page.door import Door, NoJournal
from include.order_cancel_page.limits import Limits
from include.order_cancel_page.rights import GUARDS, GuardedRoute
from include.order_cancel_page.trials import Trials

# A module with routes is named here; its routes state their rights with `rights.needs`.
ROUTERS = (
    shell.routes,
    overview.routes,
    flows.routes,
    plans.routes,
    plan.routes,
    deciding.routes,
    settings.routes,
    bench.routes,
)
_STATUS: dict[type[OrderCancelError], int] = {
    NoJournal: 404,
    JournalDown: 503,
    RowBusy: 409,
    SettingsError: 422,
}


def build(door: Door) -> FastAPI:
    """The app behind `door`. No documentation pages: they would be routes that nobody guards."""
    app = FastAPI(
        title="Order cancel flows", docs_url=None, redoc_url=None, openapi_url=None, dependencies=GUARDS
    )
    app.router.route_class = GuardedRoute
    app.state.door = door
    app.state.trials = Trials()
    app.add_middleware(Limits)
    app.add_exception_handler(StarletteHTTPException, _http_error)
    app.add_exception_handler(OrderCancelError, _own_error)
    for routes in ROUTERS:
        app.include_router(routes)
    return app


async def _http_error(request: Request, error: Exception) -> Response:
    if not isinstance(error, StarletteHTTPException):
        raise error
    return _failure(request, error.status_code, str(error.detail))


async def _own_error(request: Request, error: Exception) -> Response:
    status = next((code for kind, code in _STATUS.items() if isinstance(error, kind)), 409)
    return _failure(request, status, str(error))


def _failure(request: Request, status: int, message: str) -> Response:
    """A page for people who look, JSON for the page's own modules."""
    if request.method not in ("GET", "HEAD") or "text/html" not in request.headers.get("accept", ""):
        return JSONResponse({"error": message}, status_code=status)
    if not hasattr(request.state, "person"):
        return PlainTextResponse(message, status_code=status)
    return shell.page(
        request, "failure.html", status=status, message=message, title=_TITLES.get(status, "Failed")
    )


_TITLES = {
    403: "Not allowed",
    404: "Not found",
    409: "Not possible now",
    422: "Settings",
    503: "Out of reach",
}
