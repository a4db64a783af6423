"""What travels with a job on AWS Batch beside what it runs: its name, its key, its tags and its meta.

A job there has a name of letters, digits, dashes and underscores, which need not be unique, and 50 tags with a value
each. The submission key is summed up at the beginning of the name, where a search finds it; a name or a meta that has
no place as it is goes into tags of our own, packed.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

from hpcjobs.services.sums import sum_of

OWN = "hpcjobs:"
"""How the tags begin that are ours."""

SUM_TAG = f"{OWN}sum"
"""The tag with the sum of what was asked, by which the same key with another body is noticed."""

OWNER_TAG = f"{OWN}owner"
"""The tag with the user who submitted the job."""

PACKED = f"{OWN}packed-"
"""How the tags begin that hold what fits nowhere else, a piece each."""

MAX_TAGS = 50
MAX_KEY, MAX_VALUE = 128, 256
MAX_JOB_NAME = 128

_PREFIX = re.compile(r"hpcjobs-[0-9a-f]{20}(?:-|$)")
_PLAIN = re.compile(r"[A-Za-z0-9_-]+")
_TAG = re.compile(r"[\w\s.:/=+@-]*")  # AWS: letters, digits and spaces of any script, and these


def prefix_of(key: str) -> str:
    """How the name begins of a job that was submitted with a key.

    Example:
        >>> prefix_of("sweep-3")
        'hpcjobs-a9bbee0db982dab6a74a'
    """
    return f"hpcjobs-{hashlib.sha256(key.encode()).hexdigest()[:20]}"


def job_name(key: str, name: str) -> str:
    """The name of a job at AWS: the key's sum, then what can be said there of its own name."""
    said = re.sub(r"[^A-Za-z0-9_-]+", "-", name).strip("-")
    return f"{prefix_of(key)}-{said}"[:MAX_JOB_NAME].rstrip("-")


def is_ours(job: Mapping[str, Any]) -> bool:
    """Whether a job was submitted with this library, by its name."""
    return _PREFIX.match(job.get("jobName") or "") is not None


def name_of(job: Mapping[str, Any]) -> str:
    """A job's own name, without the key.

    Example:
        >>> name_of({"jobName": "hpcjobs-a9bbee0db982dab6a74a-fit"}), name_of({"jobName": "nightly"})
        ('fit', 'nightly')
    """
    packed = unpacked(job.get("tags")).get("name")
    name = job.get("jobName") or ""
    return packed if isinstance(packed, str) else _PREFIX.sub("", name)


def tags_of(job: Mapping[str, Any]) -> list[str]:
    """The tags that a person gave, ``key=value`` where there is a value."""
    told = (job.get("tags") or {}).items()
    return [f"{name}={text}" if text else name for name, text in told if not name.startswith(OWN)]


def meta_of(job: Mapping[str, Any]) -> dict[str, Any]:
    """The meta that a person gave."""
    meta = unpacked(job.get("tags")).get("meta")
    return meta if isinstance(meta, dict) else {}


def tags_for(
    name: str | None, tags: Sequence[str], meta: Mapping[str, Any], owner: str | None
) -> tuple[dict[str, str], list[tuple[str, str]]]:
    """The tags of a job at AWS.

    Args:
        name: Its own name.
        tags: Its own tags: ``key`` or ``key=value``.
        meta: Anything JSON.
        owner: Who submits it.

    Returns:
        The tags, and what is wrong with them.

    Example:
        >>> tags_for("fit", ["sweep", "project=quake"], {}, None)
        ({'sweep': '', 'project': 'quake'}, [])
    """
    made: dict[str, str] = {}
    problems: list[tuple[str, str]] = []
    for tag in tags:
        word, mark, value = tag.partition("=")
        if not word or (mark and not value):
            problems.append(("tags", f'{tag!r} is no tag of AWS; write "name" or "name=value"'))
        elif not _TAG.fullmatch(tag) or len(word) > MAX_KEY or len(value) > MAX_VALUE:
            allowed = f"letters, digits, spaces and . : / = + @ _ -, up to {MAX_KEY} of them and {MAX_VALUE} after a ="
            problems.append(("tags", f"{tag!r} cannot be a tag at AWS; it takes {allowed}"))
        elif word.lower().startswith(("aws:", OWN)):
            problems.append(("tags", f"{tag!r}: tags that begin with aws: or {OWN} are not for users"))
        elif word in made:
            problems.append(("tags", f"{word!r} is given twice; a tag of AWS has one value"))
        else:
            made[word] = value
    if owner is not None and _TAG.fullmatch(owner):
        made[OWNER_TAG] = owner[:MAX_VALUE]
    packed: dict[str, Any] = {}
    if name is not None and not (_PLAIN.fullmatch(name) and name == name.strip("-") and len(name) <= 90):
        packed["name"] = name
    if meta:
        packed["meta"] = dict(meta)
    if packed:
        made |= pack(packed)
    if len(made) >= MAX_TAGS:  # one more is needed for the sum
        problems.append(
            ("meta" if meta else "tags", f"AWS takes {MAX_TAGS} tags for all of it; give fewer tags, or a shorter meta")
        )
    return made, problems


def pack(told: Mapping[str, Any]) -> dict[str, str]:
    """Anything JSON as tags: their values may have few characters beside letters and digits."""
    text = base64.urlsafe_b64encode(json.dumps(told, separators=(",", ":")).encode()).decode()
    pieces = range(0, len(text), MAX_VALUE)
    return {f"{PACKED}{number}": text[start : start + MAX_VALUE] for number, start in enumerate(pieces)}


def unpacked(tags: Mapping[str, str] | None) -> dict[str, Any]:
    """What :func:`pack` has packed; empty where it is not whole."""
    pieces = sorted((int(name.removeprefix(PACKED)), text) for name, text in (tags or {}).items() if _is_piece(name))
    try:
        told = json.loads(base64.urlsafe_b64decode("".join(text for _, text in pieces))) if pieces else {}
    except (ValueError, binascii.Error):
        return {}
    return told if isinstance(told, dict) else {}


def sum_of_request(body: Mapping[str, Any]) -> str:
    """The sum of what is asked, without what differs each time."""
    tags = {name: text for name, text in (body.get("tags") or {}).items() if name not in {SUM_TAG, OWNER_TAG}}
    return sum_of({**body, "tags": tags, "jobName": None})


def _is_piece(name: str) -> bool:
    return name.startswith(PACKED) and name.removeprefix(PACKED).isdecimal()
