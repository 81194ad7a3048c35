"""What an address means: whether it can be asked, and what its system is called in the journal."""

from __future__ import annotations

import functools
import ipaddress
import re

from yarl import URL

_DEFAULT_PORTS = {"http": (80,), "https": (443,)}
_EITHER = (80, 443)  # an address that names no scheme may mean either
_LABEL = re.compile(r"[a-z0-9_-]{1,63}")
_LONGEST_NAME = 253  # RFC 1035
_NUMBER = re.compile(
    r"[0-9]+|0x[0-9a-f]*"
)  # as a name's last label: some read an IPv4 address in it, some do not


def base_url(host: str | None, schema: str | None, port: int | None) -> str:
    """The fields of an HTTP Connection as one URL, as Airflow's HTTP provider reads them.

    Beyond that, an IPv6 address needs no brackets, and a port field may stand beside a host with a base path.
    Raises ValueError, with words for the operator, where host and port field name different ports.
    """
    scheme, mark, rest = (host or "").strip().partition("://")
    if not mark:
        scheme, rest = schema or "http", scheme
    name, slash, path = rest.partition("/")
    name = f"[{name}]" if ":" in name and _is_ip(name) else name
    try:
        own = URL(f"{scheme}://{name}").explicit_port
    except ValueError:
        return f"{scheme}://{rest}"  # no address: see `address_problem`
    if own is not None and port and own != port:
        raise ValueError(f"its host names the port {own}, its port field {port}; leave one of them out")
    if own is None and port:
        name = f"{name.removesuffix(':')}:{port}"
    return f"{scheme}://{name}{slash}{path}"


def address_problem(address: str) -> str | None:
    """Why no request can be made to a URL, as words that follow "its host"; None where one can be."""
    try:
        url = URL(address)
        host, port = url.raw_host or "", url.port
    except ValueError:
        return "is not an http:// or https:// address"
    if url.scheme not in ("http", "https") or not host:
        return "is not an http:// or https:// address"
    if port == 0:
        return "has the port 0; ports are 1 to 65535"
    return _host_problem(host, bracketed="[" in address.partition("://")[2].partition("/")[0])


def _host_problem(host: str, *, bracketed: bool) -> str | None:
    if "%" in host:
        return "holds a '%': neither network interfaces nor encoded letters are known there"
    if bracketed or _NUMBER.fullmatch(host.rstrip(".").rpartition(".")[2]):
        return None if _is_ip(host) else "is no IP address"
    name = host.removesuffix(".")
    if len(name) > _LONGEST_NAME or not all(_LABEL.fullmatch(label) for label in name.split(".")):
        return "is no name of a host: letters, digits, '-' and '_', at most 63 between two dots"
    return None


def _is_ip(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


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
