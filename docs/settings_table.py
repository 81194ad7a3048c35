"""Writes the tables of settings into README.md and docs/omnitron-api.md: `python -m docs.settings_table`."""

from __future__ import annotations

from pathlib import Path

from include.order_cancel.settings import SettingsRow, settings_table

ROOT = Path(__file__).resolve().parents[1]
BEGIN = "<!-- settings: written by `python -m docs.settings_table` -->"
END = "<!-- end of settings -->"
HEAD = ["| field | values | default | what it is |", "|---|---|---|---|"]
PROFILE = "omnitron.api."


def tables() -> dict[Path, str]:
    """The table of each document: the API profile has one of its own."""
    rows = settings_table()
    return {
        ROOT / "README.md": _table([row for row in rows if not row.path.startswith(PROFILE)]),
        ROOT / "docs" / "omnitron-api.md": _table([row for row in rows if row.path.startswith(PROFILE)]),
    }


def with_table(text: str, table: str) -> str:
    """The document with `table` between the markers. Raises ValueError where a marker is missing."""
    before, found, rest = text.partition(BEGIN)
    _, ended, after = rest.partition(END)
    if not (found and ended):
        raise ValueError(f"the markers {BEGIN} and {END} must stand in the document")
    return f"{before}{BEGIN}\n{table}\n{END}{after}"


def _table(rows: list[SettingsRow]) -> str:
    return "\n".join([*HEAD, *map(_line, rows)])


def _line(row: SettingsRow) -> str:
    default = row.default if row.default == "required" else f"`{row.default}`"
    cells = (f"`{row.path}`", row.values, default, row.description)
    escaped = (cell.replace("|", "\\|") for cell in cells)
    return f"| {' | '.join(escaped)} |"


def main() -> None:
    """Bring both documents up to date."""
    for path, table in tables().items():
        path.write_text(with_table(path.read_text("utf-8"), table), "utf-8")


if __name__ == "__main__":
    main()
