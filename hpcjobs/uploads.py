"""Sends one input so that a connection that breaks costs no more than what was under way.

A small file is sent whole. A large one is appended to what the service has of it already, piece by piece: after a
break, and in a later process too, the service is asked how much has arrived, and only the rest travels.
"""

from __future__ import annotations

from hpcjobs.bodies import FileBody
from hpcjobs.errors import (
    Conflict,
    ConnectionLost,
    InputError,
    InvalidRequest,
    ServiceError,
    ServiceUnavailable,
    TimedOut,
    UnexpectedAnswer,
)
from hpcjobs.protocol import Op, sleep
from hpcjobs.services.base import Service

RESUMABLE = 8 << 20
"""Bytes: a file of this size or more is sent in a way that can be continued."""

PIECE = 64 << 20
"""Bytes that are sent in one request: a proxy that collects a body before it hands it on loses no more than this."""

TRIES = 6
"""How often it is tried in a row without a byte more having arrived."""

BUSY = 120.0
"""Seconds for which someone else who sends the same content may be stuck."""

LOOK = 1.0
"""Seconds between two looks at what someone else sends."""

_PASSING = {408, 502, 503, 504}


def send_content(service: Service, sha256: str, body: FileBody) -> Op[None]:
    """Send a file, or what the service lacks of it.

    Args:
        service: Where it goes.
        sha256: Its sum.
        body: Its bytes.

    Raises:
        InputError: The file cannot be read or changed, or someone else sends the same and is stuck.
        InvalidRequest: The bytes that arrived have another sum.
        TransportError: The connection broke again and again without a byte more having arrived.
    """
    if not service.capabilities.resumable_inputs or body.size < RESUMABLE:
        yield from service.send_input(sha256, body)
        return
    failures, waited, most, continued = 0, 0.0, -1, False
    while True:
        there = yield from service.input_offset(sha256)
        if there.complete:
            return
        if there.offset > body.size:
            raise UnexpectedAnswer(f"{service.name} has {there.offset} bytes of a file of {body.size}")
        if there.offset > most:
            failures, waited, most = 0, 0.0, there.offset
        if there.busy:
            if waited >= BUSY:
                raise InputError(body.name, "someone else has begun to send the same and does not go on; try again")
            waited += LOOK
            yield from sleep(LOOK)
            continue
        try:
            yield from _append(service, sha256, body, there.offset)
        except (ConnectionLost, TimedOut, ServiceError) as error:
            if isinstance(error, InvalidRequest) and error.code == "checksum_mismatch":
                if continued or not there.offset:
                    raise
                # The beginning may have come from anywhere; once more, with nothing but this file.
                continued, most = True, -1
                continue
            failures += 1
            if failures >= TRIES or not _passes(error):
                raise
            yield from sleep(min(0.25 * 2**failures, 8.0))
        else:
            return


def _append(service: Service, sha256: str, body: FileBody, offset: int) -> Op[None]:
    """Send everything from ``offset`` on."""
    while True:
        stop = min(offset + PIECE, body.size)
        yield from service.append_input(sha256, body.part(offset, stop), offset=offset, total=body.size)
        offset = stop
        if offset == body.size:
            return


def _passes(error: Exception) -> bool:
    """Whether it is worth asking how much has arrived, and going on from there."""
    if isinstance(error, ServiceUnavailable):
        return error.status in _PASSING
    return isinstance(error, (ConnectionLost, TimedOut, Conflict)) or getattr(error, "status", 0) == 408
