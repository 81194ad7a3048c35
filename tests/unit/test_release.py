"""`make release`: what it finds in a tree that is not ready, and that it finds nothing in one that is."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from docs import release

FILES = (
    "pyproject.toml",
    "README.md",
    "docs/omnitron-api.md",
    *release._SOURCES,
    *{source for sources in release._SOURCES.values() for source in sources},
)


def git(root: Path, *words: str) -> None:
    person = ("-c", "user.name=A", "-c", "user.email=a@b.example", "-c", "commit.gpgsign=false")
    subprocess.run(
        [shutil.which("git") or "git", "-C", root, *person, *words], check=True, capture_output=True
    )


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A repository of version 9.8.7 that is ready."""
    for name in FILES:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        shutil.copy(release.ROOT / name, tmp_path / name)
    project = tmp_path / "pyproject.toml"
    project.write_text(
        re.sub(r'^version = ".*"$', 'version = "9.8.7"', project.read_text(), flags=re.MULTILINE)
    )
    (tmp_path / "CHANGELOG.md").write_text("## [Unreleased]\n\n## [9.8.7] - 2026-01-31\n\n- all\n")
    git(tmp_path, "init", "-q")
    commit(tmp_path)
    return tmp_path


def commit(root: Path) -> None:
    git(root, "add", "-A")
    git(root, "commit", "-qm", "x")


def test_a_tree_that_is_ready_has_no_problems(tree: Path) -> None:
    assert list(release.problems(tree)) == []


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("## [Unreleased]\n\n- all\n", "no section '## [9.8.7]"),
        ("## [9.8.7]\n\n- all\n", "the section of 9.8.7 has no date"),
        ("## [Unreleased]\n\n- one more\n\n## [9.8.7] - 2026-01-31\n", "still has entries under Unreleased"),
    ],
)
def test_the_changelog_must_have_the_version_with_a_date(tree: Path, text: str, words: str) -> None:
    (tree / "CHANGELOG.md").write_text(text)
    commit(tree)

    assert words in "\n".join(release.problems(tree))


def test_the_tree_must_be_clean(tree: Path) -> None:
    (tree / "new").touch()

    assert list(release.problems(tree)) == ["the tree is not clean: 1 files are not committed"]


def test_a_version_is_released_once(tree: Path) -> None:
    git(tree, "tag", "v9.8.7")

    assert list(release.problems(tree)) == ["v9.8.7 is tagged already; raise the version in pyproject.toml"]


def test_locks_must_hold_what_the_requirements_name(tree: Path) -> None:
    wanted = tree / "requirements.txt"
    wanted.write_text(wanted.read_text().replace("http==6.3.0", "http==6.9.9") + "left-pad\n")
    commit(tree)

    found = list(release.problems(tree))

    missing = "apache-airflow-providers-http==6.9.9, left-pad"
    assert f"requirements.lock does not hold {missing}: make lock" in found
    assert f"requirements-dev.lock does not hold {missing}: make lock" in found


def test_documents_must_be_generated_anew(tree: Path) -> None:
    readme = tree / "README.md"
    readme.write_text(readme.read_text().replace("| `fan_out` |", "| `fan_in` |"))
    commit(tree)

    assert any("README.md is older than the settings" in problem for problem in release.problems(tree))


def test_the_version_stands_in_one_place() -> None:
    version = re.escape(release.version_of(release.ROOT))
    code = [path for folder in ("include", "dags", "docs") for path in (release.ROOT / folder).rglob("*.py")]

    assert [path.name for path in code if re.search(rf'"{version}"', path.read_text())] == []
