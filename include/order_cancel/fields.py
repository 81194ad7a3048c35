"""The kinds of text that a setting can hold, each with its check.

A check returns the text or raises ValueError with words that follow the field's path: "is empty".
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Annotated
from urllib.parse import quote

from pydantic import AfterValidator
from yarl import URL

from include.order_cancel import paths, templates
from include.order_cancel.identity import address_problem
from include.order_cancel.text import UNPRINTABLE, printable

_BLANK = re.compile(r"\s")
_HEADER_NAME = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")  # a token, RFC 9110, section 5.6.2
_CONNECTION = re.compile(r"[\w#!()\-.:/\\]+", re.ASCII)  # what Airflow lets a Connection be called
_QUERY_NAME = re.compile(r"[A-Za-z0-9_.\-\[\]]+")
_CLASS_PATH = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)+", re.ASCII)
_TEMPLATED_HOST = re.compile(r"[^/?#]*://[^/?#]*\{\{")
_FRAMING_HEADERS = {"host", "content-length", "transfer-encoding", "connection", "upgrade", "te", "trailer"}
_MAX_NAME = 200
_MAX_URL = 2000
_MAX_SHOWN = 60


def shown(text: str) -> str:
    """A user's text as a message shows it: on one line, and not too long."""
    return printable(text[:_MAX_SHOWN], _MAX_SHOWN) + ("..." if len(text) > _MAX_SHOWN else "")


def no_control_characters(text: str) -> str:
    if UNPRINTABLE.search(text):
        raise ValueError("holds a line break or another control character; remove it")
    return text


def name(text: str) -> str:
    if not text.strip():
        raise ValueError("is empty; give a value")
    if text != text.strip():
        raise ValueError("begins or ends with a blank; remove it")
    if len(text) > _MAX_NAME:
        raise ValueError(f"is longer than {_MAX_NAME} characters; shorten it")
    return no_control_characters(text)


def connection_id(text: str) -> str:
    if not _CONNECTION.fullmatch(name(text)):
        raise ValueError(
            f"'{shown(text)}' cannot be the name of a Connection; use letters, digits, '_', '-' and '.'"
        )
    return text


def dotted_path(text: str) -> str:
    """A path into a JSON document."""
    unknown = "wildcards, filters, quotes, negative numbers and headers are not known here"
    return _path(name(text), f"{paths.FORMS}; {unknown}")


def answer_path(text: str) -> str:
    """A path into an HTTP answer: its JSON, or a header."""
    if paths.header_name(name(text)) is not None:
        return text
    unknown = "wildcards, filters, quotes and negative numbers are not known"
    return _path(text, f"{paths.FORMS}, or {paths.HEADER}Name; {unknown}")


def _path(text: str, forms: str) -> str:
    try:
        paths.steps(text)
    except ValueError:
        raise ValueError(f"'{shown(text)}' cannot be read as a path; write {forms}") from None
    return text


def class_path(text: str) -> str:
    if not _CLASS_PATH.fullmatch(name(text)):
        raise ValueError(f"'{shown(text)}' is not a class with its module; write package.module.Class")
    return text


def query_name(text: str) -> str:
    if not _QUERY_NAME.fullmatch(name(text)):
        raise ValueError(f"'{shown(text)}' is not the name of a query parameter; use letters, digits and '_'")
    return text


def header_name(text: str) -> str:
    if not _HEADER_NAME.fullmatch(name(text)):
        raise ValueError(f"'{shown(text)}' is not a header name; use letters, digits and '-'")
    if text.lower() in _FRAMING_HEADERS:
        raise ValueError(f"'{shown(text)}' is set by the HTTP client itself; choose another header")
    return text


def header_value(text: str) -> str:
    no_control_characters(text)
    if not text.isascii():
        raise ValueError("holds a character outside ASCII, which a header cannot carry; remove it")
    return text


def _none_known(_: str) -> bool:
    return False


def url(text: str, known: Callable[[str], bool] = _none_known, names: str = "") -> str:
    """An absolute http(s) URL or a path on the Connection's host; placeholders only behind the host.

    The address itself is not repeated in a message: it may hold a password.
    """
    check_templates(text, known, names)
    if _TEMPLATED_HOST.match(text):
        raise ValueError("holds a template in the host's place; the host must stand there in full")
    bare = templates.render(text, lambda _: "template")
    if not bare.strip():
        raise ValueError("is empty; give a URL, or a path that begins with '/'")
    if len(text) > _MAX_URL:
        raise ValueError(f"is longer than {_MAX_URL} characters; shorten it")
    if _BLANK.search(bare) or UNPRINTABLE.search(bare) or "\\" in bare:
        raise ValueError("holds a blank, a line break or a backslash; percent-encode it or remove it")
    if "#" in bare:
        raise ValueError("holds a fragment ('#...'), which is never sent; remove it")
    if bare.startswith("//"):
        raise ValueError("begins with '//', which names another host; begin with one '/' or with https://")
    if not bare.startswith("/"):
        _check_absolute(bare)
    return text


def check_templates(text: str, known: Callable[[str], bool], names: str) -> str:
    if templates.unclosed(text):
        raise ValueError("holds '{{' or '}}' without its partner; write {{ name }}")
    for placeholder in templates.placeholders(text):
        if not names:
            raise ValueError(
                f"holds the template {{{{ {shown(placeholder)} }}}}, but takes none; write the value"
            )
        if not known(placeholder):
            raise ValueError(f"holds the unknown template {{{{ {shown(placeholder)} }}}}; known are {names}")
    return text


def _check_absolute(text: str) -> None:
    try:
        url = URL(text)
    except ValueError:
        raise ValueError("is not a URL; check the host and the port") from None
    if url.scheme not in ("http", "https"):
        raise ValueError("must be a URL with http:// or https://, or a path that begins with '/'")
    if not url.raw_host:
        raise ValueError("names no host; write https://host/path, or a path that begins with '/'")
    if "@" in url.raw_authority:
        raise ValueError("holds a login or password; keep those in the Connection")
    if problem := address_problem(text):
        raise ValueError(f"names a host that {problem}")


def path_segment(value: object) -> str:
    """`value` percent-encoded as one segment of a path.

    Raises ValueError for what would change the path itself: nothing, "." and "..".
    """
    text = str(value)
    if text in ("", ".", ".."):
        raise ValueError(f"'{shown(text)}' cannot stand in a path")
    return quote(text, safe="")


Name = Annotated[str, AfterValidator(name)]
ConnectionId = Annotated[str, AfterValidator(connection_id)]
DottedPath = Annotated[str, AfterValidator(dotted_path)]
AnswerPath = Annotated[str, AfterValidator(answer_path)]
ClassPath = Annotated[str, AfterValidator(class_path)]
QueryName = Annotated[str, AfterValidator(query_name)]
HeaderName = Annotated[str, AfterValidator(header_name)]
HeaderValue = Annotated[str, AfterValidator(header_value)]
Url = Annotated[str, AfterValidator(url)]
