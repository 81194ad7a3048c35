"""Secrets that sing: unmistakable values in Connections and tokens, systems that repeat them, and the hunt for them."""

from __future__ import annotations

import base64
import html
import json
import shutil
import sqlite3
import subprocess
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import quote, quote_plus, urlsplit

import pytest
import sqlalchemy

from include.simulator import ErpSimulator, OmnitronSimulator
from include.simulator.wire import Answer, Request, answer

LOGIN = "omnitron"
CANARIES = {
    "Omnitron's password": 'canary-om/pass+"word',
    "Omnitron's token": "canary-omnitron-token-1",
    "the ERP's password": "canary-erp/pass+'word",
    "the ERP's token": "canary/erp+token==",
    "the ERP's extra": "canary-erp-extra&value",
    "the ERP's static header": "canary-erp-header=value",
}

TOKEN_LOGIN = {
    "url": "/token",
    "body": {"user": "{{ login }}", "password": "{{ password }}"},
    "headers": {"X-Extra": "{{ extra.key }}"},
}


class CanaryOmnitron(OmnitronSimulator):
    """An Omnitron whose token is known beforehand."""

    def __init__(self, *args: Any, **settings: Any) -> None:
        super().__init__(*args, password=CANARIES["Omnitron's password"], **settings)
        issue = self.tokens.issue

        def known() -> str:
            issue()
            self.tokens._current = CANARIES["Omnitron's token"]
            return CANARIES["Omnitron's token"]

        self.tokens.issue = known  # type: ignore[method-assign]


class CanaryErp(ErpSimulator):
    """An ERP that repeats what it was sent, headers and all, in every answer that `echo` gives a status for.

    `echo` is a status by the plan's number; None there: the usual answer with the request repeated in it.
    """

    def __init__(self, **settings: Any) -> None:
        super().__init__(user=LOGIN, password=CANARIES["the ERP's password"], **settings)
        self.echo: dict[int | str | None, int | None] = {}
        self.echo_login = False
        issue = self.tokens.issue

        def known() -> str:
            issue()
            self.tokens._current = CANARIES["the ERP's token"]
            return CANARIES["the ERP's token"]

        self.tokens.issue = known  # type: ignore[method-assign]

    def handle(self, call: Request) -> Answer:
        if self.echo_login and call.path == "/token":
            return answer(403, repeated(call))
        usual = super().handle(call)
        if call.pk not in self.echo:
            return usual
        status = self.echo[call.pk]
        if status is None:
            return answer(200, {**json.loads(usual.body), **repeated(call)})
        return answer(status, repeated(call))


def repeated(call: Request) -> dict[str, Any]:
    """The request as an answer that shows it in many ways."""
    headers = dict(call.headers)
    shown = [
        headers.get("Authorization", ""),
        call.raw.decode("utf-8", "replace"),
        headers.get("X-Api-Key", ""),
    ]
    return {
        "reference": headers.get("Authorization"),
        "headers": headers,
        "body": call.raw.decode("utf-8", "replace"),
        "in a URL": [f"https://sso.example/?next={quote(text, safe='')}" for text in shown],
        "as a form": [quote_plus(text) for text in shown],
        "as JSON in JSON": json.dumps(shown),
        "as HTML": [f"<b>{html.escape(text)}</b>" for text in shown],
        "proof": [base64.b64encode(text.rpartition(" ")[2].encode()).decode() for text in shown],
    }


def singing(content: bytes, canaries: Mapping[str, str] = CANARIES) -> list[str]:
    """Which canaries stand in these bytes, and in which spelling."""
    return [
        f"{name} ({spelling})"
        for name, secret in canaries.items()
        for spelling, forms in spellings(secret).items()
        if any(form in content for form in forms)
    ]


def spellings(secret: str) -> dict[str, list[bytes]]:
    """The bytes by which a secret is found: as it is, escaped, and in base64 wherever it begins in a group."""
    raw = secret.encode()
    in_json = json.dumps(secret)[1:-1]
    percent = quote(secret, safe="")
    return {
        "itself": [raw],
        "UTF-16": [secret.encode("utf-16-le")],
        "JSON": [in_json.encode(), json.dumps(in_json)[1:-1].encode(), in_json.replace("/", r"\/").encode()],
        "percent-encoded": [percent.encode(), quote(secret).encode(), percent.lower().encode()],
        "a form": [quote_plus(secret).encode()],
        "HTML": [html.escape(secret).encode()],
        "hex": [raw.hex().encode()],
        "base64": [part for shift in range(3) for part in _inside_base64(raw, shift)],
    }


def _inside_base64(raw: bytes, shift: int) -> Iterable[bytes]:
    """What is certain of the secret's base64 where `shift` other bytes stand before it in its first group."""
    for encode in (base64.b64encode, base64.urlsafe_b64encode):
        whole = encode(b"\0" * shift + raw)
        yield whole[4 if shift else 0 : len(whole) // 4 * 4 - 4]


def journal_bytes(file: Path) -> bytes:
    """All that an SQLite journal leaves on the disk: the file, what its log still holds, and its rows as text."""
    on_disk = b"".join(part.read_bytes() for part in sorted(file.parent.glob(f"{file.name}*")))
    connection = sqlite3.connect(file)
    try:
        return on_disk + "\n".join(connection.iterdump()).encode()
    finally:
        connection.close()


def dump(url: str) -> bytes:
    """The journal's bytes: an SQLite file and its log, or a dump of the PostgreSQL database."""
    if url.startswith("sqlite"):
        return journal_bytes(Path(urlsplit(url).path))
    parsed = sqlalchemy.make_url(url)
    address = f"postgresql://{parsed.username}@{parsed.host}:{parsed.port or 5432}/{parsed.database}"
    command = shutil.which("pg_dump") or pytest.skip("pg_dump is not installed")
    return subprocess.run([command, "--inserts", address], check=True, capture_output=True).stdout
