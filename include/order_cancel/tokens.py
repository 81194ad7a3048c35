"""One token per Connection, shared by all tasks and processes, fetched once for many refused requests.

A token rests in the journal, encrypted under a key that is derived from the Connection's own secret: who
has only the database cannot read it, nor can anybody once the password changed. It is replaced once it is about to
end, where its login said when, and once a system refuses it.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import math
import threading
import time
import uuid
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, Protocol

from cryptography.fernet import Fernet, InvalidToken
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from include.order_cancel.errors import JournalDown, TokenRefused

# What some systems answer to a token that is not valid any more, and others where a right is missing.
_PERHAPS_THE_TOKEN = frozenset({403, 419, 440})
# For how long others believe that a token is valid which was refused as soon as it was fetched.
_TRUSTED_SECONDS = 300.0
_JUST_FETCHED_SECONDS = 60.0
_MARGIN_SECONDS = 30.0


class LoginFailed(TokenRefused):
    """A login was refused or gave no token; the message holds the status, never the credentials."""

    own_stop = False


@dataclass(frozen=True, slots=True)
class Given:
    """What a login gave: a token's text, and for how many seconds it is valid; None: nobody says."""

    value: str = field(repr=False)
    seconds: float | None = None


FetchToken = Callable[[], Awaitable[Given]]


@dataclass(frozen=True, slots=True)
class StoredToken:
    """A token at rest: encrypted, with a version that rises each time it is replaced.

    `seconds` are left until it is to be replaced, None: until it is refused. `trusted`: it is known to be valid,
    whatever is answered to it but a 401.
    """

    version: int
    secret: bytes = field(repr=False)
    seconds: float | None = None
    trusted: bool = False


@dataclass(frozen=True, slots=True)
class Token:
    """A token to send, and its version."""

    value: str = field(repr=False)
    version: int


class TokenStore(Protocol):
    """Where tokens rest, shared by processes. All methods block."""

    def token_read(self, key: str) -> StoredToken | None:
        """The stored token, None where there is none."""

    def token_claim(self, key: str, seen_version: int, owner: str, seconds: float) -> bool:
        """Whether `owner` may fetch the version after `seen_version`, alone for `seconds`."""

    def token_write(
        self, key: str, version: int, secret: bytes, owner: str, seconds: float | None = None
    ) -> None:
        """Store what `owner` fetched, to be replaced in so many seconds, and end its claim."""

    def token_trust(self, key: str, version: int, seconds: float) -> None:
        """Let everybody know for so many seconds that this version is valid."""

    def token_release(self, key: str, owner: str) -> None:
        """End the claim without a token."""


def life(found: Any) -> float | None:
    """The seconds for which a login's answer says that its token is valid, None where that makes no sense."""
    if isinstance(found, bool) or not isinstance(found, str | int | float):
        return None
    try:
        seconds = float(found)
    except (ValueError, OverflowError):
        return None
    return seconds if math.isfinite(seconds) and seconds >= 1 else None


def token_key(*parts: str | None) -> str:
    """The name of a token in the store. `parts` must hold the host: a token is for one host only."""
    return hashlib.sha256("\n".join(part or "" for part in parts).encode()).hexdigest()


class Tokens:
    """The token of one Connection.

    `fetch` logs in, or raises LoginFailed. `secret` is the Connection's own secret, from which the encryption
    key is derived. `claim_seconds` is how long one login may take. `monotonic` gives seconds, by a clock that is
    never set: only the store's clock tells other tasks when a token ends, and each counts the rest by its own.
    """

    def __init__(
        self,
        key: str,
        store: TokenStore,
        fetch: FetchToken,
        secret: str,
        *,
        owner: str | None = None,
        claim_seconds: float = 60.0,
        poll_seconds: float = 0.1,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._key = key
        self._store = store
        self._fetch = fetch
        self._cipher = _cipher(key, secret)
        self._owner = owner or uuid.uuid4().hex
        self._claim_seconds = claim_seconds
        self._poll_seconds = poll_seconds
        self._sleep = sleep
        self._monotonic = monotonic
        self._token: Token | None = None
        self._ends = math.inf
        self._fetched: dict[int, float] = {}
        self._trusted: set[int] = set()
        self._renewal: asyncio.Task[None] | None = None

    async def current(self) -> Token:
        """The token known here, else the stored one, else a new one. Raises LoginFailed, JournalDown.

        One that is about to end is replaced first.
        """
        token = self._token
        if token is not None and not self._is_over(token.version):
            return token
        return await self._newer_than(0 if token is None else token.version)

    async def renew(self, seen: Token) -> Token:
        """A token newer than `seen`, which was refused. Raises LoginFailed, JournalDown.

        However many callers and processes ask, one logs in; who comes later gets what it fetched.
        """
        return await self._newer_than(seen.version)

    def fetched(self, version: int) -> bool:
        """Whether this version was fetched here, and not read from the store."""
        return version in self._fetched

    def may_renew(self, status: int, version: int) -> bool:
        """Whether a newer token may help after this answer to a request with the token of this version.

        After a 401 always. After 403, 419 and 440 only where the token was read from the store, or is over:
        one that was fetched here is valid, so that a right is missing.
        """
        valid = (version in self._fetched or version in self._trusted) and not self._is_over(version)
        return status == 401 or (status in _PERHAPS_THE_TOKEN and not valid)

    async def note(self, status: int, version: int) -> None:
        """Take note of each answer: if a token is refused that was just fetched, others need not log in to see it."""
        fetched_at = self._fetched.get(version, -math.inf)
        just_fetched = self._monotonic() - fetched_at < _JUST_FETCHED_SECONDS and not self._is_over(version)
        if status in _PERHAPS_THE_TOKEN and just_fetched and version not in self._trusted:
            self._trusted.add(version)
            with suppress(JournalDown):  # no more than a login is spared by it
                await asyncio.to_thread(self._store.token_trust, self._key, version, _TRUSTED_SECONDS)

    def _end(self, seconds: float | None) -> float:
        return math.inf if seconds is None else self._monotonic() + seconds

    def _is_over(self, version: int) -> bool:
        return self._token is not None and version == self._token.version and self._monotonic() >= self._ends

    async def _newer_than(self, version: int) -> Token:
        while self._token is None or self._token.version <= version:
            if self._renewal is None or self._renewal.done():
                self._renewal = asyncio.create_task(self._renew(version))
            await asyncio.shield(self._renewal)
        return self._token

    async def _renew(self, version: int) -> None:
        self._token = await self._read_or_fetch(version)  # here, so that who finds it done finds the token

    async def _read_or_fetch(self, version: int) -> Token:
        while True:
            stored = await asyncio.to_thread(self._store.token_read, self._key)
            if stored is not None and stored.version > version and (token := self._usable(stored)):
                return token
            stored_version = stored.version if stored is not None else 0
            if await asyncio.to_thread(
                self._store.token_claim, self._key, stored_version, self._owner, self._claim_seconds
            ):
                return await self._fetch_and_store(max(version, stored_version) + 1)
            await self._sleep(self._poll_seconds)

    async def _fetch_and_store(self, version: int) -> Token:
        try:
            async with asyncio.timeout(self._claim_seconds):
                given = await self._fetch()
            seconds = None if given.seconds is None else _to_be_used(given.seconds)
            ends = self._end(seconds)
            secret = self._cipher.encrypt(given.value.encode())
            await asyncio.to_thread(self._store.token_write, self._key, version, secret, self._owner, seconds)
        except BaseException as error:
            await asyncio.to_thread(self._store.token_release, self._key, self._owner)
            if isinstance(error, TimeoutError):
                raise LoginFailed(f"the login took longer than {self._claim_seconds:g} s") from None
            raise
        self._fetched[version] = self._monotonic()
        self._ends = ends
        return Token(given.value, version)

    def _usable(self, stored: StoredToken) -> Token | None:
        """The stored token, None where it is over or cannot be read."""
        if stored.seconds is not None and stored.seconds <= 0:
            return None
        try:
            token = Token(self._cipher.decrypt(stored.secret).decode(), stored.version)
        except InvalidToken:
            return None
        self._ends = self._end(stored.seconds)
        if stored.trusted:
            self._trusted.add(stored.version)
        return token


class CannotOpen(ValueError):
    """What was sealed cannot be opened with this secret."""


def seal(text: str, secret: str) -> str:
    """`text` encrypted under a key derived from a Connection's own secret (`Endpoint.key_material`)."""
    return _cipher("an answer", secret).encrypt(text.encode("utf-8", "replace")).decode()


def unseal(sealed: str, secret: str) -> str:
    """What `seal` was given. Raises CannotOpen where the Connection's secret has changed since."""
    try:
        return _cipher("an answer", secret).decrypt(sealed).decode()
    except InvalidToken:
        raise CannotOpen from None


class MemoryStore:
    """A store for one process, for where there is no journal."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._tokens: dict[str, tuple[int, bytes, float | None]] = {}
        self._trusted: dict[tuple[str, int], float] = {}
        self._claims: dict[str, tuple[str, float]] = {}
        self._rests: dict[str, float] = {}

    def token_read(self, key: str) -> StoredToken | None:
        """The stored token, None where there is none."""
        if (found := self._tokens.get(key)) is None:
            return None
        version, secret, ends = found
        now = self._clock()
        trusted = self._trusted.get((key, version), 0.0) > now
        return StoredToken(version, secret, None if ends is None else ends - now, trusted)

    def token_claim(self, key: str, seen_version: int, owner: str, seconds: float) -> bool:
        """Whether `owner` may fetch the version after `seen_version`, alone for `seconds`."""
        with self._lock:
            stored = self._tokens.get(key)
            fetching, until = self._claims.get(key, ("", 0.0))
            taken = fetching not in ("", owner) and until > self._clock()
            if taken or (stored[0] if stored else 0) != seen_version:
                return False
            self._claims[key] = (owner, self._clock() + seconds)
            return True

    def token_write(
        self, key: str, version: int, secret: bytes, owner: str, seconds: float | None = None
    ) -> None:
        """Store what `owner` fetched, to be replaced in so many seconds, and end its claim."""
        with self._lock:
            if self._claims.get(key, ("", 0.0))[0] == owner:
                self._tokens[key] = (version, secret, None if seconds is None else self._clock() + seconds)
                del self._claims[key]

    def token_trust(self, key: str, version: int, seconds: float) -> None:
        """Let everybody know for so many seconds that this version is valid."""
        with self._lock:
            self._trusted[key, version] = self._clock() + seconds

    def token_release(self, key: str, owner: str) -> None:
        """End the claim without a token."""
        with self._lock:
            if self._claims.get(key, ("", 0.0))[0] == owner:
                del self._claims[key]

    def rest_read(self, host: str) -> float:
        """For how many more seconds the host wants to be left alone, 0 where it does not."""
        return max(0.0, self._rests.get(host, 0.0) - self._clock())

    def rest_write(self, host: str, seconds: float) -> None:
        """Keep that it wants to be left alone for so many seconds from now on; an earlier, longer wish stands."""
        with self._lock:
            self._rests[host] = max(self._rests.get(host, 0.0), self._clock() + seconds)


def _to_be_used(seconds: float) -> float:
    """For how long a token that is valid for so many seconds is used: it may end on its way."""
    return seconds - min(_MARGIN_SECONDS, seconds / 10)


def _cipher(key: str, secret: str) -> Fernet:
    derived = HKDF(SHA256(), 32, salt=b"order_cancel token", info=key.encode()).derive(secret.encode())
    return Fernet(base64.urlsafe_b64encode(derived))
