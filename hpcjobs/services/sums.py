"""The sum of what is asked: it travels with a job, so that the same key with another body is noticed."""

from __future__ import annotations

import hashlib
import json
from typing import Any


def sum_of(asked: Any) -> str:
    """The sum of something in JSON, whatever the order of its fields.

    Example:
        >>> sum_of({"a": 1, "b": 2}) == sum_of({"b": 2, "a": 1}), sum_of({})
        (True, '44136fa355b3678a')
    """
    return hashlib.sha256(json.dumps(asked, sort_keys=True, default=str).encode()).hexdigest()[:16]
