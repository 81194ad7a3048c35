"""What is secret, and how it is kept out of messages, logs and the journal."""

from __future__ import annotations

import base64
import html
import json
import re
from collections.abc import Iterable, Mapping
from functools import lru_cache
from urllib.parse import quote, quote_plus

HIDDEN = "***"
# Shorter ones are no credentials that a system gives out; masking them would garble what an answer says.
_SHORTEST_CREDENTIAL = 8
_NO_CHANCE = 16  # a credential of so many characters stands in no number by chance
_SECRET_PART = re.compile(
    r"passw|passphrase|secret|token|apikey|accesskey|privatekey|authkey|authoriz|credential|cookie|sifre|şifre|parola"
)
_SECRET_WORDS = {"pass", "pwd", "auth", "pin"}
_NAMES_NO_SECRET = {"type", "url", "uri", "path", "endpoint", "format", "lifetime", "ttl", "hint"}


def looks_secret(name: str) -> bool:
    """Whether a key's name says that its value is a secret: password, client_secret, X-Api-Key, ..."""
    words = re.findall(r"[^\W_\d]+", re.sub(r"(?<=[a-z])(?=[A-Z])", "_", name).lower())
    if not words or words[-1] in _NAMES_NO_SECRET:
        return False
    return bool(_SECRET_PART.search("".join(words)) or _SECRET_WORDS.intersection(words))


def mask(text: str, secrets: Iterable[str | None]) -> str:
    """`text` with each of the secrets replaced by `***`, however it is written there, the longest first.

    Mask before a text is cut: half a secret is not found.
    """
    for spelling in _spellings(tuple(secret for secret in secrets if secret)):
        text = text.replace(spelling, HIDDEN)
    return text


def mask_cut(text: str, secrets: Iterable[str | None], cut: str) -> str:
    """As `mask`, for a text from whose middle a piece was taken: `cut` stands there, perhaps within a secret."""
    known = tuple(secret for secret in secrets if secret)
    text = mask(text, known)
    before, mark, after = text.partition(cut)
    if mark:
        for spelling in _spellings(known):
            for size in range(len(spelling) - 1, _SHORTEST_CREDENTIAL - 1, -1):
                before = before[:-size] + HIDDEN if before.endswith(spelling[:size]) else before
                after = HIDDEN + after[size:] if after.startswith(spelling[-size:]) else after
    return before + mark + after


def conceal(text: str, secrets: Iterable[str]) -> str:
    """`text`, which is used as it is, without what can only be a credential.

    That is the whole of it, or a long part. Chance may put a short password into a number: that stays.
    """
    known = tuple(secrets)
    if mask(text, known) == HIDDEN:
        return HIDDEN
    return mask(text, (secret for secret in known if len(secret) >= _NO_CHANCE))


@lru_cache(maxsize=64)
def _spellings(secrets: tuple[str, ...]) -> tuple[str, ...]:
    """The secrets as they are, and as JSON, URLs, HTML and base64 write them."""
    found = {spelling for secret in secrets for spelling in _written(secret)}
    return tuple(sorted(found, key=len, reverse=True))


def _written(secret: str) -> set[str]:
    in_utf8 = secret.encode("utf-8", "replace")
    escaped = {quote(in_utf8, safe=""), quote(in_utf8), quote_plus(in_utf8)}
    in_json = {json.dumps(secret)[1:-1], json.dumps(secret, ensure_ascii=False)[1:-1]}
    return {
        secret,
        html.escape(secret),
        base64.b64encode(in_utf8).decode(),
        base64.urlsafe_b64encode(in_utf8).decode(),
        *in_json,
        *(text.replace("/", r"\/") for text in in_json),
        *escaped,
        *(re.sub(r"%[0-9A-F]{2}", lambda found: found[0].lower(), text) for text in escaped),
    }


def credentials(auth: Mapping[str, str], static: Mapping[str, str]) -> tuple[str, ...]:
    """What a request proves itself with: all of its `auth` headers, and the static ones that are named like secrets."""
    values = [*auth.values(), *(value for name, value in static.items() if looks_secret(name))]
    return tuple(part for value in values for part in _parts(value))


@lru_cache(maxsize=64)
def _parts(value: str) -> tuple[str, ...]:
    """A header's value, what stands behind its scheme's word, and the password in a basic login."""
    scheme, _, proof = value.partition(" ")
    password = _password(proof) if scheme.lower() == "basic" else ""
    return tuple(part for part in (value, proof, password) if len(part) >= _SHORTEST_CREDENTIAL)


def _password(proof: str) -> str:
    try:
        return base64.b64decode(proof, validate=True).decode().partition(":")[2]
    except ValueError:
        return ""
