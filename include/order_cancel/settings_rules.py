"""The rules between the fields of a flow's settings: what is refused, and what is only warned about."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import combinations
from typing import TYPE_CHECKING, Any

from include.order_cancel import fields, paths, settings_reading, templates
from include.order_cancel.errors import Problem
from include.order_cancel.secrecy import looks_secret

if TYPE_CHECKING:
    from include.order_cancel.settings_model import ErpSettings, FlowSettings, OmnitronSettings

LOGIN_TEMPLATES = "{{ login }}, {{ password }} and {{ extra.name }}"
LOOKUP_TEMPLATES = "{{ plan.name }}, {{ body.name }} and {{ key }}"
LOGIN_TEMPLATE = re.compile(r"login|password|extra\.[\w.\-]+")


def is_login_template(name: str) -> bool:
    return LOGIN_TEMPLATE.fullmatch(name) is not None


def is_lookup_template(name: str) -> bool:
    """Whether it is `key`, or a path into `plan` or `body`."""
    try:
        first, *more = paths.steps(name)
    except ValueError:
        return False
    return (first == "key" and not more) or (first in ("plan", "body") and bool(more))


# What an answer proves, by allow-lists: whoever answers may be a gateway that knows nothing of the ERP.
NOT_DONE = (408, 425, 429)
REFUSED = (
    *(301, 307, 308, 400, 402, 403, 404, 405, 406, 409, 410, 411, 413, 414, 415, 416, 417),
    *(421, 422, 423, 424, 426, 428, 431, 451),
)
REJECTS = (400, 409, 410, 422)


def crossing(settings: FlowSettings, wrong: set[str]) -> Iterator[Problem]:
    """What the rules between fields find, except where one of their fields is wrong already."""
    for names, rule in _RULES:
        if not any(name == bad or name.startswith(f"{bad}.") for name in names for bad in wrong):
            yield from rule(settings)


def _next_state_is_given(settings: FlowSettings) -> Iterator[Problem]:
    fetched = settings.omnitron.cancel_status
    if fetched in ("waiting", "confirmed", "confirmation_waiting") and settings.omnitron.next_state is None:
        choices = "approved, confirmation_waiting, completed or confirmed"
        yield Problem("omnitron.next_state", f"is required for cancel_status '{fetched}': {choices}")


def _first_window_is_given(settings: FlowSettings) -> Iterator[Problem]:
    if settings.omnitron.cancel_status == "completed" and settings.omnitron.start_from is None:
        words = "is required for cancel_status 'completed', for example 2025-01-31T00:00:00Z"
        yield Problem("omnitron.start_from", words)


def _transactions_are_bounded(settings: FlowSettings) -> Iterator[Problem]:
    if (
        settings.omnitron.cancel_status == "order_transaction"
        and settings.omnitron.transactions_since is None
    ):
        words = "is required for cancel_status 'order_transaction', for example 2025-01-31T00:00:00Z"
        yield Problem("omnitron.transactions_since", words)


def _lookup_is_given(settings: FlowSettings) -> Iterator[Problem]:
    if settings.erp.in_doubt == "lookup" and settings.erp.lookup is None:
        yield Problem("erp.lookup", "is required for in_doubt 'lookup': give its url")


def _statuses_mean_one_thing(settings: FlowSettings) -> Iterator[Problem]:
    erp = settings.erp
    if twice := set(erp.not_done) & set(erp.refused):
        yield Problem(
            "erp.not_done", f"and erp.refused both list {_in_words(twice)}; each status means one thing"
        )
    for name, listed in (("not_done", erp.not_done), ("refused", erp.refused)):
        if taken := {status for status in listed if status < 300}:
            yield Problem(
                f"erp.{name}", f"lists {_in_words(taken)}, but 2xx means that the ERP took the plan"
            )


def _only_refusals_reject(settings: FlowSettings) -> Iterator[Problem]:
    erp = settings.erp
    in_taken = {status for status in erp.rejects if status < 300 and erp.refused_path is not None}
    if others := set(erp.rejects) - {*erp.refused, *REJECTS} - in_taken:
        mend = "" if min(others) >= 300 else "; a 2xx status needs erp.refused_path"
        yield Problem("erp.rejects", f"lists {_in_words(others)}, which erp.refused does not{mend}")


def _in_words(statuses: Iterable[int]) -> str:
    return ", ".join(map(str, sorted(statuses)))


def _resending_has_a_key(settings: FlowSettings) -> Iterator[Problem]:
    if settings.erp.in_doubt == "resend" and settings.erp.idempotency_header is None:
        yield Problem(
            "erp.in_doubt",
            "'resend' needs erp.idempotency_header, by which the ERP knows a repeat; name it, or use 'hold'",
        )


def _lookup_by_key_has_a_key(settings: FlowSettings) -> Iterator[Problem]:
    erp = settings.erp
    if erp.in_doubt == "lookup" and erp.lookup_by_key and erp.idempotency_header is None:
        words = "asks by {{ key }}, which erp.idempotency_header has to bring to the ERP"
        yield Problem("erp.lookup.url", f"{words}; name the header, or ask by a number")


def _key_has_its_own_header(settings: FlowSettings) -> Iterator[Problem]:
    header = (settings.erp.idempotency_header or "").lower()
    token = settings.erp.login.header.lower() if settings.erp.login else "authorization"
    if header and header in {"authorization", "content-type", "accept", token}:
        yield Problem(
            "erp.idempotency_header", f"'{header}' carries something else already; choose another header"
        )


def _login_is_sound(settings: FlowSettings) -> Iterator[Problem]:
    if (login := settings.erp.login) is None:
        return
    yield from _login_values("erp.login.body", login.body, secret=False)
    yield from _login_values("erp.login.headers", login.headers, secret=False)
    yield from _login_query(login.url)
    for name, value in login.headers.items():
        yield from _checked(f"erp.login.headers.{fields.shown(name)}", fields.header_name, name)
        yield from _checked(f"erp.login.headers.{fields.shown(name)}", fields.header_value, value)
    if login.method == "GET" and login.body:
        yield Problem("erp.login.body", "cannot go with a GET; use POST, or put the values into headers")
    if login.is_form and any(isinstance(value, (dict, list)) for value in login.body.values()):
        yield Problem("erp.login.body", "must be flat, since the headers ask for a form")


def _checked(path: str, check: Callable[[str], str], text: str) -> Iterator[Problem]:
    try:
        check(text)
    except ValueError as error:
        yield Problem(path, str(error))


def _login_values(path: str, value: Any, *, secret: bool) -> Iterator[Problem]:
    if isinstance(value, dict):
        for name, item in value.items():
            yield from _login_values(
                settings_reading.joined(path, name), item, secret=secret or looks_secret(name)
            )
    elif isinstance(value, list):
        for index, item in enumerate(value):
            yield from _login_values(settings_reading.joined(path, index), item, secret=secret)
    else:
        yield from _login_value(path, value, secret)


def _login_value(path: str, value: Any, secret: bool) -> Iterator[Problem]:
    if secret and _is_literal(value):
        words = (
            "looks like a secret typed into the settings; keep it in the Connection and write {{ password }}"
        )
        yield Problem(path, f"{words} or {{{{ extra.name }}}}")
    if isinstance(value, str):
        yield from _checked(
            path, lambda text: fields.check_templates(text, is_login_template, LOGIN_TEMPLATES), value
        )


def _is_literal(value: Any) -> bool:
    if isinstance(value, str):
        return bool(value.strip()) and not templates.placeholders(value)
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _login_query(url: str) -> Iterator[Problem]:
    if secrets_in_query(url):
        words = "holds what looks like a secret in its query string; keep it in the Connection"
        yield Problem("erp.login.url", f"{words} and write {{{{ extra.name }}}}")


def secrets_in_query(url: str) -> bool:
    """Whether a literal stands under a secret-looking name in the URL's query string."""
    pairs = (pair.partition("=") for pair in url.partition("?")[2].split("&"))
    return any(looks_secret(name) and _is_literal(value) for name, _, value in pairs)


def _alerts_are_sound(settings: FlowSettings) -> Iterator[Problem]:
    for number, alert in enumerate(settings.alerts):
        path = f"alerts.{number}"
        if ("no_success" in alert.on) != (alert.no_success_minutes is not None):
            words = "and the event 'no_success' belong together; give both or none"
            yield Problem(f"{path}.no_success_minutes", words)
        yield from _argument_secrets(f"{path}.arguments", alert.arguments, secret=False)


def _argument_secrets(path: str, value: Any, *, secret: bool) -> Iterator[Problem]:
    if isinstance(value, dict):
        for name, item in value.items():
            inner = settings_reading.joined(path, name)
            yield from _argument_secrets(inner, item, secret=secret or looks_secret(name))
    elif isinstance(value, list):
        for index, item in enumerate(value):
            yield from _argument_secrets(settings_reading.joined(path, index), item, secret=secret)
    elif _is_literal(value) and (secret or _secret_in_url(value)):
        words = "looks like a secret typed into the settings; keep it in a Connection and name that, or write"
        yield Problem(path, f"{words} {{{{ conn.name.password }}}}")


def _secret_in_url(value: Any) -> bool:
    return isinstance(value, str) and "://" in value and ("@" in value or secrets_in_query(value))


_RULES: tuple[tuple[tuple[str, ...], Callable[[FlowSettings], Iterator[Problem]]], ...] = (
    (("omnitron.cancel_status", "omnitron.next_state"), _next_state_is_given),
    (("omnitron.cancel_status", "omnitron.start_from"), _first_window_is_given),
    (("omnitron.cancel_status", "omnitron.transactions_since"), _transactions_are_bounded),
    (("erp.in_doubt", "erp.lookup"), _lookup_is_given),
    (("erp.not_done", "erp.refused"), _statuses_mean_one_thing),
    (("erp.rejects", "erp.refused", "erp.refused_path"), _only_refusals_reject),
    (("erp.in_doubt", "erp.idempotency_header"), _resending_has_a_key),
    (("erp.in_doubt", "erp.lookup", "erp.idempotency_header"), _lookup_by_key_has_a_key),
    (("erp.idempotency_header", "erp.login.header"), _key_has_its_own_header),
    (("erp.login",), _login_is_sound),
    (("alerts",), _alerts_are_sound),
)


def doubtful(settings: FlowSettings) -> Iterator[Problem]:
    yield from _doubtful_in_omnitron(settings.omnitron)
    yield from _doubtful_in_erp(settings.erp)
    if settings.omnitron.conn_id == settings.erp.conn_id:
        yield Problem("erp.conn_id", "is Omnitron's Connection too, so the ERP gets Omnitron's credentials")
    if settings.erp.http_method == "GET" and settings.mapping is None and settings.script is None:
        yield Problem(
            "erp.http_method", "GET sends a flat body, but a plan is nested; give a mapping or a script"
        )
    if settings.retention.bodies_days > settings.retention.rows_days:
        yield Problem("retention.bodies_days", "bodies go with their rows, after rows_days")


def _doubtful_in_omnitron(omnitron: OmnitronSettings) -> Iterator[Problem]:
    fetched = omnitron.cancel_status
    if fetched == omnitron.next_state:
        yield Problem("omnitron.next_state", "equals cancel_status: no status is written")
    if fetched == "order_transaction" and omnitron.next_state is not None:
        yield Problem(
            "omnitron.next_state", "has no effect for cancel_status 'order_transaction': no status is written"
        )
    if fetched != "completed" and omnitron.start_from is not None:
        yield Problem("omnitron.start_from", "has an effect for cancel_status 'completed' only")
    if fetched != "order_transaction" and omnitron.transactions_since is not None:
        yield Problem(
            "omnitron.transactions_since", "has an effect for cancel_status 'order_transaction' only"
        )


def _doubtful_in_erp(erp: ErpSettings) -> Iterator[Problem]:
    if erp.custom_response_script is not None and not erp.custom_response:
        yield Problem("erp.custom_response_script", "is not used while custom_response is false")
    if erp.custom_response and erp.refusal == "failure":
        yield Problem("erp.refusal", "has no effect while custom_response is true: the script decides")
    if erp.lookup is not None and "{{" not in erp.lookup.url:
        yield Problem(
            "erp.lookup.url",
            "names no plan (no {{ plan.x }}, {{ body.x }} or {{ key }}): its answer is about any plan",
        )
    elif erp.lookup is not None and erp.lookup.found_path is None and "?" in erp.lookup.url:
        yield Problem(
            "erp.lookup.found_path",
            "is null, so that an empty list counts as 'it arrived'; name what stands in the answer only where it did",
        )
    if erp.lookup is not None and erp.in_doubt != "lookup":
        yield Problem("erp.lookup", "is not used unless in_doubt is 'lookup'")
    if secrets_in_query(erp.cancellation_api_url):
        yield Problem(
            "erp.cancellation_api_url", "seems to hold a secret, which everyone who sees the settings sees"
        )
    if erp.lookup is not None and secrets_in_query(erp.lookup.url):
        yield Problem("erp.lookup.url", "seems to hold a secret, which everyone who sees the settings sees")


def overlaps(flows: Mapping[str, FlowSettings], systems: Mapping[str, str] | None = None) -> list[str]:
    """Each pair of flows that would both send the same plan, in words.

    `systems`: what the journal calls the Omnitron that a Connection leads to, where that is known.
    """
    known = systems or {}
    pairs = combinations(sorted(flows.items()), 2)
    return [
        words
        for (a, one), (b, other) in pairs
        if known.get(one.omnitron.conn_id, one.omnitron.conn_id)
        == known.get(other.omnitron.conn_id, other.omnitron.conn_id)
        and (words := _overlap(a, one.omnitron, b, other.omnitron))
    ]


def _overlap(a: str, one: OmnitronSettings, b: str, other: OmnitronSettings) -> str | None:
    types = {one.cancel_type, other.cancel_type} - {"all"}
    channels = set(one.channel_ids) & set(other.channel_ids) or {*one.channel_ids, *other.channel_ids}
    apart = one.channel_ids and other.channel_ids and not set(one.channel_ids) & set(other.channel_ids)
    if one.channel_type != other.channel_type or len(types) > 1 or apart or _told_apart(one, other):
        return None
    kind = f"{types.pop()} plans" if types else "plans"
    where = f"channels {', '.join(map(str, sorted(channels)))}" if channels else "all channels"
    of = f"{kind} of channel type '{one.channel_type}' in {where}"
    conn_ids = sorted({one.conn_id, other.conn_id})
    source = " and ".join(f"'{conn_id}'" for conn_id in conn_ids)
    source = (
        f"Connection{'s' if len(conn_ids) > 1 else ''} {source}{', one system' if len(conn_ids) > 1 else ''}"
    )
    if _listed(one) == _listed(other):
        return f"flows '{a}' and '{b}' both take {_listed(one)} {of} from {source}; such a plan would be sent by each"
    for first, giving, second, taking in ((a, one, b, other), (b, other, a, one)):
        if _written(giving) == _listed(taking):
            return (
                f"flow '{first}' gives its plans the status {_listed(taking)}, in which flow '{second}' takes {of} "
                f"from {source}; such a plan would be sent by each, one after the other"
            )
    return None


def _written(omnitron: OmnitronSettings) -> str | None:
    """The status that the flow gives its plans, None where it writes none."""
    writes = omnitron.cancel_status not in ("completed", "order_transaction", omnitron.next_state)
    return omnitron.next_state if writes else None


def _listed(omnitron: OmnitronSettings) -> str:
    """The status of the plans that are fetched in the end."""
    return "completed" if omnitron.cancel_status == "order_transaction" else omnitron.cancel_status


def _told_apart(one: OmnitronSettings, other: OmnitronSettings) -> bool:
    mine, theirs = one.api.plans.extra, other.api.plans.extra
    return any(mine[name] != theirs[name] for name in mine.keys() & theirs.keys())
