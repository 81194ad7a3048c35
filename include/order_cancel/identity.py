"""What an Omnitron is called in the journal: its address without what may be spelt in several ways."""

from __future__ import annotations

import functools
import re

from yarl import URL

_DEFAULT_PORTS = {"http": (80,), "https": (443,)}
_EITHER = (80, 443)  # an address that names no scheme may mean either


@functools.lru_cache(maxsize=256)
def identity_of(address: str) -> str:
    """`host`, `host:port` or `host:port/base/path`: the same text for every spelling of one address.

    The host in lower case and ASCII, no login, no default port, no dot behind the host, no slash at the end or
    twice in the path. `address` is a URL, or one without its scheme.
    """
    scheme, mark, rest = address.strip().partition("://")
    if not mark:
        scheme, rest = "", scheme.removeprefix("//")
    try:
        url = URL(f"{scheme or 'https'}://{rest}")
        host, port = (url.raw_host or "").rstrip("."), url.explicit_port
    except ValueError:
        return rest.lower()
    if ":" in host:
        host = f"[{host}]"
    if port is not None and port not in _DEFAULT_PORTS.get(scheme.lower(), _EITHER):
        host = f"{host}:{port}"
    return host + re.sub("/{2,}", "/", url.raw_path).rstrip("/")


def host_of(address: str) -> str:
    """The identity without its base path: whom a connection is made to."""
    return identity_of(address).partition("/")[0]
