"""One address, however it is spelt, has one name in the journal; another address has another."""

from __future__ import annotations

import pytest

from include.order_cancel.errors import SettingsError
from include.order_cancel.http import Endpoint, check_endpoint
from include.order_cancel.identity import address_problem, base_url, host_of, identity_of

SPELLINGS = {
    "omnitron.example": [
        "https://omnitron.example",
        "http://omnitron.example",
        "HTTPS://OMNITRON.Example",
        "https://omnitron.example/",
        "https://omnitron.example//",
        "https://omnitron.example:443",
        "https://omnitron.example:0443/",
        "http://omnitron.example:80",
        "https://omnitron.example.",
        "https://omnitron.example.:443/",
        "https://omnitron.example:",
        "https://somebody:secret@omnitron.example",
        "https://omnitron.example?x=1#y",
        " https://omnitron.example ",
        "omnitron.example",
        "omnitron.example:443",
        "omnitron.example:80",
        "//Omnitron.example.",
    ],
    "omnitron.example:8443": ["https://omnitron.example:8443/", "http://omnitron.example.:8443"],
    "omnitron.example:443": ["http://omnitron.example:443"],
    "omnitron.example:80": ["https://omnitron.example:80"],
    "omnitron.example/tenant-a": [
        "https://omnitron.example/tenant-a",
        "https://omnitron.example/tenant-a/",
        "https://omnitron.example:443//tenant-a//",
        "https://omnitron.example/x/../tenant-a",
        "https://omnitron.example/tenant%2Da",
        "omnitron.example/tenant-a/",
    ],
    "omnitron.example/tenant-b": ["https://omnitron.example/tenant-b"],
    "omnitron.example/Tenant-a": ["https://omnitron.example/Tenant-a"],
    "xn--mller-kva.example": [
        "https://müller.example",
        "https://MÜLLER.example.",
        "https://xn--mller-kva.example",
        "https://XN--MLLER-KVA.example",
        "https://mu\u0308ller.example",
        "müller.example:443",
    ],
    "[::1]:8080": ["http://[::1]:8080", "http://[0:0:0:0:0:0:0:1]:8080/", "http://[::0001]:8080"],
    "[2001:db8::a]": ["https://[2001:DB8::A]:443", "https://[2001:db8:0::a]/"],
    "127.0.0.1:8081": ["http://127.0.0.1:8081"],
}


@pytest.mark.parametrize(
    ("address", "identity"), [(one, name) for name, spellings in SPELLINGS.items() for one in spellings]
)
def test_every_spelling_has_one_name(address: str, identity: str) -> None:
    assert identity_of(address) == identity
    assert identity_of(identity_of(address)) in (identity, identity.removesuffix(":443").removesuffix(":80"))
    assert Endpoint("omnitron", address).identity == identity


def test_what_is_asked_at_one_host_shares_its_wish_to_rest() -> None:
    assert {host_of(f"https://omnitron.example:443/{path}") for path in ("tenant-a", "tenant-b")} == {
        "omnitron.example"
    }


@pytest.mark.parametrize(
    "address", ["", "https://", "https://omnitron.example:99999", "https://[::1", "no such"]
)
def test_an_address_that_is_none_has_some_name_and_is_refused_where_it_is_used(address: str) -> None:
    assert isinstance(identity_of(address), str)
    with pytest.raises(SettingsError):
        check_endpoint(Endpoint("omnitron", address))


def test_a_name_that_the_journal_cannot_keep_is_refused() -> None:
    with pytest.raises(SettingsError, match="longer than 255 characters"):
        check_endpoint(Endpoint("omnitron", f"https://omnitron.example/{'x' * 250}"))


@pytest.mark.parametrize(
    ("host", "schema", "port", "url"),
    [
        ("::1", None, 8080, "http://[::1]:8080"),
        ("2001:db8::1", "https", None, "https://[2001:db8::1]"),
        ("[2001:db8::1]:8080", "https", None, "https://[2001:db8::1]:8080"),
        ("https://erp.example/base", None, 8080, "https://erp.example:8080/base"),
        ("erp.example:80", "", 80, "http://erp.example:80"),
        (" erp.example ", "https", None, "https://erp.example"),
    ],
)
def test_the_fields_of_a_connection_are_one_url(
    host: str, schema: str | None, port: int | None, url: str
) -> None:
    assert base_url(host, schema, port) == url
    assert address_problem(url) is None


def test_two_ports_in_one_connection_are_refused() -> None:
    with pytest.raises(ValueError, match="names the port 8080, its port field 8081"):
        base_url("https://erp.example:8080", None, 8081)
