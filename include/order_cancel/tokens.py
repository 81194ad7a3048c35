"""One token per Connection, shared by all tasks and processes, fetched once for many refused requests.

A token rests in the journal, encrypted under a key that is derived from the Connection's own secret: who
has only the database cannot read it, nor can anybody once the password changed. It never expires by itself;
a 401 replaces it.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import threading
import time
import uuid
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Protocol

from cryptography.fernet import Fernet, InvalidToken
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from include.order_cancel.errors import TokenRefused

FetchToken = Callable[[], Awaitable[str]]


class LoginFailed(TokenRefused):
    """A login was refused or gave no token; the message holds the status, never the credentials."""


@dataclass(frozen=True, slots=True)
class StoredToken:
    """A token at rest: encrypted, with a version that rises each time it is replaced."""

    version: int
    secret: bytes = field(repr=False)


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

    def token_write(self, key: str, version: int, secret: bytes, owner: str) -> None:
        """Store what `owner` fetched, and end its claim."""

    def token_release(self, key: str, owner: str) -> None:
        """End the claim without a token."""


def token_key(*parts: str | None) -> str:
    """The name of a token in the store. `parts` must hold the host: a token is for one host only."""
    return hashlib.sha256("\n".join(part or "" for part in parts).encode()).hexdigest()


class Tokens:
    """The token of one Connection.

    `fetch` logs in and returns the token's text, or raises LoginFailed. `secret` is the Connection's own
    secret, from which the encryption key is derived. `claim_seconds` is how long one login may take.
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
    ) -> None:
        self._key = key
        self._store = store
        self._fetch = fetch
        self._cipher = _cipher(key, secret)
        self._owner = owner or uuid.uuid4().hex
        self._claim_seconds = claim_seconds
        self._poll_seconds = poll_seconds
        self._sleep = sleep
        self._token: Token | None = None
        self._renewal: asyncio.Task[None] | None = None

    async def current(self) -> Token:
        """The token known here, else the stored one, else a new one. Raises LoginFailed, JournalDown."""
        return self._token or await self._newer_than(0)

    async def renew(self, seen: Token) -> Token:
        """A token newer than `seen`, after a 401 that answered `seen`. Raises LoginFailed, JournalDown.

        However many callers and processes ask, one logs in; who comes later gets what it fetched.
        """
        return await self._newer_than(seen.version)

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
            if stored is not None and stored.version > version and (token := self._decrypted(stored)):
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
                token = Token(await self._fetch(), version)
            secret = self._cipher.encrypt(token.value.encode())
            await asyncio.to_thread(self._store.token_write, self._key, version, secret, self._owner)
        except BaseException as error:
            await asyncio.to_thread(self._store.token_release, self._key, self._owner)
            if isinstance(error, TimeoutError):
                raise LoginFailed(f"the login took longer than {self._claim_seconds:g} s") from None
            raise
        return token

    def _decrypted(self, stored: StoredToken) -> Token | None:
        try:
            return Token(self._cipher.decrypt(stored.secret).decode(), stored.version)
        except InvalidToken:
            return None


class MemoryStore:
    """A store for one process, for where there is no journal."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._tokens: dict[str, StoredToken] = {}
        self._claims: dict[str, tuple[str, float]] = {}
        self._rests: dict[str, float] = {}

    def token_read(self, key: str) -> StoredToken | None:
        """The stored token, None where there is none."""
        return self._tokens.get(key)

    def token_claim(self, key: str, seen_version: int, owner: str, seconds: float) -> bool:
        """Whether `owner` may fetch the version after `seen_version`, alone for `seconds`."""
        with self._lock:
            stored = self._tokens.get(key)
            fetching, until = self._claims.get(key, ("", 0.0))
            taken = fetching not in ("", owner) and until > time.monotonic()
            if taken or (stored.version if stored else 0) != seen_version:
                return False
            self._claims[key] = (owner, time.monotonic() + seconds)
            return True

    def token_write(self, key: str, version: int, secret: bytes, owner: str) -> None:
        """Store what `owner` fetched, and end its claim."""
        with self._lock:
            if self._claims.get(key, ("", 0.0))[0] == owner:
                self._tokens[key] = StoredToken(version, secret)
                del self._claims[key]

    def token_release(self, key: str, owner: str) -> None:
        """End the claim without a token."""
        with self._lock:
            if self._claims.get(key, ("", 0.0))[0] == owner:
                del self._claims[key]

    def rest_read(self, host: str) -> float:
        """For how many more seconds the host wants to be left alone, 0 where it does not."""
        return max(0.0, self._rests.get(host, 0.0) - time.monotonic())

    def rest_write(self, host: str, seconds: float) -> None:
        """Keep that it wants to be left alone for so many seconds from now on; an earlier, longer wish stands."""
        with self._lock:
            self._rests[host] = max(self._rests.get(host, 0.0), time.monotonic() + seconds)


def _cipher(key: str, secret: str) -> Fernet:
    derived = HKDF(SHA256(), 32, salt=b"order_cancel token", info=key.encode()).derive(secret.encode())
    return Fernet(base64.urlsafe_b64encode(derived))
