from __future__ import annotations

import copy
import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from include.order_cancel import settings as subject
from include.order_cancel.errors import SettingsError
from include.order_cancel.profile import Profile
from include.order_cancel.secrecy import looks_secret
from tests.shares import examples

CASES = Path(__file__).parents[1] / "cases" / "settings"
FLOWS = CASES / "flows"
VALID: dict[str, Any] = json.loads((CASES / "base" / "valid.json").read_text(encoding="utf-8"))
SCRIPT = "def transform(plan, attributes):\n    return plan\n"
JOLT = '[{"operation": "shift", "spec": {"pk": "number"}}]'
LOGIN = {"url": "/token", "body": {"user": "{{ login }}", "password": "{{ password }}"}}


def changed(change: dict[str, Any], remove: tuple[str, ...] | list[str] = ()) -> dict[str, Any]:
    """The valid settings with the given dotted fields changed or removed."""
    raw = copy.deepcopy(VALID)
    for path in remove:
        holder, name = _holder(raw, path)
        del holder[name]
    for path, value in change.items():
        holder, name = _holder(raw, path)
        holder[name] = value
    return raw


def _holder(raw: dict[str, Any], path: str) -> tuple[dict[str, Any], str]:
    *sections, name = path.split(".")
    for section in sections:
        raw = raw.setdefault(section, {})
    return raw, name


def loaded(change: dict[str, Any] | None = None, **more: Any) -> subject.FlowSettings:
    return subject.load(changed(change or {}), flow="demo", **more)


def problems_of(raw: Any, files: Path | None = None, flow: str = "demo") -> list[tuple[str, str]]:
    with pytest.raises(SettingsError) as caught:
        subject.load(raw, flow=flow, files=files)
    return [(problem.path, problem.message) for problem in caught.value.problems]


@pytest.mark.parametrize("path", sorted(CASES.glob("*.json")), ids=lambda path: path.stem)
def test_golden_bad_settings(path: Path) -> None:
    case = json.loads(path.read_text(encoding="utf-8"))
    text = case.get("text") or json.dumps(changed(case.get("change", {}), case.get("remove", [])))

    with pytest.raises(SettingsError) as caught:
        subject.loads(text, flow="demo", files=FLOWS)

    found = [{"path": problem.path, "message": problem.message} for problem in caught.value.problems]
    assert found == case["problems"]


def test_there_are_at_least_forty_golden_cases() -> None:
    assert len(list(CASES.glob("*.json"))) >= 40


def test_the_defaults_are_the_contracts() -> None:
    settings = subject.load(changed({}, remove=["schedule", "timezone"]), flow="demo")

    assert settings.model_dump(exclude={"omnitron": {"api"}}) == {
        "schedule": None,
        "timezone": "UTC",
        "omnitron": {
            "conn_id": "omnitron",
            "channel_type": "sales_channel",
            "cancel_type": "all",
            "cancel_status": "waiting",
            "channel_ids": (),
            "next_state": "approved",
            "start_from": None,
            "transactions_since": None,
            "overlap_seconds": 300,
            "page_size": 100,
            "max_plans": 5000,
            "look_again_seconds": 600,
        },
        "script": None,
        "mapping": None,
        "post_script": None,
        "scripts": {"timeout_seconds": 30, "memory_mb": 512, "network": True, "confinement": "best_effort"},
        "erp": {
            "conn_id": "erp",
            "cancellation_api_url": "/cancellations",
            "http_method": "POST",
            "login": None,
            "custom_response": False,
            "custom_response_script": None,
            "refusal": "failed",
            "not_done": (408, 425, 429),
            "refused": (
                *(301, 307, 308, 400, 402, 403, 404, 405, 406, 409, 410, 411, 413, 414, 415, 416, 417),
                *(421, 422, 423, 424, 426, 428, 431, 451),
            ),
            "rejects": (400, 409, 410, 422),
            "refused_path": None,
            "in_doubt": "hold",
            "lookup": None,
            "idempotency_header": "Idempotency-Key",
            "reference_path": None,
            "timeout_seconds": 30,
            "max_in_flight": 64,
            "requests_per_second": None,
        },
        "fan_out": 50,
        "lots": 4,
        "max_attempts": None,
        "retention": {"bodies_days": 30, "rows_days": 365},
        "alerts": (),
    }
    assert settings.omnitron.api == Profile()


def test_a_logins_defaults_are_the_contracts() -> None:
    login = loaded({"erp.login": {"url": "/token"}}).erp.login

    assert login is not None
    assert (login.method, login.token_path, login.expires_path, login.header, login.prefix) == (
        "POST",
        "token",
        "expires_in",
        "Authorization",
        "Bearer",
    )


def with_path(field: str, path: str) -> dict[str, Any]:
    """Changed settings in which `field` is `path`."""
    section, _, name = field.rpartition(".")
    if section == "erp":
        return {field: path}
    holders: dict[str, dict[str, Any]] = {
        "erp.login": LOGIN,
        "erp.lookup": {"url": "/documents/{{ key }}"},
    }
    if section in holders:
        return {
            "erp.in_doubt": "lookup",
            "erp.lookup": holders["erp.lookup"],
            section: {**holders[section], name: path},
        }
    return {"omnitron.api": {section.rpartition(".")[2]: {name: path}}}


ANSWERED = ["erp.login.token_path", "erp.login.expires_path", "erp.lookup.found_path", "erp.reference_path"]
DOCUMENTS = [
    "omnitron.api.login.token_path",
    "omnitron.api.plans.pk",
    "omnitron.api.transactions.order_path",
]


@pytest.mark.parametrize(
    "path", ["value[*].id", "$..id", "a[-1]", "a[?(@.b)]", "a['b']", "a[0", "/a/b", "a..b"]
)
@pytest.mark.parametrize("field", [*ANSWERED, *DOCUMENTS])
def test_a_path_in_another_notation_is_refused_and_its_field_named(field: str, path: str) -> None:
    ((named, message),) = problems_of(changed(with_path(field, path)))

    assert named == field
    assert "write a.b.0.c, a[0].b or $.a[0].b" in message


@pytest.mark.parametrize("path", ["a.b.0.c", "a[0].b", "value[0].id", "$.a[0].b", "$[0].id"])
@pytest.mark.parametrize("field", [*ANSWERED, *DOCUMENTS])
def test_the_notations_of_the_contract_are_taken_for_every_path(field: str, path: str) -> None:
    loaded(with_path(field, path))


@pytest.mark.parametrize("field", [*ANSWERED, *DOCUMENTS])
def test_a_header_is_a_path_only_where_an_answer_is_read(field: str) -> None:
    raw = changed(with_path(field, "header:X-Number"))

    if field in ANSWERED:
        subject.load(raw, flow="demo")
    else:
        assert [named for named, _ in problems_of(raw)] == [field]


@pytest.mark.parametrize(
    ("name", "known"),
    [
        ("key", True),
        ("plan.pk", True),
        ("body.rows[0].no", True),
        ("body[0].no", True),
        ("plan.items.0.sku", True),
        ("plan", False),
        ("key.x", False),
        ("plan..pk", False),
        ("plan[*].pk", False),
        ("order.pk", False),
    ],
)
def test_a_lookup_takes_paths_of_plan_and_body(name: str, known: bool) -> None:
    lookup = {"erp.in_doubt": "lookup", "erp.lookup": {"url": f"/documents/{{{{ {name} }}}}"}}

    if known:
        loaded(lookup)
    else:
        assert [field for field, _ in problems_of(changed(lookup))] == ["erp.lookup.url"]


@pytest.mark.parametrize(
    ("given_ids", "expected"),
    [
        ("1, 2,3", (1, 2, 3)),
        (" 7 ", (7,)),
        ([3, 1], (3, 1)),
        (["3", 1, 3], (3, 1)),
        ("", ()),
        ("  ", ()),
        ([], ()),
        (None, ()),
    ],
)
def test_channel_ids_are_a_tuple_however_they_were_typed(
    given_ids: object, expected: tuple[int, ...]
) -> None:
    settings = loaded({"omnitron.channel_ids": given_ids})

    assert settings.omnitron.channel_ids == expected


def test_times_are_aware_and_in_utc() -> None:
    settings = loaded(
        {
            "omnitron.cancel_status": "completed",
            "omnitron.next_state": None,
            "omnitron.start_from": "2025-01-31T03:00:00+03:00",
        }
    )

    assert settings.omnitron.start_from == datetime(2025, 1, 31, tzinfo=UTC)
    assert settings.snapshot()["omnitron"]["start_from"] == "2025-01-31T00:00:00Z"


@pytest.mark.parametrize("alerts", [None, "none", [], {}])
def test_no_alerts_can_be_said_in_several_ways(alerts: object) -> None:
    assert loaded({"alerts": alerts}).alerts == ()


def test_settings_cannot_be_changed() -> None:
    settings = loaded()

    with pytest.raises(ValueError, match="frozen"):
        settings.omnitron.page_size = 5


def test_a_file_below_the_flows_folder_is_read_at_once() -> None:
    settings = loaded({"script": {"file": "demo/script.py"}}, files=FLOWS)

    assert settings.script is not None
    assert settings.script.file == "demo/script.py"
    assert settings.script.text == (FLOWS / "demo" / "script.py").read_text(encoding="utf-8")


def test_a_link_out_of_the_flows_folder_is_refused(tmp_path: Path) -> None:
    flows = tmp_path / "flows"
    flows.mkdir()
    (tmp_path / "secret.py").write_text(SCRIPT, encoding="utf-8")
    (flows / "link.py").symlink_to(tmp_path / "secret.py")

    found = problems_of(changed({"script": {"file": "link.py"}}), flows)

    message = "'link.py' is a link that leads out of the flows folder; copy the file there"
    assert found == [("script.file", message)]


def test_a_link_inside_the_flows_folder_is_followed(tmp_path: Path) -> None:
    (tmp_path / "real.py").write_text(SCRIPT, encoding="utf-8")
    (tmp_path / "link.py").symlink_to(tmp_path / "real.py")

    settings = loaded({"script": {"file": "link.py"}}, files=tmp_path)

    assert settings.script is not None
    assert settings.script.text == SCRIPT


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"#" * (256 * 1024 + 1), "'a.py' is larger than 256 KB; shorten it"),
        (b"\xff\xfe", "'a.py' is not UTF-8 text (byte 0); save it as UTF-8"),
        (b" \n", "'a.py' is empty; use null to leave this step out"),
        (b"a\x00b", "'a.py' holds a NUL character; remove it"),
    ],
)
def test_a_file_that_is_no_script_is_refused_by_name(tmp_path: Path, content: bytes, message: str) -> None:
    (tmp_path / "a.py").write_bytes(content)

    found = problems_of(changed({"script": {"file": "a.py"}}), tmp_path)

    assert found == [("script.file", message)]


@pytest.mark.parametrize("name", ["a" * 5000, "a\x00b", "loop"])
def test_a_path_that_the_system_refuses_is_a_problem(tmp_path: Path, name: str) -> None:
    (tmp_path / "loop").symlink_to(tmp_path / "loop")

    found = problems_of(changed({"script": {"file": name}}), tmp_path)

    assert [path for path, _ in found] == ["script.file"]


def test_files_cannot_be_named_where_no_folder_is_known() -> None:
    found = problems_of(changed({"script": {"file": "demo/script.py"}}))

    message = "cannot be read here, where no flows folder is known; give the text itself"
    assert found == [("script.file", message)]


def test_an_inline_script_over_256_kb_is_refused() -> None:
    found = problems_of(changed({"script": "#" * (256 * 1024 + 1)}))

    assert found == [("script", "is larger than 256 KB; shorten it")]


def test_a_mapping_may_stand_in_the_settings_as_json() -> None:
    settings = loaded({"mapping": json.loads(JOLT)})

    assert settings.mapping is not None
    assert json.loads(settings.mapping.text) == json.loads(JOLT)


@pytest.mark.parametrize(
    ("path", "text"),
    [
        ("mapping", '[{"operation": "shft", "spec": {}}]'),
        ("mapping", "no json"),
        ("mapping", "[]"),
        ("script", "def transform(plan:"),
        ("script", "print('nothing here')"),
        ("script", "def respond(request, response, attributes): ..."),
        ("erp.custom_response_script", "def respond(request): ..."),
        ("post_script", "def transform(plan, attributes): ..."),
        ("script", "flowFile = session.get()\nif flowFile is None:\n    return"),
        ("script", "import json\nfrom __future__ import division\nsession.get()"),
        ("erp.custom_response_script", "import airflow\ndef respond(request, response, attributes): ..."),
        ("erp.custom_response_script", "from urllib import urlencode\nsession.get()"),
        ("post_script", "def after(request, response, attributes):\n    print >>log, response"),
        ("post_script", "def after(request, response, attributes):\n    yield response"),
        ("script", "class Change:\n    def process(self): ..."),
    ],
)
def test_what_does_not_compile_is_a_problem_of_its_field(path: str, text: str) -> None:
    found = problems_of(changed({path: text, "erp.custom_response": True, "fan_out": -1}))

    assert [found_path for found_path, _ in found] == ["fan_out", path]


def test_a_wrong_flow_name_is_told_with_the_other_problems() -> None:
    found = problems_of(changed({"fan_out": -1}), flow="Demo Flow")

    assert [path for path, _ in found] == ["flow", "fan_out"]


@pytest.mark.parametrize("name", ["a", "demo_cancels", "a" * 40, "x9_"])
def test_good_flow_names_pass(name: str) -> None:
    assert subject.check_flow_name(name) == name


@pytest.mark.parametrize("name", ["", "A", "9a", "_a", "a-b", "a" * 41, "a\n", "ş"])
def test_bad_flow_names_are_refused(name: str) -> None:
    with pytest.raises(SettingsError, match="cannot be a flow's name"):
        subject.check_flow_name(name)


@pytest.mark.parametrize(
    ("change", "steps"),
    [
        ({}, ("write_to_erp", "write_to_omnitron")),
        ({"mapping": JOLT}, ("mapping", "write_to_erp", "write_to_omnitron")),
        (
            {
                "script": SCRIPT,
                "mapping": JOLT,
                "post_script": "def after(request, response, attributes): ...",
            },
            ("script", "mapping", "write_to_erp", "write_to_omnitron", "post_script"),
        ),
    ],
)
def test_steps_are_the_configured_ones_in_order(change: dict[str, Any], steps: tuple[str, ...]) -> None:
    assert loaded(change).steps == steps


@pytest.mark.parametrize(
    ("status", "next_state", "writes"),
    [
        ("waiting", "approved", True),
        ("confirmed", "confirmed", False),
        ("confirmation_waiting", "confirmed", True),
        ("completed", None, False),
        ("completed", "completed", False),
        ("order_transaction", None, False),
        ("order_transaction", "confirmed", False),
    ],
)
def test_a_status_is_written_where_one_is_due(status: str, next_state: str | None, writes: bool) -> None:
    settings = loaded(
        {
            "omnitron.cancel_status": status,
            "omnitron.next_state": next_state,
            "omnitron.start_from": "2025-01-01T00:00:00Z",
            "omnitron.transactions_since": "2025-01-01T00:00:00Z",
        }
    )

    assert settings.writes_status is writes


@pytest.mark.parametrize(
    ("change", "warning"),
    [
        (
            {"omnitron.cancel_status": "confirmed", "omnitron.next_state": "confirmed"},
            "omnitron.next_state: equals cancel_status: no status is written",
        ),
        (
            {
                "omnitron.cancel_status": "order_transaction",
                "omnitron.transactions_since": "2025-01-01T00:00:00Z",
            },
            "omnitron.next_state: has no effect for cancel_status 'order_transaction': no status is written",
        ),
        (
            {"omnitron.start_from": "2025-01-01T00:00:00Z"},
            "omnitron.start_from: has an effect for cancel_status 'completed' only",
        ),
        (
            {"omnitron.transactions_since": "2025-01-01T00:00:00Z"},
            "omnitron.transactions_since: has an effect for cancel_status 'order_transaction' only",
        ),
        (
            {"erp.custom_response_script": "def respond(request, response, attributes): ..."},
            "erp.custom_response_script: is not used while custom_response is false",
        ),
        (
            {"erp.custom_response": True, "erp.refusal": "failure"},
            "erp.refusal: has no effect while custom_response is true: the script decides",
        ),
        (
            {"erp.in_doubt": "lookup", "erp.lookup": {"url": "/documents", "found_path": "number"}},
            "erp.lookup.url: names no plan (no {{ plan.x }}, {{ body.x }} or {{ key }}): its answer is about any plan",
        ),
        (
            {"erp.in_doubt": "lookup", "erp.lookup": {"url": "/documents?key={{ key }}"}},
            "erp.lookup.found_path: is null, so that an empty list counts as 'it arrived'; name what stands in the "
            "answer only where it did",
        ),
        (
            {"erp.lookup": {"url": "/documents/{{ key }}"}},
            "erp.lookup: is not used unless in_doubt is 'lookup'",
        ),
        (
            {"erp.cancellation_api_url": "/c?api_key=abc"},
            "erp.cancellation_api_url: seems to hold a secret, which everyone who sees the settings sees",
        ),
        (
            {"erp.conn_id": "omnitron"},
            "erp.conn_id: is Omnitron's Connection too, so the ERP gets Omnitron's credentials",
        ),
        (
            {"erp.http_method": "GET"},
            "erp.http_method: GET sends a flat body, but a plan is nested; give a mapping or a script",
        ),
        (
            {"retention.rows_days": 10},
            "retention.bodies_days: bodies go with their rows, after rows_days",
        ),
    ],
)
def test_what_is_probably_not_meant_is_warned_about(change: dict[str, Any], warning: str) -> None:
    assert loaded(change).warnings == (warning,)


def test_plain_settings_warn_of_nothing() -> None:
    assert loaded().warnings == ()


FULL = {
    "omnitron.channel_ids": "1, 2",
    "omnitron.cancel_status": "completed",
    "omnitron.start_from": "2025-01-31T03:00:00+03:00",
    "omnitron.api": {"words": {"approved": "ok"}, "plans": {"extra": {"x": True}}},
    "script": {"file": "demo/script.py"},
    "mapping": JOLT,
    "erp.login": LOGIN,
    "erp.in_doubt": "lookup",
    "erp.lookup": {"url": "/documents/{{ key }}", "found_path": "number"},
    "erp.requests_per_second": 2.5,
}


def test_a_snapshot_gives_equal_settings_without_the_files() -> None:
    settings = loaded(FULL, files=FLOWS)

    again = subject.from_snapshot(json.loads(json.dumps(settings.snapshot())), flow="demo")

    assert again == settings
    assert again.digest == settings.digest


def test_a_snapshot_of_the_default_is_equal_too() -> None:
    assert subject.from_snapshot(loaded().snapshot(), flow="demo") == loaded()


def test_the_digest_follows_the_contents_of_a_file(tmp_path: Path) -> None:
    (tmp_path / "a.py").write_text(SCRIPT, encoding="utf-8")
    before = loaded({"script": {"file": "a.py"}}, files=tmp_path).digest
    (tmp_path / "a.py").write_text(SCRIPT + "# more\n", encoding="utf-8")

    after = loaded({"script": {"file": "a.py"}}, files=tmp_path).digest

    assert before != after


def test_the_digest_ignores_how_a_value_was_typed() -> None:
    one = loaded({"omnitron.channel_ids": "1, 2", "erp.timeout_seconds": 30})
    other = loaded({"omnitron.channel_ids": [1, 2], "erp.timeout_seconds": 30.0})

    assert one.digest == other.digest


def test_a_snapshot_that_is_none_is_refused() -> None:
    with pytest.raises(SettingsError, match="lots"):
        subject.from_snapshot({**loaded().snapshot(), "lots": "four"}, flow="demo")


def test_a_login_takes_the_connections_values() -> None:
    body = {**LOGIN["body"], "scopes": ["{{ extra.scope }}", 5]}  # type: ignore[dict-item]
    login = loaded(
        {
            "erp.login": {
                "url": "/{{ extra.tenant }}/token",
                "body": body,
                "headers": {"X-Api-Key": "k {{ extra.key }}"},
            }
        }
    ).erp.login
    values = {
        "login": "ayşe",
        "password": "{{ login }}",
        "extra.scope": "all",
        "extra.tenant": "a/b",
        "extra.key": "x",
    }

    assert login is not None
    request = login.rendered(values.__getitem__)

    assert request.url == "/a%2Fb/token"
    assert request.body == {"user": "ayşe", "password": "{{ login }}", "scopes": ["all", 5]}
    assert request.headers == {"X-Api-Key": "k x"}
    assert not request.is_form
    assert "ayşe" not in repr(request)


def test_a_login_may_be_a_form() -> None:
    headers = {"content-type": "application/x-www-form-urlencoded"}
    login = loaded({"erp.login": {**LOGIN, "headers": headers}}).erp.login

    assert login is not None
    assert login.is_form


@pytest.mark.parametrize(("prefix", "value"), [("Bearer", "Bearer abc"), ("", "abc")])
def test_the_token_header_has_one_blank_or_none(prefix: str, value: str) -> None:
    login = loaded({"erp.login": {**LOGIN, "prefix": prefix}}).erp.login

    assert login is not None
    assert login.token_header("abc") == ("Authorization", value)


def test_a_lookup_url_takes_plan_body_and_key() -> None:
    lookup = loaded(
        {
            "erp.in_doubt": "lookup",
            "erp.lookup": {"url": "/d/{{ plan.order.number }}?b={{ body.no }}&k={{ key }}"},
        }
    ).erp.lookup
    values = {"plan.order.number": "10 0", "body.no": "ü&x", "key": "abc"}

    assert lookup is not None
    assert lookup.rendered(values.__getitem__) == "/d/10%200?b=%C3%BC%26x&k=abc"


@pytest.mark.parametrize("value", ["", ".", ".."])
def test_a_value_that_would_change_the_lookups_path_is_refused(value: str) -> None:
    lookup = loaded({"erp.in_doubt": "lookup", "erp.lookup": {"url": "/d/{{ key }}"}}).erp.lookup

    assert lookup is not None
    with pytest.raises(ValueError, match="cannot stand in a path"):
        lookup.rendered(lambda _: value)


@pytest.mark.parametrize(
    "name",
    ["password", "userPassword", "client_secret", "X-Api-Key", "apikey", "access_token", "pwd", "pass",
     "Authorization", "refreshToken", "şifre", "SIFRE", "Cookie", "API KEY"],
)  # fmt: skip
def test_names_that_look_secret(name: str) -> None:
    assert looks_secret(name)


@pytest.mark.parametrize(
    "name", ["user", "grant_type", "token_type", "client_id", "Content-Type", "compass", "token_url", "", "9"]
)
def test_names_that_do_not_look_secret(name: str) -> None:
    assert not looks_secret(name)


def test_a_secret_never_stands_in_a_message() -> None:
    found = problems_of(
        changed(
            {
                "erp.cancellation_api_url": "https://u:hunter2@erp.example.com",
                "erp.login": {
                    "url": "https://u:hunter2@erp.example.com",
                    "headers": {"Authorization": "hunter2"},
                    "body": {"password": "hunter2"},
                    "token_path": 5,
                },
            }
        )
    )

    assert len(found) == 5
    assert "hunter2" not in str(found)


OTHER = {"omnitron.channel_type": "web"}


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ({}, OTHER),
        ({"omnitron.cancel_type": "cancel"}, {"omnitron.cancel_type": "refund"}),
        ({"omnitron.channel_ids": [1, 2]}, {"omnitron.channel_ids": [3]}),
        ({}, {"omnitron.cancel_status": "confirmed"}),
        ({}, {"omnitron.conn_id": "omnitron_b"}),
        (
            {"omnitron.api": {"plans": {"extra": {"store": 1}}}},
            {"omnitron.api": {"plans": {"extra": {"store": 2}}}},
        ),
    ],
)
def test_flows_that_share_no_plan_do_not_overlap(one: dict[str, Any], other: dict[str, Any]) -> None:
    assert subject.overlaps({"a": loaded(one), "b": loaded(other)}) == []


def test_an_overlap_is_told_with_what_the_flows_share() -> None:
    flows = {
        "b": loaded({"omnitron.channel_ids": "2, 3", "omnitron.cancel_type": "refund"}),
        "a": loaded({"omnitron.channel_ids": "1, 2"}),
        "c": loaded(OTHER),
    }

    assert subject.overlaps(flows) == [
        "flows 'a' and 'b' both take waiting refund plans of channel type 'sales_channel' in channels 2 "
        "from Connection 'omnitron'; such a plan would be sent by each"
    ]


def test_completed_and_order_transaction_flows_overlap() -> None:
    completed = {"omnitron.cancel_status": "completed", "omnitron.start_from": "2025-01-01T00:00:00Z"}
    transactions = {
        "omnitron.cancel_status": "order_transaction",
        "omnitron.transactions_since": "2025-01-01T00:00:00Z",
        "omnitron.next_state": None,
    }

    found = subject.overlaps({"a": loaded(completed), "b": loaded(transactions)})

    assert len(found) == 1
    assert "completed plans" in found[0]
    assert "all channels" in found[0]


def test_the_schema_titles_and_describes_every_field() -> None:
    schema = subject.json_schema()
    properties = [
        (name, entry)
        for node in (schema, *schema["$defs"].values())
        for name, entry in node["properties"].items()
    ]

    assert [name for name, entry in properties if not entry.get("title") and "$ref" not in entry] == []
    rows = subject.settings_table()
    assert [row.path for row in rows if not row.description or not row.values] == []


def test_the_schema_is_plain_json_and_refuses_unknown_fields() -> None:
    schema = json.loads(json.dumps(subject.json_schema()))

    assert schema["additionalProperties"] is False
    assert schema["required"] == ["omnitron", "erp"]
    assert schema["properties"]["mapping"]["anyOf"][1] == {"type": "string"}


def test_the_table_names_every_field_of_the_contract() -> None:
    rows = {row.path: row for row in subject.settings_table()}

    assert rows["omnitron.channel_type"].default == "required"
    assert rows["omnitron.page_size"].values == "integer, 1 to 500"
    assert rows["omnitron.page_size"].default == "100"
    assert rows["erp.http_method"].values == "POST, GET, PUT, PATCH"
    assert rows["erp.login.token_path"].default == '"token"'
    assert rows["omnitron.api.plans.cancel_type"].default == '"plan_type"'
    assert {
        "schedule",
        "alerts",
        "retention.rows_days",
        "scripts.network",
        "erp.lookup.found_path",
    } <= rows.keys()


def test_text_over_1_mb_is_refused() -> None:
    with pytest.raises(SettingsError, match="larger than 1 MB"):
        subject.loads('{"a": "' + "x" * 1024 * 1024 + '"}', flow="demo")


def test_values_over_1_mb_are_refused() -> None:
    assert problems_of({"a": "x" * 1024 * 1024}) == [
        ("", "is larger than 1 MB; move scripts and mappings into files")
    ]


@pytest.mark.parametrize("text", ["[" * 100_000, '{"a":' * 100_000])
def test_text_nested_too_deep_is_refused(text: str) -> None:
    with pytest.raises(SettingsError, match="nested deeper"):
        subject.loads(text, flow="demo")


def test_values_nested_too_deep_are_refused() -> None:
    value: dict[str, Any] = {}
    for _ in range(100_000):
        value = {"a": value}

    assert problems_of(value)[0][1] == "is nested deeper than 60 levels; flatten it"


def test_a_number_of_thousands_of_digits_is_refused() -> None:
    with pytest.raises(SettingsError, match="thousands of digits"):
        subject.loads('{"fan_out": ' + "9" * 5000 + "}", flow="demo")


def test_thousands_of_unknown_fields_are_summed_up() -> None:
    found = problems_of(changed({f"field_{number}": 1 for number in range(3000)}))

    assert len(found) == 201
    assert found[200] == ("", "and 2800 more problems of this kind")


@pytest.mark.parametrize("value", [None, 5, "x", [], [{}], float("nan"), {5: 1}, {"a": {1, 2}}, {"a": b"x"}])
def test_what_is_no_json_object_is_refused(value: object) -> None:
    assert problems_of(value)


SCALARS = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(st.characters(), max_size=30)
    | st.sampled_from(
        ["", "{{", "{{ login }}", "{pk}", "//x", "https://[", "@daily", "* * * * *", "[]", "{}"]
    )
)
JSON_VALUES = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=10), inner, max_size=4),
    max_leaves=12,
)
PATHS = st.sampled_from(
    [row.path for row in subject.settings_table()]
    + ["omnitron", "erp", "omnitron.api", "omnitron.api.plans", "omnitron.api.words", "scripts", "retention"]
)


@examples(400)
@given(JSON_VALUES)
def test_any_value_ends_in_settings_or_a_settings_error(value: Any) -> None:
    with pytest.raises(SettingsError) as caught:
        subject.load(value, flow="demo", files=FLOWS)

    assert caught.value.problems


@examples(600)
@given(st.dictionaries(PATHS, JSON_VALUES, min_size=1, max_size=5))
def test_any_change_of_good_settings_ends_in_settings_or_a_settings_error(change: dict[str, Any]) -> None:
    raw = copy.deepcopy(VALID)
    for path, value in change.items():
        *sections, name = path.split(".")
        holder: Any = raw
        for section in sections:
            holder[section] = holder[section] if isinstance(holder.get(section), dict) else {}
            holder = holder[section]
        holder[name] = value

    try:
        settings = subject.load(raw, flow="demo", files=FLOWS)
    except SettingsError:
        return
    assert subject.from_snapshot(settings.snapshot(), flow="demo") == settings
    assert isinstance(settings.warnings, tuple)


@examples(300)
@given(st.text(st.characters(), max_size=60) | JSON_VALUES.map(json.dumps))
def test_any_text_ends_in_settings_or_a_settings_error(text: str) -> None:
    with pytest.raises(SettingsError):
        subject.loads(text, flow="demo", files=FLOWS)
