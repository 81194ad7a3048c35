"""`{{ name }}` in a setting's text: what a login request or a lookup takes from elsewhere."""

from __future__ import annotations

import re
from collections.abc import Callable

_PLACEHOLDER = re.compile(r"\{\{([^{}]*)\}\}")


def placeholders(text: str) -> list[str]:
    """The names between `{{` and `}}`, in order, without the blanks around them."""
    return [name.strip() for name in _PLACEHOLDER.findall(text)]


def render(text: str, lookup: Callable[[str], str]) -> str:
    """Put `lookup(name)` in each placeholder's place, in one pass.

    What was put in is not looked at again, so a password that holds `{{` stays as it is.
    """
    return _PLACEHOLDER.sub(lambda found: lookup(found[1].strip()), text)


def unclosed(text: str) -> bool:
    """Whether a `{{` or `}}` stands without its partner."""
    rest = _PLACEHOLDER.sub("", text)
    return "{{" in rest or "}}" in rest
