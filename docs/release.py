"""What must be so before a release, and what to do then: `make release`. It looks only; nothing is changed or sent.

The version stands in pyproject.toml, and only there.
"""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

from docs.settings_table import ROOT, tables, with_table

CHANGELOG = "CHANGELOG.md"
_RELEASE = re.compile(r"^## \[(?P<version>[^\]]+)\](?: - (?P<date>\S+))?$", re.MULTILINE)
_SOURCES = {
    "requirements.lock": ("requirements.txt",),
    "requirements-dev.lock": ("requirements-dev.in", "requirements.txt"),
    "requirements-core.lock": ("requirements-core.in",),
}


def problems(root: Path) -> Iterator[str]:
    """All that stands against a release of the tree at `root`, each in words."""
    version = version_of(root)
    yield from _of_the_changelog((root / CHANGELOG).read_text("utf-8"), version)
    yield from _of_git(root, version)
    for document, table in tables().items():
        path = root / document.relative_to(ROOT)
        written = path.read_text("utf-8")
        if with_table(written, table) != written:
            yield f"{path.name} is older than the settings: python -m docs.settings_table"
    for lock, sources in _SOURCES.items():
        if missing := sorted(_wanted(root, sources) - _pinned((root / lock).read_text("utf-8"))):
            yield f"{lock} does not hold {', '.join(missing)}: make lock"


def version_of(root: Path) -> str:
    """The version in pyproject.toml."""
    return str(tomllib.loads((root / "pyproject.toml").read_text("utf-8"))["project"]["version"])


def _of_the_changelog(text: str, version: str) -> Iterator[str]:
    found = {match["version"]: match["date"] for match in _RELEASE.finditer(text)}
    if version not in found:
        yield f"{CHANGELOG} has no section '## [{version}] - <date>' for the version in pyproject.toml"
    elif not re.fullmatch(r"\d{4}-\d{2}-\d{2}", found[version] or ""):
        yield f"{CHANGELOG}: the section of {version} has no date; write '## [{version}] - 2026-01-31'"
    unreleased = re.search(r"^## \[Unreleased\]$(.*?)(?=^## |\Z)", text, re.MULTILINE | re.DOTALL)
    if unreleased is not None and "- " in unreleased[1]:
        yield f"{CHANGELOG} still has entries under Unreleased; move them below the version"


def _of_git(root: Path, version: str) -> Iterator[str]:
    if changed := _git(root, "status", "--porcelain"):
        yield f"the tree is not clean: {len(changed.splitlines())} files are not committed"
    if f"v{version}" in _git(root, "tag", "--list").split():
        yield f"v{version} is tagged already; raise the version in pyproject.toml"


def _git(root: Path, *words: str) -> str:
    done = subprocess.run(
        ["git", "-C", str(root), *words],  # noqa: S607 (whichever git the person uses)
        check=True,
        capture_output=True,
        text=True,
    )
    return done.stdout


def _wanted(root: Path, sources: tuple[str, ...]) -> set[str]:
    """The requirements as the sources pin or name them: `name==version`, or `name`."""
    lines = [
        line.partition("#")[0].strip() for name in sources for line in (root / name).read_text().splitlines()
    ]
    return {_plain(line) for line in lines if line and not line.startswith("-")}


def _pinned(lock: str) -> set[str]:
    pins = re.findall(r"^([A-Za-z0-9._-]+(?:\[[^\]]*\])?)==([^\s;\\]+)", lock, re.MULTILINE)
    return {_name(name) for name, _ in pins} | {f"{_name(name)}=={version}" for name, version in pins}


def _plain(requirement: str) -> str:
    name, exactly, version = requirement.partition(";")[0].strip().partition("==")
    return f"{_name(name)}=={version.strip()}" if exactly else _name(re.split(r"[<>=!~ ]", name)[0])


def _name(text: str) -> str:
    return re.sub(r"[-_.]+", "-", re.sub(r"\[.*\]", "", text)).lower().strip()


def main() -> int:
    """Say what stands against a release, or what to do next. Returns the exit code."""
    version = version_of(ROOT)
    if found := list(problems(ROOT)):
        print(f"{version} cannot be released yet:")
        print("\n".join(f"- {problem}" for problem in found))
        return 1
    print(
        f"{version} is ready, if its tests are: .ci/run must have passed on this commit. Then:\n"
        f"  git tag -a v{version} -m 'Order Cancel Flow {version}'\n"
        f"  git push origin v{version}\n"
        "Afterwards raise the version in pyproject.toml and begin a new Unreleased section."
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
