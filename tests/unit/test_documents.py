"""The documents against the code: prose drifts unless it is held."""

from __future__ import annotations

import argparse
import json
import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import pytest

from docs.settings_table import tables, with_table
from include.order_cancel.__main__ import parser
from include.order_cancel.errors import SettingsError
from include.order_cancel.params import DESCRIPTIONS
from include.order_cancel.profile import Profile
from include.order_cancel.rows import Relation, State
from include.order_cancel.scripts.reading import form_of
from include.order_cancel.settings import loads, settings_table

ROOT = Path(__file__).resolve().parents[2]
README = ROOT / "README.md"
DOCUMENTS = [README, ROOT / "CHANGELOG.md", *sorted((ROOT / "docs").rglob("*.md"))]
PROGRAM = "python -m include.order_cancel"
SETTINGS_WITHOUT_EXAMPLE = (
    '{"omnitron": {"channel_type": "web", "cancel_status": "waiting", "next_state": "approved"},'
    ' "erp": {"cancellation_api_url": "/x"}}'
)
FENCE = re.compile(r"^ *```(\w*)\n(.*?)^ *```$", re.MULTILINE | re.DOTALL)


def text(document: Path) -> str:
    return document.read_text("utf-8")


def section(document: Path, title: str) -> str:
    """What stands below a heading, up to the next one of the same or a higher level."""
    found = re.search(rf"^(##+) {re.escape(title)}$", text(document), re.MULTILINE)
    assert found, f"{document.name} has no section {title}"
    rest = text(document)[found.end() :]
    end = re.search(rf"^#{{1,{len(found[1])}}} ", rest, re.MULTILINE)
    return rest[: end.start()] if end else rest


def first_column(markdown: str) -> list[str]:
    """The code spans in the first column of the tables, in order."""
    rows = re.findall(r"^\| (`.*?)(?<!\\) \|", markdown, re.MULTILINE)
    return [span for row in rows for span in re.findall(r"`([^`]+)`", row)]


def commands(root: argparse.ArgumentParser) -> dict[str, argparse.ArgumentParser]:
    (action,) = [one for one in root._actions if isinstance(one, argparse._SubParsersAction)]
    found: dict[str, argparse.ArgumentParser] = action.choices
    return found


def calls(document: Path) -> Iterator[str]:
    """Every call of the command line that stands in a document, in full or by its command alone."""
    prose = FENCE.sub("", text(document))
    for span in [
        *re.findall(r"`([^`\n]+)`", prose),
        *(line for _, block in blocks(document) for line in block),
    ]:
        words = span.removeprefix(PROGRAM).strip().replace("\\|", "|")
        if words.partition(" ")[0] in commands(parser()) and "--" in words:
            yield words


def blocks(document: Path) -> list[tuple[str, list[str]]]:
    return [(language, block.splitlines()) for language, block in FENCE.findall(text(document))]


def block(document: Path, language: str, part: str) -> str:
    """The only code block of this language that holds `part`."""
    found = ["\n".join(lines) for name, lines in blocks(document) if name == language]
    (one,) = [lines for lines in found if part in lines]
    return one


def anchors(document: Path) -> set[str]:
    """The anchors that GitHub gives to a document's headings."""
    titles = re.findall(r"^#+ (.*)$", FENCE.sub("", text(document)), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


@pytest.mark.parametrize("document", tables(), ids=lambda path: path.name)
def test_the_settings_tables_say_what_the_code_says(document: Path) -> None:
    written = text(document)

    assert written == with_table(written, tables()[document]), "run: python -m docs.settings_table"


def test_every_setting_is_in_a_table() -> None:
    written = [row for table in tables().values() for row in first_column(table)]

    assert sorted(written) == sorted(row.path for row in settings_table())


def test_the_make_commands_are_the_makefiles_targets() -> None:
    targets = re.findall(r"^([a-z-]+):.*## ", text(ROOT / "Makefile"), re.MULTILINE)
    described = [span for span in first_column(section(README, "Try it")) if span.startswith("make ")]

    assert sorted(described) == sorted(f"make {target}" for target in targets)


def test_the_environment_variables_of_the_demo_are_those_that_it_reads() -> None:
    code = "".join(text(path) for path in (ROOT / "include" / "demo").glob("*.py"))
    described = {span for span in first_column(section(README, "Try it")) if span.startswith("DEMO_")}

    assert described == set(re.findall(r'"(DEMO_[A-Z_]+)"', code))


@pytest.mark.parametrize("variable", ["PYTHON", "ORDER_CANCEL_TEST_POSTGRES", "REQUIRE_SERVICES"])
def test_the_other_environment_variables_are_read(variable: str) -> None:
    code = "".join(text(path) for path in (ROOT / ".ci" / "install", *(ROOT / "tests").glob("*.py")))

    assert variable in first_column(section(README, "Try it"))
    assert re.search(rf"\b{variable}\b", code)


def test_the_command_line_is_described_as_it_is() -> None:
    described = {span.partition(" ")[0] for span in first_column(section(README, "Command line"))}

    assert described == set(commands(parser()))


def test_the_options_in_the_table_of_commands_exist() -> None:
    for row in re.findall(r"^\| (`.*) \|$", section(README, "Command line"), re.MULTILINE):
        name = row[1:].split()[0].strip("`")
        command = commands(parser())[name]
        known = set(command._option_string_actions)
        if name == "test":
            known = set(commands(command)["script"]._option_string_actions)

        assert set(re.findall(r"--[a-z-]+", row)) <= known, row


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_every_call_in_the_documents_is_one_that_the_command_line_takes(document: Path) -> None:
    for call in calls(document):
        parser().parse_args(shlex.split(call.replace("...", "R")))


def test_the_params_of_a_run_are_described() -> None:
    assert sorted(first_column(section(ROOT / "docs" / "operations.md", "Params of a run"))) == sorted(
        DESCRIPTIONS
    )


def test_every_state_has_its_advice() -> None:
    described = first_column(section(ROOT / "docs" / "operations.md", "A plan's state, and what to do"))

    assert sorted(described) == sorted(State)


def test_every_relation_is_explained() -> None:
    explained = first_column(section(ROOT / "docs" / "operations.md", "What an answer means"))

    assert explained == list(Relation)


def test_every_entry_of_the_profile_is_graded() -> None:
    table = text(ROOT / "docs" / "omnitron-api.md").partition("## Find out")[0]
    graded = {span.partition(".")[0] for span in first_column(table)}

    assert graded - {"omnitron"} == set(Profile.model_fields)


def test_the_example_of_a_first_flow_is_valid_settings() -> None:
    example = block(README, "json", '"mapping"').replace('{"file": "cancels/mapping.json"}', "null")

    assert loads(example, flow="cancels").steps == ("write_to_erp", "write_to_omnitron")


def test_the_example_of_overrides_is_valid_settings() -> None:
    overrides = json.loads(block(ROOT / "docs" / "omnitron-api.md", "json", '"api"'))
    given = json.loads(SETTINGS_WITHOUT_EXAMPLE)
    given["omnitron"] |= overrides["omnitron"]

    settings = loads(json.dumps(given), flow="cancels")

    assert settings.omnitron.api.word("approved") == "APPROVED"


def test_settings_of_the_documents_are_checked_at_all() -> None:
    with pytest.raises(SettingsError):
        loads(SETTINGS_WITHOUT_EXAMPLE.replace("/x", "x"), flow="cancels")


def test_the_examples_of_new_scripts_are_of_the_plain_form() -> None:
    example = block(ROOT / "docs" / "migrate-from-integrator.md", "python", "def transform")

    assert [form_of(example, kind) for kind in ("script", "response", "post")] == ["plain"] * 3


def test_every_decision_is_listed() -> None:
    notes = {path.name for path in (ROOT / "docs" / "decisions").glob("*.md")} - {"README.md"}

    assert set(re.findall(r"\]\(([\w-]+\.md)\)", text(ROOT / "docs" / "decisions" / "README.md"))) == notes


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_links_lead_somewhere(document: Path) -> None:
    for target in re.findall(r"\]\(([^)\s]+)\)", FENCE.sub("", text(document))):
        if target.startswith("https://"):
            continue
        file, _, anchor = target.partition("#")
        place = (document.parent / file).resolve() if file else document

        assert place.exists(), f"{document.name}: {target}"
        assert not anchor or anchor in anchors(place), f"{document.name}: {target}"
