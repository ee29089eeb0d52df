"""gzip in and out, with a bound on what a body may unpack to."""

from __future__ import annotations

import asyncio
import gzip
import zlib

from shared.errors import TooLargeError, UnreadableError

GZIP = b"\x1f\x8b"  # how every gzip body begins, and no JSON
_WORTH = 1_024  # smaller answers are not packed
_LONG = 65_536  # packing more takes longer than the event loop should be away
_LEVEL = 5


def unpacked(body: bytes, most: int) -> bytes:
    """The content of a gzip body. Never makes more than `most` bytes of it, whatever it holds.

    Raises:
        TooLargeError: it would be more.
        UnreadableError: it is not gzip, breaks off, or something follows it that is not.
    """
    out = bytearray()
    rest = body
    while rest:
        piece = zlib.decompressobj(wbits=31)
        try:
            while rest and not piece.eof:
                out += piece.decompress(rest, most + 1 - len(out))
                rest = piece.unconsumed_tail
                if len(out) > most:
                    raise TooLargeError(
                        f"The body unpacks to more than {most} bytes.", remediation="Send several smaller submissions."
                    )
        except zlib.error:
            raise UnreadableError(
                "The body is not gzip, though its Content-Encoding says so.",
                remediation="Compress it, or leave the header out.",
            ) from None
        if not piece.eof:
            raise UnreadableError("The gzip body breaks off.", remediation="Send it whole.")
        rest = piece.unused_data
    return bytes(out)


def _accepted(header: str) -> bool:
    for part in header.lower().split(","):
        name, *parameters = (text.strip() for text in part.split(";"))
        if name in ("gzip", "x-gzip", "*"):
            return not any(text.replace(" ", "") in ("q=0", "q=0.0", "q=0.00", "q=0.000") for text in parameters)
    return False


async def packed(body: bytes, accept_encoding: str) -> tuple[bytes, str]:
    """The body as it travels, and its Content-Encoding ("" when it is as it was)."""
    if len(body) < _WORTH or not _accepted(accept_encoding):
        return body, ""
    if len(body) < _LONG:
        return gzip.compress(body, _LEVEL, mtime=0), "gzip"
    return await asyncio.to_thread(gzip.compress, body, _LEVEL, mtime=0), "gzip"
