"""What looks like a secret is not shown, whoever stored it."""

from __future__ import annotations

from typing import Any
from urllib.parse import urlsplit, urlunsplit

from include.order_cancel.secrecy import HIDDEN, looks_secret


def without_secrets(value: Any) -> Any:
    """A JSON value with whatever stands under a secret-looking name hidden."""
    if isinstance(value, dict):
        return {
            name: HIDDEN if looks_secret(str(name)) and item not in (None, "") else without_secrets(item)
            for name, item in value.items()
        }
    return [without_secrets(item) for item in value] if isinstance(value, list) else value


def url_without_secrets(url: str) -> str:
    """A URL with credentials, and secret-looking parameters of its query, hidden."""
    try:
        parts = urlsplit(url)
    except ValueError:
        return HIDDEN
    pairs = [pair.partition("=") for pair in parts.query.split("&")]
    query = "&".join(
        f"{name}{sign}{HIDDEN if value and looks_secret(name) else value}" for name, sign, value in pairs
    )
    credentials, sign, host = parts.netloc.rpartition("@")
    return urlunsplit(parts._replace(netloc=f"{HIDDEN}@{host}" if credentials or sign else host, query=query))
