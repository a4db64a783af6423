"""Sums of the files that jobs have written, for whoever asks (RFC 9530); each content is read once."""

from __future__ import annotations

import base64
import hashlib
import re
import threading
import time
from collections import OrderedDict
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from hpcjobs_server.files import OpenFile

_BLOCK = 1 << 20
_MOST = 10_000
_SETTLED = 2_000_000_000
"""Nanoseconds: what was written to later than this before it was read may be written to again unnoticed."""
_SHA256 = re.compile(r"(?:^|,)\s*sha-256\s*(?:=\s*(\d+))?\s*(?=$|[,;])", re.IGNORECASE)


def wants_sha256(header: str | None) -> bool:
    """Whether a ``Want-Repr-Digest`` asks for the SHA-256.

    Example:
        >>> wants_sha256("sha-512=3, sha-256=10"), wants_sha256("sha-256=0"), wants_sha256(None)
        (True, False, False)
    """
    match = _SHA256.search(header or "")
    return match is not None and match[1] is not None and int(match[1][:3]) > 0


def repr_digest(digest: bytes) -> str:
    """A SHA-256 as a ``Repr-Digest`` has it.

    Example:
        >>> repr_digest(bytes(32))
        'sha-256=:AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=:'
    """
    return f"sha-256=:{base64.b64encode(digest).decode()}:"


class Digests:
    """The sums that are known; two who ask for the same at once wait for one reading."""

    def __init__(self) -> None:
        self._known: OrderedDict[tuple[int, ...], bytes] = OrderedDict()
        self._lock = threading.Lock()
        self._reading: dict[tuple[int, ...], threading.Lock] = {}

    def of(self, file: OpenFile) -> bytes | None:
        """The SHA-256 of a file; blocks. None where it changes while it is read.

        Raises:
            OSError: The disk has failed.
        """
        key = file.identity
        with self._lock:
            reading = self._reading.setdefault(key, threading.Lock())
        with reading:
            try:
                with self._lock:
                    if key in self._known:
                        self._known.move_to_end(key)
                        return self._known[key]
                return self._read(file)
            finally:
                with self._lock:
                    self._reading.pop(key, None)

    def _read(self, file: OpenFile) -> bytes | None:
        began = time.time_ns()
        digest, place = hashlib.sha256(), 0
        while place < file.size and (block := file.read(place, min(_BLOCK, file.size - place))):
            digest.update(block)
            place += len(block)
        if place != file.size or not file.unchanged():
            return None
        if began - max(file.identity[-2:]) > _SETTLED:
            with self._lock:
                self._known[file.identity] = digest.digest()
                while len(self._known) > _MOST:
                    self._known.popitem(last=False)
        return digest.digest()
