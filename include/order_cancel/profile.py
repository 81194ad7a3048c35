"""The API profile: what Omnitron's calls, parameters and words are called.

Each default is an assumption about an API whose documentation is public in parts only. Its grade:

==============  =========  ==================================================================
entry           grade      source
==============  =========  ==================================================================
login           stated     Akinon's omnisdk and integration guide: path, `key`, `Token <key>`
plans           stated     apidocs, cancellation plan: path and the names of all filters; dates
                           with gt, gte, lt, lte
..status        assumed    the channel API calls this filter `cancellation_plan_status`
..channel_ids   inferred   that the ids are joined by commas
..modified_*    assumed    that gt and lte are the lookups to use
plan            stated     the same page
write_back      assumed    no call that changes a plan's status was found
transactions    assumed    the call is documented, that it is the right one is not; the word
                           `return` is the tutorial's, a sample says `refund`; no field of the
                           documented row names the order
mappings        stated     apidocs, order transaction
create_mapping  assumed    by analogy with the documented call for order items
words           inferred   stated for order items; that plans use them is likely
==============  =========  ==================================================================

Paths keep their trailing slash: Omnitron answers most paths without one with a redirect.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

from include.order_cancel import fields
from include.order_cancel.fields import DottedPath, HeaderName, Name, QueryName

_PLACEHOLDER = re.compile(r"\{([^{}]*)\}")


def fill_path(template: str, **values: object) -> str:
    """The path with each `{name}` replaced by the percent-encoded value.

    Raises ValueError for a value that would change the path itself ("", ".", "..").
    """
    return _PLACEHOLDER.sub(lambda found: fields.path_segment(values[found[1]]), template)


def fill_body(template: Any, **values: object) -> Any:
    """The body with each `{name}` replaced; a text that is nothing but `{pk}` becomes the value itself."""
    if isinstance(template, dict):
        return {key: fill_body(item, **values) for key, item in template.items()}
    if isinstance(template, list):
        return [fill_body(item, **values) for item in template]
    if not isinstance(template, str):
        return template
    if alone := _PLACEHOLDER.fullmatch(template):
        return values[alone[1]]
    return _PLACEHOLDER.sub(lambda found: str(values[found[1]]), template)


def fill(template: Any, **values: object) -> Any:
    """A text is filled as a path, anything else as a body."""
    return fill_path(template, **values) if isinstance(template, str) else fill_body(template, **values)


def query_text(value: object) -> str:
    """An `extra` value as a query string shows it: true, false, numbers and text."""
    return str(value).lower() if isinstance(value, bool) else str(value)


def _unknown_placeholder(text: str, known: tuple[str, ...]) -> str | None:
    return next((found for found in _PLACEHOLDER.findall(text) if found not in known), None)


def _in_braces(names: tuple[str, ...]) -> str:
    return " and ".join(f"{{{name}}}" for name in names)


def _path(*known: str, needs: tuple[str, ...] = ()) -> Callable[[str], str]:
    def check(path: str) -> str:
        if not path.startswith("/") or path.startswith("//"):
            raise ValueError("must be a path on Omnitron's host that begins with one '/', not a whole URL")
        fields.url(path)
        if "?" in path:
            raise ValueError("holds a query string; a path takes none")
        if (unknown := _unknown_placeholder(path, known)) is not None:
            allowed = f"known here: {_in_braces(known)}" if known else "this path takes none"
            raise ValueError(f"holds the unknown placeholder {{{fields.shown(unknown)}}}; {allowed}")
        if "{" in _PLACEHOLDER.sub("", path) or "}" in _PLACEHOLDER.sub("", path):
            raise ValueError("holds a brace without its partner")
        if missing := [name for name in needs if f"{{{name}}}" not in path]:
            raise ValueError(f"must hold {{{missing[0]}}}, where the number goes")
        return path

    return check


def _texts(value: Any) -> list[str]:
    if isinstance(value, str):
        return [value]
    if isinstance(value, (dict, list)):
        return [
            text for item in (value.values() if isinstance(value, dict) else value) for text in _texts(item)
        ]
    return []


def _body(*known: str) -> Callable[[dict[str, Any]], dict[str, Any]]:
    def check(body: dict[str, Any]) -> dict[str, Any]:
        unknown = [name for text in _texts(body) if (name := _unknown_placeholder(text, known)) is not None]
        if unknown:
            raise ValueError(
                f"holds the unknown placeholder {{{fields.shown(unknown[0])}}}; "
                f"known here: {_in_braces(known)}"
            )
        return body

    return check


def _scalars(extra: dict[str, Any]) -> dict[str, Any]:
    for name, value in extra.items():
        fields.query_name(name)
        if value is None or isinstance(value, (dict, list)):
            raise ValueError(f"'{name}' must be text, a number, true or false")
    return extra


def _check_names(names: list[str], extra: dict[str, Any]) -> None:
    twice = [name for name, count in Counter([*names, *extra]).items() if count > 1]
    if twice:
        raise ValueError(f"the query parameter '{twice[0]}' would be sent twice; give each its own name")


Path = Annotated[str, AfterValidator(_path())]
PathWithPk = Annotated[str, AfterValidator(_path("pk", needs=("pk",)))]
Extra = Annotated[dict[str, Any], AfterValidator(_scalars)]
WriteMethod = Literal["PATCH", "POST", "PUT"]


class _Entry(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)


class Login(_Entry):
    """The call that trades Omnitron's login and password for a token."""

    path: Path = Field(default="/api/v1/auth/login/", description="Where the login is sent.")
    token_path: DottedPath = Field(
        default="key", description="Where the token stands in the answer: a.b or a[0].b."
    )
    header: HeaderName = Field(default="Authorization", description="The header that carries the token.")
    prefix: Annotated[str, AfterValidator(fields.header_value)] = Field(
        default="Token", description="The word before the token; empty for none."
    )

    def token_header(self, token: str) -> tuple[str, str]:
        """Name and value of the header that later requests carry."""
        return self.header, f"{self.prefix} {token}".strip()


class Plans(_Entry):
    """The list of cancellation plans."""

    path: Path = Field(default="/api/v1/cancellation_plans/", description="Where plans are listed.")
    pk: DottedPath = Field(
        default="pk", description="The field of a plan that holds its number: a.b or a[0].b."
    )
    status: QueryName = Field(default="status", description="Parameter: the plan's status.")
    channel_type: QueryName = Field(default="channel_type", description="Parameter: the type of channel.")
    cancel_type: QueryName = Field(default="plan_type", description="Parameter: cancel or refund.")
    channel_ids: QueryName = Field(
        default="channel_id__in", description="Parameter: channel ids, joined by commas."
    )
    modified_after: QueryName = Field(
        default="modified_date__gt", description="Parameter: changed after this time."
    )
    modified_before: QueryName = Field(
        default="modified_date__lte", description="Parameter: changed until this time."
    )
    order: QueryName = Field(default="order_id", description="Parameter: the order's number.")
    page: QueryName = Field(default="page", description="Parameter: which page.")
    limit: QueryName = Field(default="limit", description="Parameter: plans per page.")
    extra: Extra = Field(default={}, description="Further parameters, sent with every list request.")

    @model_validator(mode="after")
    def _each_parameter_once(self) -> Self:
        names = [self.status, self.channel_type, self.cancel_type, self.channel_ids, self.modified_after]
        _check_names([*names, self.modified_before, self.order, self.page, self.limit], self.extra)
        return self


class OnePlan(_Entry):
    """One cancellation plan."""

    path: PathWithPk = Field(
        default="/api/v1/cancellation_plans/{pk}/", description="Where one plan is read."
    )


class WriteBack(_Entry):
    """The call that gives a plan its new status."""

    method: WriteMethod = Field(default="PATCH", description="The HTTP method.")
    path: Annotated[str, AfterValidator(_path("pk", "status", needs=("pk",)))] = Field(
        default="/api/v1/cancellation_plans/{pk}/",
        description="Where it is sent; {status} may stand here too.",
    )
    body: Annotated[dict[str, Any], AfterValidator(_body("pk", "status"))] = Field(
        default={"status": "{status}"}, description="What is sent."
    )

    @model_validator(mode="after")
    def _status_is_sent(self) -> Self:
        if not any("{status}" in text for text in [self.path, *_texts(self.body)]):
            raise ValueError("says nothing of the new status; put {status} into the path or the body")
        return self


class Transactions(_Entry):
    """The list of payment transactions; its page parameters are those of `plans`."""

    path: Path = Field(default="/api/v1/order_transactions/", description="Where transactions are listed.")
    pk: DottedPath = Field(
        default="pk", description="The field of a transaction that holds its number: a.b or a[0].b."
    )
    type: QueryName = Field(default="transaction_type", description="Parameter: the type of transaction.")
    type_word: Name = Field(default="return", description="The type that is asked for.")
    since: QueryName = Field(
        default="created_date__gte", description="Parameter: created at or after this time."
    )
    order_path: DottedPath = Field(
        default="order", description="Where the order's number stands in a transaction: a.b or a[0].b."
    )
    extra: Extra = Field(default={}, description="Further parameters, sent with every list request.")

    @model_validator(mode="after")
    def _each_parameter_once(self) -> Self:
        _check_names([self.type, self.since], self.extra)
        return self


class Mappings(_Entry):
    """The integration mappings of one transaction."""

    path: PathWithPk = Field(
        default="/api/v1/order_transactions/{pk}/get_mappings/",
        description="Where a transaction's mappings are read.",
    )


class CreateMapping(_Entry):
    """The call that marks a transaction as delivered."""

    method: WriteMethod = Field(default="POST", description="The HTTP method.")
    path: Annotated[str, AfterValidator(_path("pk", "code"))] = Field(
        default="/api/v1/order_transactions/{pk}/create_mapping/", description="Where it is sent."
    )
    body: Annotated[dict[str, Any], AfterValidator(_body("pk", "code"))] = Field(
        default={"code": "{code}"}, description="What is sent; {code} is the ERP's reference."
    )

    @model_validator(mode="after")
    def _transaction_is_named(self) -> Self:
        if not any("{pk}" in text for text in [self.path, *_texts(self.body)]):
            raise ValueError("does not name the transaction; put {pk} into the path or the body")
        return self


def _word(word: str) -> Any:
    return Field(default=word, description=f"Omnitron's word for {word}.")


class Words(_Entry):
    """What Omnitron calls the statuses and types."""

    waiting: Name = _word("waiting")
    confirmed: Name = _word("confirmed")
    completed: Name = _word("completed")
    confirmation_waiting: Name = _word("confirmation_waiting")
    approved: Name = _word("approved")
    rejected: Name = _word("rejected")
    cancel: Name = _word("cancel")
    refund: Name = _word("refund")


class Profile(_Entry):
    """Omnitron's API as this product calls it; `Profile()` is the contract's default."""

    login: Login = Login()
    plans: Plans = Plans()
    plan: OnePlan = OnePlan()
    write_back: WriteBack = WriteBack()
    transactions: Transactions = Transactions()
    mappings: Mappings = Mappings()
    create_mapping: CreateMapping = CreateMapping()
    words: Words = Words()

    def word(self, name: str) -> str:
        """Omnitron's word for a status or type of the settings; KeyError for any other name."""
        words: dict[str, str] = self.words.model_dump()
        return words[name]

    @staticmethod
    def fill(template: Any, **values: object) -> Any:
        """See the module's `fill`."""
        return fill(template, **values)
