"""How the page is drawn: templates with autoescape, relative links, assets from memory.

Nothing here is absolute: Airflow may be mounted below any base path.
"""

from __future__ import annotations

import hashlib
import json
import mimetypes
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode

from fastapi import HTTPException, Request, Response
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from starlette.responses import HTMLResponse

from include.order_cancel import exact_json
from include.order_cancel.settings import DAG_PREFIX
from include.order_cancel_page.door import Right
from include.order_cancel_page.rights import needs, person_of, router

_HERE = Path(__file__).parent
routes = router()

mimetypes.add_type("text/javascript", ".js")


@dataclass(frozen=True)
class Entry:
    """One entry of the page's own navigation: a title, and the path it leads to from the page's root."""

    title: str
    path: str


NAVIGATION = (Entry("Overview", ""), Entry("Flows", "flows"), Entry("Plans", "plans"))


@dataclass(frozen=True)
class Asset:
    """A file for the browser."""

    content: bytes
    media_type: str
    tag: str


def _assets() -> dict[str, Asset]:
    found = {}
    for path in sorted((_HERE / "assets").iterdir()):
        content = path.read_bytes()
        media_type = mimetypes.guess_type(path.name)[0] or "application/octet-stream"
        found[path.name] = Asset(content, media_type, f'"{hashlib.sha256(content).hexdigest()[:20]}"')
    return found


ASSETS = _assets()


@routes.get("/assets/{name}")
@needs(Right.SIGNED_IN)
def asset(request: Request, name: str) -> Response:
    """A style sheet or a module."""
    found = ASSETS.get(name)
    if found is None:
        raise HTTPException(404, "there is no such file")
    headers = {"ETag": found.tag, "Cache-Control": "private, no-cache"}
    if request.headers.get("if-none-match") == found.tag:
        return Response(status_code=304, headers=headers)
    return Response(found.content, media_type=found.media_type, headers=headers)


def page(request: Request, template: str, *, status: int = 200, **values: Any) -> Response:
    """A whole HTML page from a template."""
    person = person_of(request)
    text = TEMPLATES.get_template(template).render(
        **values,
        root=root(request),
        here=inner_path(request),
        navigation=NAVIGATION,
        person=person,
    )
    return HTMLResponse(text, status_code=status)


def answer(value: Any) -> Response:
    """JSON for the page's modules, whatever characters stand in it: half of one, too."""
    return Response(json.dumps(value), media_type="application/json")


def inner_path(request: Request) -> str:
    """The request's path below the page's root, without a slash in front."""
    base = request.scope.get("root_path", "")
    return request.url.path.removeprefix(base).lstrip("/")


def root(request: Request) -> str:
    """The relative address of the page's root, with a slash behind."""
    return "../" * inner_path(request).count("/") or "./"


def utc(seconds: float | None) -> str:
    """A time for people, in UTC, to the second."""
    return "" if not seconds else datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M:%S")


def iso(seconds: float) -> str:
    """A time for `datetime` attributes."""
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds")


def age(seconds: float) -> str:
    """A span in its largest unit: `3 d`, `5 h`, `12 min`, `40 s`."""
    for size, unit in ((86400, "d"), (3600, "h"), (60, "min")):
        if seconds >= size:
            return f"{seconds / size:.0f} {unit}"
    return f"{max(0.0, seconds):.0f} s"


def took(milliseconds: float | None) -> str:
    """A duration: `320 ms`, `2.1 s`."""
    if milliseconds is None:
        return ""
    return f"{milliseconds:.0f} ms" if milliseconds < 1000 else f"{milliseconds / 1000:.1f} s"


def pretty(value: Any) -> str:
    """JSON with indents, or a text as it is."""
    return value if isinstance(value, str) else pretty_json(value)


def pretty_json(value: Any) -> str:
    """JSON with indents."""
    return exact_json.dumps(value, indent=2, ensure_ascii=False)


def dag_id(flow: str) -> str:
    """The name of a flow's DAG."""
    return DAG_PREFIX + flow


def _environment() -> Environment:
    environment = Environment(
        loader=FileSystemLoader(_HERE / "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(utc=utc, iso=iso, age=age, took=took, pretty=pretty, dag_id=dag_id)
    environment.filters.update(path=lambda text: quote(str(text), safe=""), query=urlencode)
    environment.globals["Right"] = Right
    return environment


TEMPLATES = _environment()
