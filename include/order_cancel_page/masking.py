"""What somebody who may only look is not shown: secrets for nobody, personal data for those who may act.

Personal data are told by the names under which they stand, by the values that stand there in Omnitron's document
(a mapping renames fields, it seldom changes what they hold), and by their shape in texts: mail, phone, IBAN.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from include.order_cancel import exact_json
from include.order_cancel.cli.hiding import url_without_secrets, without_secrets
from include.order_cancel.rows import Body
from include.order_cancel.secrecy import HIDDEN
from include.order_cancel.text import printable

_PERSONAL = re.compile(
    r"(?:^|_)(?:customer|contact|recipient|receiver|buyer|user|person|address|street|city|district|postcode|zip|"
    r"first_?name|last_?name|full_?name|surname|soyad|ad_?soyad|musteri|e_?mail|phone|mobile|gsm|telefon|iban|"
    r"tckn|tc_?no|identity(?:_number)?|passport|tax_(?:id|no|number)|birth(?:day|_?date)?|card|ip|note|notes|comment)"
    r"(?:$|_)"
)
_CAMEL = re.compile(r"(?<=[a-z0-9])(?=[A-Z])|[-. ]+")
_SHAPES = re.compile(
    r"[^\s@<>\"',;]+@[^\s@<>\"',;]+\.\w+"
    r"|(?<!\w)(?:\+|00?)[1-9]\d(?:[ ()-]?\d){7,12}(?!\w)"
    r"|\b[A-Z]{2}\d{2}(?:\s?[A-Z0-9]{4}){3,7}\s?[A-Z0-9]{0,3}\b"
)
_SHORTEST = 3


def is_personal(name: str) -> bool:
    """Whether what stands under this name is likely about a person."""
    return bool(_PERSONAL.search(_CAMEL.sub("_", name).lower()))


class Veil:
    """Shows one plan's documents and texts to one person. `clear`: personal data are shown."""

    def __init__(self, *, clear: bool, document: Any = None) -> None:
        self.clear = clear
        values = sorted(set(_personal_values(document)), key=len, reverse=True)
        self._known = re.compile("|".join(map(re.escape, values))) if values and not clear else None

    def text(self, text: str | None) -> str:
        """A text without what is personal in it."""
        if not text or self.clear:
            return text or ""
        known = self._known.sub(HIDDEN, text) if self._known else text
        return _SHAPES.sub(HIDDEN, known)

    def value(self, value: Any) -> Any:
        """A JSON value without secrets, and without what is personal."""
        return self._veiled(without_secrets(value))

    def _veiled(self, value: Any, *, hide: bool = False) -> Any:
        if self.clear:
            return value
        if isinstance(value, dict):
            return {
                self.text(str(name)): self._veiled(item, hide=hide or is_personal(str(name)))
                for name, item in value.items()
            }
        if isinstance(value, list):
            return [self._veiled(item, hide=hide) for item in value]
        if isinstance(value, bool) or value in (None, ""):
            return value
        return HIDDEN if hide else self.text(value) if isinstance(value, str) else value

    def content(self, body: Body) -> Any:
        """A body as JSON where it is JSON; other text is not shown veiled, since no names tell what it holds."""
        try:
            return self.value(exact_json.loads(body.content))
        except (ValueError, RecursionError):
            return (
                body.content
                if self.clear or not body.content
                else f"{HIDDEN} ({len(body.content)} characters)"
            )

    def meta(self, body: Body) -> dict[str, Any]:
        """What is noted beside a body: method, address, status."""
        meta: dict[str, Any] = self.value(body.meta)
        return meta | ({"url": self.text(url_without_secrets(str(meta["url"])))} if "url" in meta else {})


class StillHidden(ValueError):
    """What an edited document leaves hidden cannot be filled in for certain; the message says where."""


def restored(edited: Any, original: Any) -> Any:
    """An edited document with what was hidden in it as it was.

    Each member of the document is one part. A part in which something is hidden must be otherwise unchanged, so that
    no secret ends at another item than its own. Raises StillHidden.
    """
    if isinstance(edited, dict) and isinstance(original, dict):
        return {name: _part(value, original.get(name), str(name)) for name, value in edited.items()}
    return _part(edited, original, "")


def _part(edited: Any, original: Any, name: str) -> Any:
    where = next(_hidden_places(edited, name), None)
    if where is None:
        return edited
    if not _unchanged(edited, original):
        raise StillHidden(
            f"{printable(where, 200) or 'the request'} stands as ***, and what surrounds it was changed: "
            f"write its value there, or leave {printable(name, 100) or 'the request'} as it was"
        )
    return original


def _hidden_places(value: Any, path: str) -> Iterator[str]:
    if value == HIDDEN:
        yield path
    elif isinstance(value, dict):
        for name, item in value.items():
            yield from _hidden_places(item, f"{path}.{name}" if path else str(name))
    elif isinstance(value, list):
        for index, item in enumerate(value):
            yield from _hidden_places(item, f"{path}[{index}]")


def _unchanged(edited: Any, original: Any) -> bool:
    """Whether both are the same but for what is hidden: that may stand for anything but nothing."""
    if edited == HIDDEN:
        return original not in (None, "")
    if isinstance(edited, dict) and isinstance(original, dict):
        return edited.keys() == original.keys() and all(
            _unchanged(item, original[name]) for name, item in edited.items()
        )
    if isinstance(edited, list) and isinstance(original, list):
        return len(edited) == len(original) and all(map(_unchanged, edited, original))
    return exact_json.dumps(edited) == exact_json.dumps(original)


def _personal_values(value: Any, under: bool = False) -> Iterator[str]:
    if isinstance(value, dict):
        for name, item in value.items():
            yield from _personal_values(item, under or is_personal(str(name)))
    elif isinstance(value, list):
        for item in value:
            yield from _personal_values(item, under)
    elif under and isinstance(value, str) and len(value.strip()) >= _SHORTEST:
        yield value.strip()
        # A mapping may take first and last name apart: each word of a name counts.
        yield from (word for word in value.split() if len(word) > _SHORTEST and word.isalpha())
