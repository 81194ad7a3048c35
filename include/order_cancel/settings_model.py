"""The shape of a flow's settings: every field with its kind, range, default and description."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Annotated, Any, Literal
from zoneinfo import ZoneInfo, available_timezones

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field
from pydantic import WithJsonSchema as SchemaAs

from include.order_cancel import cron, fields, settings_rules, settings_words, templates
from include.order_cancel.fields import AnswerPath, ClassPath, ConnectionId, HeaderName, Name, Url
from include.order_cancel.profile import Profile
from include.order_cancel.settings_rules import (
    LOGIN_TEMPLATES,
    LOOKUP_TEMPLATES,
    NOT_DONE,
    REFUSED,
    REJECTS,
    is_login_template,
    is_lookup_template,
)


def _timezone(name: str) -> str:
    try:
        ZoneInfo(fields.name(name))
    except (KeyError, ValueError, OSError):
        close = (
            settings_words.suggestion(name, available_timezones()) or "; write one such as Europe/Istanbul"
        )
        raise ValueError(f"'{fields.shown(name)}' is not a time zone{close}") from None
    return name


def _time(value: Any) -> Any:
    """An ISO 8601 text as an aware UTC datetime."""
    if value is None:
        return None
    try:
        time = datetime.fromisoformat(value)
    except (TypeError, ValueError):
        raise ValueError(f"'{fields.shown(str(value))}' is not a time; write 2025-01-31T00:00:00Z") from None
    if time.tzinfo is None:
        raise ValueError(f"'{fields.shown(value)}' has no time zone; add Z, or an offset such as +03:00")
    if not 2000 <= time.year <= 2100:
        raise ValueError(f"'{fields.shown(value)}' lies outside the years 2000 to 2100")
    return time.astimezone(UTC)


def _channel_ids(value: Any) -> Any:
    """A list of ids, or a text such as "1, 2,3", as a tuple in the given order; null is empty."""
    if value is None:
        return ()
    items = (value.split(",") if value.strip() else []) if isinstance(value, str) else value
    if type(items) not in (list, tuple):
        raise ValueError('must be a list of whole numbers, or text such as "1, 2,3"')
    return tuple(dict.fromkeys(_channel_id(item) for item in items))


def _channel_id(item: Any) -> int:
    text = item.strip() if isinstance(item, str) else item
    if isinstance(text, str) and re.fullmatch(r"[0-9]{1,18}", text):
        text = int(text)
    if isinstance(text, bool) or not isinstance(text, int) or text < 1:
        raise ValueError(f"'{fields.shown(str(item))}' is not a channel id; write whole numbers from 1")
    return text


def _statuses(value: Any) -> Any:
    """A list of HTTP statuses from 200 on, each once, in rising order; 401 asks for a new token and is none of them."""
    for item in _listed(value):
        if isinstance(item, bool) or not isinstance(item, int) or not 200 <= item <= 599 or item == 401:
            raise ValueError(
                f"'{fields.shown(str(item))}' cannot stand here; write HTTP statuses from 200 to 599, but not 401"
            )
    return tuple(sorted(set(value)))


def _url_with(known: Callable[[str], bool], names: str) -> Callable[[str], str]:
    return lambda text: fields.url(text, known, names)


def _alerts(value: Any) -> Any:
    if value is None or value in ("none", [], {}, ""):
        return ()
    return _listed(value)


def _listed(value: Any) -> Any:
    if type(value) not in (list, tuple):
        raise ValueError("must be a list in brackets")
    return tuple(value)


def _some_events(value: tuple[str, ...]) -> tuple[str, ...]:
    if not value:
        raise ValueError("names no event; leave the alert out instead")
    return tuple(dict.fromkeys(value))


Time = Annotated[datetime | None, BeforeValidator(_time)]
Cron = Annotated[str, AfterValidator(cron.check)]
TimeZone = Annotated[str, AfterValidator(_timezone)]
ChannelIds = Annotated[tuple[int, ...], BeforeValidator(_channel_ids)]
LoginUrl = Annotated[str, AfterValidator(_url_with(is_login_template, LOGIN_TEMPLATES))]
LookupUrl = Annotated[str, AfterValidator(_url_with(is_lookup_template, LOOKUP_TEMPLATES))]
Statuses = Annotated[
    tuple[int, ...],
    BeforeValidator(_statuses),
    SchemaAs({"type": "array", "items": {"type": "integer", "minimum": 200, "maximum": 599}}),
]
HttpMethod = Literal["POST", "GET", "PUT", "PATCH"]
ANSWER_PATHS = "a.b, a[0].b or header:Name"

_FILE_SCHEMA = {
    "type": "object",
    "properties": {"file": {"type": "string", "description": "Path of a file below include/flows."}},
    "required": ["file"],
    "additionalProperties": False,
}
_TEXT_OR_FILE = [{"type": "null"}, {"type": "string"}, _FILE_SCHEMA]
_CHANNELS_SCHEMA = {
    "anyOf": [{"type": "array", "items": {"type": "integer", "minimum": 1}}, {"type": "string"}]
}
_TIME_SCHEMA = {"anyOf": [{"type": "string", "format": "date-time"}, {"type": "null"}]}
_JOLT_SCHEMA = {"anyOf": [*_TEXT_OR_FILE, {"type": "array"}, {"type": "object"}]}


class _Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)


class Source(_Section):
    """A script or a mapping: its text, and the file below the flows folder that it came from."""

    text: str
    file: str | None = None


ScriptSource = Annotated[Source | None, SchemaAs({"anyOf": _TEXT_OR_FILE})]
MappingSource = Annotated[Source | None, SchemaAs(_JOLT_SCHEMA)]


class OmnitronSettings(_Section):
    """Which plans are fetched from Omnitron, and what becomes of them there."""

    conn_id: ConnectionId = Field(
        default="omnitron",
        title="Omnitron Connection",
        description="The Airflow Connection with Omnitron's domain URL, login and password.",
    )
    channel_type: Name = Field(
        title="Channel type",
        description="The type of channel whose plans are fetched.",
        examples=["sales_channel", "web"],
    )
    cancel_type: Literal["cancel", "refund", "all"] = Field(
        default="all", title="Cancel type", description="Fetch cancellations, refunds, or both."
    )
    cancel_status: Literal[
        "waiting", "confirmed", "completed", "confirmation_waiting", "order_transaction"
    ] = Field(
        title="Cancel status",
        description="The status of the plans to fetch. completed follows the time of the last query; "
        "order_transaction fetches the plans of return transactions that have no integration mapping.",
    )
    channel_ids: Annotated[ChannelIds, SchemaAs(_CHANNELS_SCHEMA)] = Field(
        default=(),
        title="Channel IDs",
        description="Only plans of these channels; empty for all channels.",
        examples=["1, 2,3", [1, 2, 3]],
        json_schema_extra={"x-values": 'list of integers or text such as "1, 2,3"'},
    )
    next_state: Literal["approved", "confirmation_waiting", "completed", "confirmed"] | None = Field(
        default=None,
        title="Next state",
        description="The status that a plan gets once the ERP has taken it. "
        "Required for waiting, confirmed and confirmation_waiting.",
    )
    start_from: Annotated[Time, SchemaAs(_TIME_SCHEMA)] = Field(
        default=None,
        title="Start from",
        description="Where the first window of a completed flow starts. Required for completed.",
        examples=["2025-01-31T00:00:00Z"],
    )
    transactions_since: Annotated[Time, SchemaAs(_TIME_SCHEMA)] = Field(
        default=None,
        title="Transactions since",
        description="Transactions created earlier are not looked at. Required for order_transaction.",
        examples=["2025-01-31T00:00:00Z"],
    )
    overlap_seconds: int = Field(
        default=300,
        ge=0,
        le=2_592_000,
        title="Overlap",
        description="How many seconds a completed window reaches back before the last query time.",
    )
    page_size: int = Field(
        default=100, ge=1, le=500, title="Page size", description="Plans per page of the list request."
    )
    max_plans: int = Field(
        default=5000,
        ge=1,
        le=10_000_000,
        title="Most plans in a run",
        description="A run that finds more plans sends nothing and fails.",
    )
    look_again_seconds: int = Field(
        default=600,
        ge=0,
        le=86_400,
        title="Look again after",
        description="Seconds after which a run's listing is too old to send by: each plan is read again first.",
    )
    api: Profile = Field(
        default=Profile(),
        title="API profile",
        description="Overrides of Omnitron's paths, parameter names and words.",
    )


class ScriptLimits(_Section):
    """What one call of a script may use."""

    timeout_seconds: float = Field(
        default=30, gt=0, le=300, title="Script time limit", description="Seconds per script call."
    )
    memory_mb: int = Field(
        default=512, ge=128, le=65_536, title="Script memory", description="Megabytes per script call."
    )
    network: bool = Field(
        default=True, title="Script network", description="Whether scripts may make requests."
    )
    confinement: Literal["required", "best_effort", "off"] = Field(
        default="best_effort",
        title="Script confinement",
        description="Whether the kernel confines scripts: required refuses to run any where it cannot, "
        "best_effort goes on with what it offers.",
    )


@dataclass(frozen=True, repr=False)
class RenderedLogin:
    """A token request with the Connection's values in place; its repr shows none of them."""

    url: str
    headers: dict[str, str] = field(default_factory=dict)
    body: dict[str, Any] = field(default_factory=dict)
    is_form: bool = False


class ErpLogin(_Section):
    """A token request; url, body and headers may take values from the Connection."""

    url: LoginUrl = Field(
        title="Login URL",
        description="Where the token is asked for: a URL, or a path on the Connection's host.",
        examples=["/oauth/token"],
    )
    method: HttpMethod = Field(
        default="POST", title="Login method", description="HTTP method of the token request."
    )
    body: dict[str, Any] = Field(
        default={},
        title="Login body",
        description="Body of the token request, sent as JSON, or as a form where headers say so. "
        f"Values may use {LOGIN_TEMPLATES}.",
        examples=[{"user": "{{ login }}", "password": "{{ password }}"}],
    )
    headers: dict[str, str] = Field(
        default={},
        title="Login headers",
        description=f"Headers of the token request. Values may use {LOGIN_TEMPLATES}.",
    )
    token_path: AnswerPath = Field(
        default="token",
        title="Token path",
        description=f"Where the token stands in the answer: {ANSWER_PATHS}.",
    )
    expires_path: AnswerPath = Field(
        default="expires_in",
        title="Expiry path",
        description="Where the answer says for how many seconds the token is valid; "
        "without it a token is used until it is refused.",
    )
    header: HeaderName = Field(
        default="Authorization", title="Token header", description="The header that carries the token."
    )
    prefix: Annotated[str, AfterValidator(fields.header_value)] = Field(
        default="Bearer", title="Token prefix", description="The word before the token; empty for none."
    )

    @property
    def is_form(self) -> bool:
        """Whether the headers ask for a form instead of JSON."""
        types = [value for name, value in self.headers.items() if name.lower() == "content-type"]
        return any("x-www-form-urlencoded" in value.lower() for value in types)

    def rendered(self, lookup: Callable[[str], str]) -> RenderedLogin:
        """The request with `lookup("login" | "password" | "extra.<name>")` in each template's place.

        Raises ValueError where an empty value would change the URL's path.
        """
        url = templates.render(self.url, lambda name: fields.path_segment(lookup(name)))
        headers = {name: templates.render(value, lookup) for name, value in self.headers.items()}
        return RenderedLogin(url, headers, _rendered(self.body, lookup), self.is_form)

    def token_header(self, token: str) -> tuple[str, str]:
        """Name and value of the header that later requests carry."""
        return self.header, f"{self.prefix} {token}".strip()


def _rendered(value: Any, lookup: Callable[[str], str]) -> Any:
    if isinstance(value, dict):
        return {name: _rendered(item, lookup) for name, item in value.items()}
    if isinstance(value, list):
        return [_rendered(item, lookup) for item in value]
    return templates.render(value, lookup) if isinstance(value, str) else value


class ErpLookup(_Section):
    """A GET that says whether a request arrived."""

    url: LookupUrl = Field(
        title="Lookup URL",
        description=f"Where the ERP is asked; may use {LOOKUP_TEMPLATES}.",
        examples=["/documents/{{ key }}"],
    )
    found_path: AnswerPath | None = Field(
        default=None,
        title="Found path",
        description=f"Where something stands in the answer if the request arrived: {ANSWER_PATHS}. "
        "Null: any 2xx answer in JSON will do.",
        examples=["value[0].id"],
    )

    after_seconds: int = Field(
        default=60,
        ge=0,
        le=86_400,
        title="Settling time",
        description="Seconds after the request's time limit from which on 'not there' counts; "
        "until then the ERP may still be at work.",
    )

    def rendered(self, lookup: Callable[[str], str]) -> str:
        """The URL with `lookup("key" | "plan.<path>" | "body.<path>")` percent-encoded in place.

        Raises ValueError for an empty value, which would ask for something else.
        """
        return templates.render(self.url, lambda name: fields.path_segment(lookup(name)))


class ErpSettings(_Section):
    """How a plan is sent to the ERP, and what its answers mean."""

    conn_id: ConnectionId = Field(
        default="erp",
        title="ERP Connection",
        description="The Airflow Connection with the ERP's host and credentials.",
    )
    cancellation_api_url: Url = Field(
        title="Cancellation API URL",
        description="Where plans are sent: a URL, or a path on the Connection's host.",
        examples=["/api/cancellations", "https://erp.example.com/api/cancellations"],
    )
    http_method: HttpMethod = Field(
        default="POST",
        title="HTTP method",
        description="How plans are sent; with GET the flat body becomes the query string.",
    )
    login: ErpLogin | None = Field(
        default=None,
        title="ERP login",
        description="A token request, or null for the Connection's own credentials.",
    )
    custom_response: bool = Field(
        default=False, title="Custom response", description="Whether a script judges the ERP's answers."
    )
    custom_response_script: ScriptSource = Field(
        default=None,
        title="Custom response script",
        description="The script that judges; null for the shipped default script.",
        json_schema_extra={"x-values": 'null, text, or {"file": path}', "x-language": "python"},
    )
    refusal: Literal["failed", "failure"] = Field(
        default="failed",
        title="A refusal means",
        description="Without a custom script: failed (tried again), or failure (rejected in Omnitron).",
    )
    not_done: Statuses = Field(
        default=NOT_DONE,
        title="Not done",
        description="Statuses that prove that nothing was done: the same request is tried again. "
        "Add 503 only where nothing answers 503 after it has passed a request on.",
        json_schema_extra={"x-values": "list of HTTP statuses"},
    )
    refused: Statuses = Field(
        default=REFUSED,
        title="Refused",
        description="Statuses by which the ERP refuses a plan for certain. Any status that is not listed leaves "
        "it unknown whether the ERP has the plan.",
        json_schema_extra={"x-values": "list of HTTP statuses"},
    )
    rejects: Statuses = Field(
        default=REJECTS,
        title="Rejects",
        description="Which refusals reject the plan where a refusal means failure; other refusals are failed.",
        json_schema_extra={"x-values": "list of HTTP statuses"},
    )
    refused_path: AnswerPath | None = Field(
        default=None,
        title="Refused path",
        description=f"Where something stands in a 2xx answer that is a refusal: {ANSWER_PATHS}.",
        examples=["errors[0].message"],
    )
    in_doubt: Literal["hold", "lookup", "resend"] = Field(
        default="hold",
        title="An unknown outcome means",
        description="hold (an operator decides), lookup (ask the lookup first), or resend "
        "(only where the ERP recognises the idempotency key).",
    )
    lookup: ErpLookup | None = Field(
        default=None,
        title="Lookup",
        description="The question whether a request arrived. Required for in_doubt lookup.",
    )
    idempotency_header: HeaderName | None = Field(
        default="Idempotency-Key",
        title="Idempotency header",
        description="The header that carries the key; null for none.",
    )
    reference_path: AnswerPath | None = Field(
        default=None,
        title="Reference path",
        description=f"Where the ERP's document number stands in its answer: {ANSWER_PATHS}.",
        examples=["data.documentNumber"],
    )
    timeout_seconds: float = Field(
        default=30,
        gt=0,
        le=600,
        title="ERP time limit",
        description="Seconds until one request must have been answered.",
    )
    max_in_flight: int = Field(
        default=64, ge=1, le=1000, title="Most requests at once", description="Shared by all tasks of a run."
    )
    requests_per_second: float | None = Field(
        default=None,
        gt=0,
        le=10_000,
        title="Requests per second",
        description="Shared by all tasks of a run; null: no limit.",
    )

    @property
    def lookup_by_key(self) -> bool:
        """Whether the lookup names the idempotency key, which differs for each generation of a plan."""
        return self.lookup is not None and "key" in templates.placeholders(self.lookup.url)


class Retention(_Section):
    """How long the journal keeps what it knows."""

    bodies_days: int = Field(
        default=30, ge=1, le=36_500, title="Keep bodies", description="Days that request bodies are kept."
    )
    rows_days: int = Field(
        default=365, ge=1, le=36_500, title="Keep rows", description="Days that finished plans are kept."
    )


AlertEvent = Literal["gate_failed", "in_doubt", "breaker_open", "token_refused", "no_success"]
AlertEvents = Annotated[tuple[AlertEvent, ...], BeforeValidator(_listed), AfterValidator(_some_events)]


class Alert(_Section):
    """An Airflow notifier, and the events that it is told of."""

    on: AlertEvents = Field(
        title="Events",
        description="The events to tell of: gate_failed, in_doubt, breaker_open, token_refused, no_success.",
        json_schema_extra={"x-values": "list of events"},
    )
    no_success_minutes: int | None = Field(
        default=None,
        ge=1,
        le=527_040,
        title="No success for",
        description="Minutes without an open gate after which no_success is told. Required for it.",
    )
    notifier: ClassPath = Field(
        title="Notifier",
        description="The notifier's class, with its module.",
        examples=["airflow.providers.slack.notifications.slack.SlackNotifier"],
    )
    arguments: dict[str, Any] = Field(
        default={},
        title="Arguments",
        description="The notifier's arguments. Those that it takes as templates may use {{ order_cancel.subject }}, "
        "{{ order_cancel.message }} and {{ conn.name.password }}.",
        examples=[{"slack_conn_id": "slack", "text": "{{ order_cancel.message }}"}],
    )


class FlowSettings(_Section):
    """One order cancel flow, from Omnitron's list of plans to the ERP and back."""

    schedule: Cron | None = Field(
        default=None,
        title="Schedule",
        description="When the flow runs by itself: five cron fields, an Airflow preset, or null for never.",
        examples=["*/5 * * * *", "@hourly"],
        json_schema_extra={"x-values": "cron, preset such as @hourly, or null"},
    )
    timezone: TimeZone = Field(
        default="UTC",
        title="Time zone",
        description="IANA name; the schedule is read in it, a preset too.",
        examples=["Europe/Istanbul"],
    )
    omnitron: OmnitronSettings = Field(title="Omnitron", description="Which plans are fetched.")
    script: ScriptSource = Field(
        default=None,
        title="Script",
        description="Python that changes a plan before the mapping.",
        json_schema_extra={"x-values": 'null, text, or {"file": path}', "x-language": "python"},
    )
    mapping: MappingSource = Field(
        default=None,
        title="Mapping",
        description="A Jolt chain, or one operation, that turns the plan into the ERP's body.",
        json_schema_extra={"x-values": 'null, Jolt, or {"file": path}', "x-language": "json"},
    )
    post_script: ScriptSource = Field(
        default=None,
        title="Post script",
        description="Python that runs after the write-back.",
        json_schema_extra={"x-values": 'null, text, or {"file": path}', "x-language": "python"},
    )
    scripts: ScriptLimits = Field(
        default=ScriptLimits(), title="Script limits", description="What one script call may use."
    )
    erp: ErpSettings = Field(title="ERP", description="How plans are sent.")
    fan_out: int = Field(
        default=50,
        ge=0,
        le=1000,
        title="Fan-out",
        description="Up to so many plans get tasks of their own; 0: all go to bulk, up to 50 that fail there get some.",
    )
    lots: int = Field(
        default=4,
        ge=1,
        le=100,
        title="Lots",
        description="Tasks that share a larger batch: one for each 500 plans, at most so many.",
    )
    max_attempts: int | None = Field(
        default=None,
        ge=1,
        le=10_000,
        title="Most attempts",
        description="Runs after which a failing plan waits for an operator; null: never.",
    )
    retention: Retention = Field(
        default=Retention(), title="Retention", description="How long the journal keeps things."
    )
    alerts: Annotated[tuple[Alert, ...], BeforeValidator(_alerts)] = Field(
        default=(),
        title="Alerts",
        description="Notifiers and when they fire, each once per event.",
        json_schema_extra={"x-values": "list of alerts"},
    )

    @property
    def steps(self) -> tuple[str, ...]:
        """The configured steps in the order in which a plan takes them."""
        before = [name for name in ("script", "mapping") if getattr(self, name) is not None]
        after = ["post_script"] if self.post_script else []
        return (*before, "write_to_erp", "write_to_omnitron", *after)

    @property
    def writes_status(self) -> bool:
        """Whether a plan that the ERP took gets a new status in Omnitron."""
        fetched, following = self.omnitron.cancel_status, self.omnitron.next_state
        return following is not None and fetched not in ("order_transaction", following)

    @property
    def warnings(self) -> tuple[str, ...]:
        """What is allowed and probably not meant, each with its field's path."""
        return tuple(str(problem) for problem in settings_rules.doubtful(self))

    def snapshot(self) -> dict[str, Any]:
        """The settings as plain JSON with the files' contents in it; see `from_snapshot`."""
        return self.model_dump(mode="json")

    @property
    def digest(self) -> str:
        """SHA-256 (hex) of the snapshot; equal settings have equal digests."""
        text = json.dumps(self.snapshot(), sort_keys=True, separators=(",", ":"), ensure_ascii=False)
        return hashlib.sha256(text.encode()).hexdigest()
