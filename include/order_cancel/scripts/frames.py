"""How parent and script process talk: a frame is two lengths, a JSON header, and a body of bytes as it is."""

from __future__ import annotations

import json
import struct
from typing import Any

from include.order_cancel import exact_json

LENGTHS = struct.Struct(">II")
# The id of the first frame that a started process sends.
READY = "ready"
MAX_HEADER = 16 * 1024 * 1024
MAX_BODY = 1024 * 1024 * 1024
_SMALL = 64 * 1024
_ENCODER = json.JSONEncoder()


class BrokenFrame(Exception):
    """The other side sent what is no frame."""


def pack(header: dict[str, Any], body: bytes = b"") -> list[bytes]:
    """The parts of a frame, in order. Surrogates travel as escapes, so any text does."""
    text = exact_json.encoded(header, _ENCODER).encode("ascii")
    start = LENGTHS.pack(len(text), len(body)) + text
    return [start + body] if len(body) < _SMALL else [start, body]


def lengths(prefix: bytes | bytearray) -> tuple[int, int]:
    """Header and body length in bytes. Raises BrokenFrame on lengths that no side would send."""
    header, body = LENGTHS.unpack(prefix)
    if header > MAX_HEADER or body > MAX_BODY:
        raise BrokenFrame(f"a frame of {header} + {body} bytes")
    return header, body


def unpack_header(text: bytes | bytearray) -> dict[str, Any]:
    """The header. Raises BrokenFrame where it is not a JSON object."""
    try:
        header = exact_json.loads(text.decode("ascii"))
    except (ValueError, RecursionError):
        raise BrokenFrame("a header that is not JSON") from None
    if not isinstance(header, dict):
        raise BrokenFrame("a header that is no object")
    return header
