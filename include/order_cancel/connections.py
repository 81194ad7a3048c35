"""Kept connections: what comes before a request was written is no answer to it, and its connection is dead.

An answer says nothing of which request it is to. One that nobody asked for (a second answer, a body longer than its
Content-Length) would be taken for that of the next request, which may not even have been read.
"""

from __future__ import annotations

import asyncio
import fcntl
import functools
import select
import termios
from typing import Any

import aiohttp
from aiohttp.client_proto import ResponseHandler
from aiohttp.connector import Connection

_HUNG_UP = select.POLLHUP | select.POLLERR | getattr(select, "POLLRDHUP", 0)
_READS = 100  # what the event loop is given to read what the kernel has; TLS needs some for records without content
_BETWEEN = "between two answers"
_UNASKED = "the connection brought an answer that nobody had asked for"


class Stale(Exception):
    """The connection is dead; says why."""


class KeptConnection(ResponseHandler):
    """One connection, which knows whether a request has been written to it.

    `unasked`: it brought what answers no request; nothing more is read from it.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__(loop)
        self.unasked = False
        self._asked = self._has_left = True

    def set_response_params(self, **params: Any) -> None:
        """A new request begins: nothing may be left of the last one."""
        if self.should_close or (self._parser is not None and not _is_between_answers(self._parser)):
            self.unasked = True
        super().set_response_params(**params)

    def expect_nothing(self) -> None:
        """Take all that comes for unasked, until `expect_answer`."""
        self._asked = False

    def expect_answer(self, large: bool) -> None:
        """The request is written now; a large one may leave bit by bit."""
        self._asked, self._has_left = True, not large

    def data_received(self, data: bytes) -> None:
        if data and not self._is_expected():
            self.unasked = True
            self.set_exception(Stale(_UNASKED))
            return
        super().data_received(data)

    def _is_expected(self) -> bool:
        if self._asked and not self._has_left:
            self._has_left = self.transport is not None and _has_left(self.transport)
        return self._asked and self._has_left and not self.unasked


def _has_left(transport: asyncio.Transport) -> bool:
    """Whether all that was written is out. What waits below TLS cannot be seen: there the other side has to have it."""
    if transport.get_write_buffer_size():
        return False
    if transport.get_extra_info("sslcontext") is None:
        return True
    unconfirmed = fcntl.ioctl(transport.get_extra_info("socket").fileno(), termios.TIOCOUTQ, bytes(4))
    return not any(unconfirmed)


def _is_between_answers(parser: Any) -> bool:
    """Whether the last answer ended with the last byte that came: an answer that follows is read as it is."""
    try:
        messages, _, _ = parser.feed_data(f"HTTP/1.1 204 {_BETWEEN}\r\n\r\n".encode())
    except Exception:  # whatever it says of bytes that do not begin an answer
        return False
    return [message.reason for message, _ in messages] == [_BETWEEN]


class Connector(aiohttp.TCPConnector):
    """Opens kept connections, as many as are wanted."""

    def __init__(self, **options: Any) -> None:
        super().__init__(limit=0, **options)
        kind: type[ResponseHandler] = KeptConnection
        self._factory = functools.partial(kind, loop=self._loop)


def kept(connection: Connection) -> KeptConnection:
    """The connection itself. Raises Stale where it is closed already."""
    if not isinstance(connection.protocol, KeptConnection):
        raise Stale("the connection was closed at once")
    return connection.protocol


async def check_alive(connection: Connection) -> None:
    """Raise Stale where the other side hung up, or sent what nobody asked for.

    The kernel is asked, as the event loop may not have heard of it yet; what the kernel has is read first.
    """
    for _ in range(_READS):
        protocol = kept(connection)
        if protocol.unasked:
            raise Stale(_UNASKED)
        if not protocol.is_connected() or protocol.transport is None:
            raise Stale("the connection was closed at once")
        events = _events(protocol.transport)
        if events & _HUNG_UP:
            raise Stale("the connection was closed at once")
        if not events & select.POLLIN:
            return
        await asyncio.sleep(0)
    raise Stale(_UNASKED)


def _events(transport: asyncio.Transport) -> int:
    poll = select.poll()
    poll.register(transport.get_extra_info("socket").fileno(), _HUNG_UP | select.POLLIN)
    return sum(events for _, events in poll.poll(0))
