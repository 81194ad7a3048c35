"""The ERP in its own words: build a request, send it once, read its answer, look up what became of it."""

from __future__ import annotations

import base64
import time
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace
from functools import partial
from typing import Any, Literal
from urllib.parse import quote, urlencode

from yarl import URL

from include.order_cancel import exact_json
from include.order_cancel.errors import PlanFailed
from include.order_cancel.http import (
    Answer,
    BadAnswer,
    Before,
    Caller,
    Endpoint,
    NotSent,
    OutcomeUnknown,
    Request,
    origin,
)
from include.order_cancel.identity import host_of
from include.order_cancel.omnitron import JSON_BODY, json_bytes, token_in
from include.order_cancel.paths import at_path, header_name, in_answer
from include.order_cancel.resting import Store
from include.order_cancel.scripts import strict_json
from include.order_cancel.secrecy import conceal
from include.order_cancel.settings import ErpLogin, ErpLookup, ErpSettings
from include.order_cancel.text import printable
from include.order_cancel.tokens import Given, LoginFailed, Token, Tokens, TokenStore, token_key

Meaning = Literal["accepted", "auth_fail", "not_done", "unknown", "refused"]

# Options of the caller that writes, which are not for the one that logs in.
_OF_THE_WRITES = ("max_in_flight", "requests_per_second", "also")
_NOTHING = frozenset({"", "0", "false", "null"})  # what a header says where JSON has null, false or 0
FORM_BODY = {"Content-Type": "application/x-www-form-urlencoded"}


@asynccontextmanager
async def connect(
    endpoint: Endpoint, settings: ErpSettings, store: Store, **options: Any
) -> AsyncIterator[Erp]:
    """The ERP behind a Connection; its wish to rest, and its token where `login` asks for one, are from `store`.

    `options` go to the `Caller`; deadline, concurrency and rate are the settings' unless given.
    """
    limits = {
        "timeout_seconds": settings.timeout_seconds,
        "max_in_flight": settings.max_in_flight,
        "requests_per_second": settings.requests_per_second,
        "also": [endpoint.url(url) for url in _urls(settings)],
    }
    options = {"rests": store, **options}
    async with AsyncExitStack() as stack:
        caller = await stack.enter_async_context(Caller(endpoint, **{**limits, **options}))
        if settings.login is None:
            yield Erp(caller, settings, None)
            return
        login_caller = await stack.enter_async_context(
            _login_caller(endpoint, settings.login, settings.timeout_seconds, options)
        )
        monotonic = options.get("monotonic", time.monotonic)
        yield Erp(caller, settings, _tokens(endpoint, settings.login, store, login_caller, monotonic))


def build_request(settings: ErpSettings, endpoint: Endpoint, body: Any, key: str) -> Request:
    """The request for one plan, without auth headers: the bytes that are sent, whenever they are sent.

    GET puts the flat `body` into the query: null left out, booleans as true and false. Raises PlanFailed
    for a body that the method cannot carry.
    """
    url, headers = endpoint.url(settings.cancellation_api_url), _headers(settings, endpoint, key)
    if settings.http_method == "GET":
        return Request("GET", _with_query(url, body), headers)
    return Request(settings.http_method, url, headers, _json_body(body))


def _headers(settings: ErpSettings, endpoint: Endpoint, key: str) -> dict[str, str]:
    headers = {settings.idempotency_header: key} if settings.idempotency_header else {}
    if settings.http_method == "GET" or any(name.lower() == "content-type" for name in endpoint.headers):
        return headers
    return JSON_BODY | headers


def readdressed(request: Request, settings: ErpSettings, endpoint: Endpoint, key: str) -> Request:
    """An earlier request with the address and the headers of the settings as they are; GET keeps its query.

    One by another method than theirs is given back as it is.
    """
    if request.method != settings.http_method:
        return request
    url = endpoint.url(settings.cancellation_api_url)
    if request.method == "GET" and (query := URL(request.url, encoded=True).raw_query_string):
        url = f"{url.partition('?')[0]}?{query}"
    return replace(request, url=url, headers=_headers(settings, endpoint, key))


def carries_key(request: Request, settings: ErpSettings, key: str) -> bool:
    """Whether the request brings `key` in the header by which the ERP knows a repeat, by these settings."""
    wanted = (settings.idempotency_header or "").lower()
    return any(name.lower() == wanted and value == key for name, value in request.headers.items())


def same_host(request: Request, settings: ErpSettings, endpoint: Endpoint) -> bool:
    """Whether a request of these settings would go to the host that this one was for, by http or https."""
    return _host_of(request.url) == _host_of(endpoint.url(settings.cancellation_api_url))


def _host_of(url: str) -> str:
    return host_of(_base_of(url))


def classify(answer: Answer, settings: ErpSettings) -> Meaning:
    """What the answer proves, by the lists of the settings; whatever they do not list proves nothing.

    `not_done`: certainly without effect; `unknown`: it may have taken effect. A 2xx answer without what
    `reference_path` names is `unknown`: a sign-in page answers 200, too.
    """
    if answer.ok:
        if _holds(answer, settings.refused_path):
            return "refused"
        missing = settings.reference_path is not None and reference(answer, settings.reference_path) is None
        return "unknown" if missing else "accepted"
    if answer.status == 401:
        return "auth_fail"
    if answer.status in settings.not_done:
        return "not_done"
    return "refused" if answer.status in settings.refused else "unknown"


def found_means(answer: Answer, settings: ErpSettings) -> Literal["accepted", "refused"]:
    """What became of a request, by an answer in which a lookup has found it: an ERP may record what it refused."""
    return "refused" if _holds(answer, settings.refused_path) else "accepted"


def _holds(answer: Answer, path: str | None) -> bool:
    try:
        return path is not None and _stands(answer, path)
    except BadAnswer:
        return False


def named_headers(answer: Answer, settings: ErpSettings) -> dict[str, str]:
    """The headers of an answer that the settings read: all that is kept of its headers."""
    paths = [path for path in (settings.reference_path, settings.refused_path) if path]
    found = {name: in_answer(answer, path) for path in paths if (name := header_name(path))}
    return {name: text for name, text in found.items() if text is not None}


def reference(answer: Answer, path: str | None) -> str | None:
    """The ERP's document number at `path` of an answer, None where there is none."""
    if path is None:
        return None
    try:
        found = in_answer(answer, path)
    except BadAnswer:
        return None
    if not found or isinstance(found, bool) or not isinstance(found, str | int | float):
        return None
    return printable(conceal(exact_json.as_text(found).strip(), answer.secrets), 200) or None


def told(answer: Answer, settings: ErpSettings) -> str:
    """What the ERP answered, in words; of a 2xx answer also what it lacks to prove an acceptance."""
    said, path = f"the ERP answered {answer.describe()}", settings.reference_path
    if not answer.ok or path is None or reference(answer, path) is not None:
        return said
    unread = header_name(path) is None and not answer.is_json
    lacking = "the answer is not JSON" if unread else f"nothing stands at erp.reference_path '{path}'"
    return f"{lacking}: {said}"


class Erp:
    """The calls of the flow, each with the Connection's auth: a token where there is a login, else basic."""

    def __init__(self, caller: Caller, settings: ErpSettings, tokens: Tokens | None) -> None:
        self.caller = caller
        self.settings = settings
        self._tokens = tokens
        self._basic = _basic_auth(caller.endpoint)

    async def login(self) -> None:
        """Make sure that there is a token, where one is needed. Raises LoginFailed, JournalDown."""
        if self._tokens is not None:
            await self._tokens.current()

    async def send(self, request: Request, before: Before | None = None) -> Answer:
        """Exactly one try, whatever its answer. `before` is awaited just before the first byte.

        Raises NotSent, OutcomeUnknown, StopFlow (LoginFailed, SystemDown), JournalDown and what `before`
        raises.
        """
        if self._tokens is None:
            return await self.caller.send(request, auth=self._basic, before=before)
        token = await self._tokens.current()
        return await self._noted(
            await self.caller.send(request, auth=self._auth(token), before=before), token
        )

    def may_renew(self, answer: Answer) -> bool:
        """Whether a newer token may help: after 401, and after 403, 419 and 440 to a token of an earlier task."""
        return self._tokens is not None and self._tokens.may_renew(answer.status, answer.token)

    async def renew_token(self, answer: Answer | None = None) -> bool:
        """One new token for all that need one, after `answer` refused the one it was asked with.

        An answer that does not say which, was an earlier task's. False where there is no token login, so that a
        second try would be the same. Raises LoginFailed, JournalDown.
        """
        if self._tokens is None:
            return False
        seen = await self._tokens.current()
        asked_with = 0 if answer is None else answer.token
        if asked_with == seen.version or (asked_with == 0 and not self._tokens.fetched(seen.version)):
            await self._tokens.renew(seen)
        return True

    async def look_up(self, *, plan: Any, body: Any, key: str) -> Answer | None:
        """Ask the ERP whether a request arrived: its answer, or None where it has none by now.

        Nothing at `found_path` means that it is missing, null, false, 0 or empty. Without a `found_path` any
        2xx answer in JSON counts. Raises OutcomeUnknown where the answer does not tell, as a page of a gateway
        does not, StopFlow, JournalDown.
        """
        lookup = self.settings.lookup
        if lookup is None:
            raise OutcomeUnknown("there is no lookup that could tell whether the request arrived")
        answer = await self._asked(self._lookup_request(lookup, plan, body, key))
        if answer.ok and not answer.is_page:
            path = lookup.found_path
            if answer.is_json if path is None else _found(answer, path):
                return answer
        if answer.is_json and (answer.ok or answer.status == 404):
            return None  # only the system's own word: a gateway's page tells nothing
        raise OutcomeUnknown(f"the lookup was answered with {answer.describe()}")

    def _lookup_request(self, lookup: ErpLookup, plan: Any, body: Any, key: str) -> Request:
        try:
            url = lookup.rendered(lambda name: _lookup_value(name, plan, body, key))
        except ValueError as error:
            raise OutcomeUnknown(f"the lookup cannot be asked: {error}") from None
        return Request("GET", self.caller.endpoint.url(url))

    async def _asked(self, request: Request) -> Answer:
        try:
            answer = await self._ask(request)
            if not self.may_renew(answer):
                return answer
            await self.renew_token(answer)
            return await self._ask(request)
        except NotSent as error:
            raise OutcomeUnknown(f"the lookup brought no answer: {error}") from None

    async def _ask(self, request: Request) -> Answer:
        if self._tokens is None:
            return await self.caller.ask(request, auth=self._basic)
        token = await self._tokens.current()
        return await self._noted(await self.caller.ask(request, auth=self._auth(token)), token)

    async def _noted(self, answer: Answer, token: Token) -> Answer:
        if self._tokens is not None:
            await self._tokens.note(answer.status, token.version)
        return replace(answer, token=token.version)

    def _auth(self, token: Token) -> dict[str, str]:
        login = self.settings.login
        return dict([login.token_header(token.value)]) if login else {}


async def fetch_token(caller: Caller, endpoint: Endpoint, login: ErpLogin) -> Given:
    """A new token, as `erp.login` says, with the values of `endpoint`. Raises LoginFailed."""
    where = f"ERP login (Connection '{endpoint.conn_id}')"
    try:
        answer = await caller.ask(_login_request(endpoint, login))
    except (ValueError, NotSent, OutcomeUnknown) as error:
        raise LoginFailed(f"{where}: {error}") from None
    return token_in(answer, login.token_path, login.expires_path, where)


def _login_request(endpoint: Endpoint, login: ErpLogin) -> Request:
    rendered = login.rendered(lambda name: _login_value(name, endpoint))
    headers: Mapping[str, str] = rendered.headers
    body: bytes | None = None
    if login.method != "GET" and rendered.is_form:
        body = urlencode(_flat(rendered.body)).encode()
    elif login.method != "GET":
        headers, body = {**JSON_BODY, **rendered.headers}, json_bytes(rendered.body)
    return Request(login.method, endpoint.url(rendered.url), headers, body, endpoint.secrets)


def _login_value(name: str, endpoint: Endpoint) -> str:
    if name.startswith("extra."):
        value = endpoint.extra.get(name.removeprefix("extra."))
    else:
        value = {"login": endpoint.login, "password": endpoint.password}.get(name)
    if value in (None, ""):
        raise ValueError(f"the Connection has nothing at '{name}'")
    return str(value)


def _login_caller(endpoint: Endpoint, login: ErpLogin, seconds: float, options: Mapping[str, Any]) -> Caller:
    """For the token request: another host than the ERP's gets none of the Connection's static headers."""
    url = endpoint.url(login.url.partition("{{")[0])
    own = origin(url) == origin(endpoint.base_url)
    host = endpoint if own else Endpoint(endpoint.conn_id, _base_of(url))
    kept = {name: value for name, value in options.items() if name not in _OF_THE_WRITES}
    return Caller(host, **{"timeout_seconds": seconds, "max_in_flight": 2, **kept})


def _tokens(
    endpoint: Endpoint, login: ErpLogin, store: TokenStore, caller: Caller, monotonic: Callable[[], float]
) -> Tokens:
    key = token_key("erp", endpoint.conn_id, endpoint.base_url, login.model_dump_json())
    fetch = partial(fetch_token, caller, endpoint, login)
    return Tokens(key, store, fetch, endpoint.key_material, monotonic=monotonic)


def _urls(settings: ErpSettings) -> list[str]:
    lookup = [settings.lookup.url.partition("{{")[0]] if settings.lookup else []
    return [settings.cancellation_api_url, *lookup]


def _base_of(url: str) -> str:
    scheme, host, port = origin(url)
    named = f"[{host}]" if ":" in host else host
    return f"{scheme}://{named}:{port}"


def _basic_auth(endpoint: Endpoint) -> Mapping[str, str]:
    own = any(name.lower() == "authorization" for name in endpoint.headers)
    if own or not endpoint.login:
        return {}
    credentials = f"{endpoint.login}:{endpoint.password or ''}".encode()
    return {"Authorization": f"Basic {base64.b64encode(credentials).decode()}"}


def _json_body(body: Any) -> bytes:
    try:
        text = json_bytes(body)
    except (ValueError, TypeError) as error:
        raise PlanFailed(f"the body for the ERP is not JSON: {printable(str(error), 200)}") from None
    except RecursionError:
        text = None
    if text is None or strict_json.is_too_deep(text.decode()):
        raise PlanFailed(f"the body for the ERP is not JSON: {strict_json.TOO_DEEP}")
    return text


def _with_query(url: str, body: Any) -> str:
    if not isinstance(body, dict):
        raise PlanFailed(f"GET needs an object whose fields become the query, not {_kind(body)}")
    try:
        query = urlencode(_flat(body), quote_via=quote, safe="")
    except (ValueError, TypeError) as error:
        raise PlanFailed(f"the body cannot become a query: {error}") from None
    if not query:
        return url
    return f"{url}{'&' if '?' in url else '?'}{query}"


def _flat(body: Mapping[str, Any]) -> dict[str, str]:
    return {name: _plain(name, value) for name, value in body.items() if value is not None}


def _plain(name: str, value: Any) -> str:
    if isinstance(value, str):
        return value
    if isinstance(value, dict | list):
        raise PlanFailed(f"the field '{printable(name, 100)}' is {_kind(value)}, which a query cannot carry")
    return exact_json.dumps(value, allow_nan=False)


def _kind(value: Any) -> str:
    names = {dict: "an object", list: "a list", str: "a text", bool: "a boolean", type(None): "null"}
    return names.get(type(value), "a number")


def _found(answer: Answer, path: str) -> bool:
    try:
        return _stands(answer, path)
    except BadAnswer as error:
        raise OutcomeUnknown(f"the lookup does not tell: {error}") from None


def _stands(answer: Answer, path: str) -> bool:
    """Whether something stands at `path`: not nothing, null, false, 0 or empty. Raises BadAnswer."""
    found = in_answer(answer, path)
    if header_name(path) is not None:
        return found is not None and found.lower() not in _NOTHING
    return bool(found)


def _lookup_value(name: str, plan: Any, body: Any, key: str) -> str:
    if name == "key":
        return key
    value = at_path({"plan": plan, "body": body}, name)
    if value is None or isinstance(value, dict | list):
        raise ValueError(f"there is no '{name}'")
    return value if isinstance(value, str) else exact_json.dumps(value)
