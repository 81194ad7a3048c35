"""Links that work below any base path, and assets that the browser may keep."""

from __future__ import annotations

import re
from pathlib import Path
from urllib.parse import urljoin

import include.order_cancel_page
from tests.page.conftest import Site

PAGE = Path(include.order_cancel_page.__file__).parent


def links(html: str) -> list[str]:
    return re.findall(r'(?:href|src)="([^"]*)"', html)


def test_every_link_is_relative_and_leads_below_the_base(site: Site) -> None:
    answer = site.get("flows")

    assert all(not link.startswith(("/", "http")) for link in links(answer.text))
    assert all(
        urljoin(answer.url, link).startswith(site.url[: -len("order-cancel/")]) for link in links(answer.text)
    )


def test_assets_come_with_their_type_and_are_not_sent_twice(site: Site) -> None:
    first = site.get("assets/page.js")
    again = site.get("assets/page.js", headers={"If-None-Match": first.headers["etag"]})

    assert first.headers["content-type"].startswith("text/javascript")
    assert (again.status_code, again.content) == (304, b"")


def test_no_template_asks_for_what_the_policy_forbids() -> None:
    forbidden = re.compile(
        r"<style|\sstyle=|\son[a-z]+=|javascript:|<script(?![^>]*\ssrc=)|\|\s*safe|https?://"
    )

    for template in sorted((PAGE / "templates").glob("*.html")):
        assert not forbidden.search(template.read_text("utf-8")), template.name


def test_no_module_writes_html() -> None:
    for module in sorted((PAGE / "assets").glob("*.js")):
        assert not re.search(
            r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|eval\(", module.read_text()
        ), module.name


def test_a_failure_is_told_in_words(site: Site) -> None:
    missing = site.get("nowhere")

    assert missing.status_code == 404
