"""Reads how far a job is from what it prints: progress bars of unchanged scripts, and the marked lines of ``runtime``.

Only well-known forms are read, and the last one in the text counts:

- tqdm, with and without a total: ``train:  45%|████▌     | 45/100 [00:01<00:01, 33.2it/s, loss=0.1]``
- rich and pip: ``Downloading ━━━━━━━╸━━━━━ 12.3/45.6 MB 5.0 MB/s eta 0:00:07``, ``Working... ━━━━━━╸━━━━  45% 0:00:12``
- Keras: ``12/100 [===>..........] - ETA: 5s``, ``12/100 ━━━━──────── 5s 2ms/step``
- counts in words: ``Epoch 3/10``, ``step 20 of 100``, ``[20/100] Building``, ``[ 20%] Building``
- percent beside a bar or alone: ``[####      ] 37%``, ``37% [===>    ]``, ``37%``, ``Progress: 37 %``
- ``::hpcjobs:: {"done": 20, "total": 100}``

Dates, paths and fractions in prose are none of these. The time that it takes grows with the length of the text only,
whatever the text is.
"""

from __future__ import annotations

import contextlib
import datetime as dt
import json
import math
import re
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

from hpcjobs.models import Progress
from hpcjobs.runtime import MARK

_LONGEST = 256 * 1024  # characters of the log that are looked at, from its end
_WIDEST = 1000  # of a longer line the end is looked at
_MARKED = 8192  # a marked line is shorter
_MESSAGE = 200

_COLOUR = re.compile(r"\x1b\[[0-9;:]{0,40}m")
_MOVE = re.compile(r"(?:\x1b\[[0-9;?]{0,40}[A-Za-z]|[\x08\n\v\f\r])+")

# Every expression starts at a place that cannot be amid a number, a word, a path or a date, and repeats nothing without
# an upper bound, so that none of them can take long.
_AT = r"(?<![\w./,:%+-])"
_NUMBER = r"\d{1,15}(?:\.\d{1,6})?"
_SIZE = _NUMBER + r"(?:[kKMGTPEZY]i?)?B?"
_TIME = r"(?:\d{1,6} days?, )?\d{1,4}:\d\d(?::\d\d)?"
_RATE = r"(?:\?|\d{1,12}(?:\.\d{1,6})?(?:e[+-]\d{1,3})?) ?[^\]\[,]{0,30}?/ ?[^\]\[,]{1,30}"
_LINE = "[━╸╺─]"
_FILL = r"[=#>~*+█▉▊▋▌▍▎▏▒░■□▓●○◼◻·. -]"
_BAR = rf"(?:\|{_FILL}{{1,300}}\||\[{_FILL}{{5,300}}\])"

_TQDM = re.compile(
    rf"{_AT}(?P<done>{_SIZE})/(?P<total>{_SIZE}|\?) ?\[{_TIME}<(?:{_TIME}|\?), {{0,9}}(?P<rate>{_RATE})[\],]"
)
_TQDM_OPEN = re.compile(
    rf"{_AT}(?P<done>{_NUMBER}[kMGTPEZY]?) ?(?:[^\W\d_][^\]\[|/\d\s]{{0,20}})? ?"
    rf"\[{_TIME}, {{0,9}}(?P<rate>{_RATE})[\],]"
)
_PERCENT_BEFORE_BAR = re.compile(r"(?<![\w.,-])\d{1,3}(?:\.\d{1,3})?%(?:\|| )")
_RICH_COUNT = re.compile(
    rf"{_LINE}{{3}} {{1,300}}(?P<done>{_NUMBER})/(?P<total>{_NUMBER})(?: (?P<unit>[kKMGTP]?i?B|bytes)\b)?"
    r"(?: (?P<rate>\d{1,12}(?:\.\d{1,6})? [kKMGTP]?i?B/s))?(?=\s)"
)
_RICH_PERCENT = re.compile(
    rf"(?:{_LINE}{{3}} {{1,300}}|(?<![\w.,-])(?=\d{{1,3}}% (?:-:--:--|\d{{1,3}}:\d\d:\d\d)(?=\s|$)))"
    r"(?P<percent>\d{1,3}(?:\.\d{1,3})?)%"
)
_KERAS = re.compile(
    rf"{_AT}(?P<done>\d{{1,15}})/(?P<total>\d{{1,15}}|Unknown) {{1,9}}"
    rf"(?:\[[=>.#-]{{3}}|{_LINE}{{3}}|- (?:ETA: )?(?:\d{{1,6}}(?:us|ms|s)|{_TIME})(?=\s))"
)
_WORDS = re.compile(
    r"(?<![\w./-])(?P<phrase>(?:(?:time)?step|epoch|iter(?:ation)?|batch|chunk|file|sample|task|frame|trial|fold|"
    r"generation|sweep|episode|image|processed|processing|completed|finished)s?"
    r"[ :#=]{0,3}[\[(]?(?P<done>\d{1,15})(?: {0,3}/ {0,3}| (?:out )?of )(?P<total>\d{1,15}))"
    r"(?![\w/%]|[.,:-]\w| of\b)",
    re.IGNORECASE,
)
_BUILD = re.compile(r"^\s{0,20}\[ {0,9}(?P<done>\d{1,15})/(?P<total>\d{1,15})\](?=\s|$)")
_BUILD_PERCENT = re.compile(r"^\s{0,20}\[ {0,3}(?P<percent>\d{1,3})%\](?=\s|$)")
_BAR_PERCENT = re.compile(rf"(?:{_BAR}|^\s{{0,20}}#{{3,300}}) {{0,200}}(?P<percent>{_NUMBER}) ?%")
_PERCENT_BAR = re.compile(rf"(?<![\w.,-])(?P<percent>{_NUMBER}) ?% ?{_BAR}")
_PERCENT_SAID = re.compile(
    r"(?<![\w-])(?:progress|completed?|done)(?: ?[:=] ?| )(?P<percent>\d{1,3}(?:\.\d{1,6})?) ?%(?!\w)"
    r"|(?<![\w.,-])(?P<percent_>\d{1,3}(?:\.\d{1,6})?) ?% (?:done|completed?|finished)"
    r"(?=$|[.,;:)\]]|\s{1,9}[-(\[|]|\s{1,99}$)",
    re.IGNORECASE,
)
_PERCENT_ALONE = re.compile(r"^\s{0,99}(?P<percent>\d{1,3}(?:\.\d{1,6})?) ?%\s{0,99}$")

_POWERS = {letter: power for power, letter in enumerate("KMGTPEZY", start=1)}


def last_progress(text: str, *, whole: bool = False) -> Progress | None:
    r"""The last progress that a log tells of.

    Args:
        text: The log, or its tail, cut anywhere; its last 256 Ki characters are read. Carriage returns, backspaces
            and terminal colours are understood.
        whole: The text begins where the log begins. Otherwise what touches its start is not believed, because
            digits or words may be missing there. A number that touches its end never is: more of it may be on its way.

    Returns:
        What was done and how much there is, with the bar's description and rate as the message; a percentage is
        ``done`` out of a ``total`` of 100. None where there is nothing to be read.

    Example:
        >>> bar = last_progress("train:  45%|####5     | 45/100 [00:01<00:01, 33.20it/s]\r", whole=True)
        >>> bar.done, bar.total, bar.message
        (45.0, 100.0, 'train, 33.20it/s')
        >>> last_progress("saved on 12/11/2026 in runs/3/10") is None
        True
    """
    if "\x1b" in text:
        text = _COLOUR.sub("", text)
    for line in _lines_from_the_end(text, whole=whole):
        if found := _read(line):
            return found
    return None


class Report(NamedTuple):
    """What a progress file says."""

    progress: Progress | None
    aborted: str | None
    """Why the job stopped itself: where that is the last line."""
    failed: str | None = None
    """The error that ended the work: where that is the last line."""


def last_report(data: bytes | str) -> Report:
    r"""Read a progress file, or its tail: the last complete lines that :mod:`hpcjobs.runtime` wrote.

    Args:
        data: The file's end, cut anywhere; a few kilobytes are enough.

    Example:
        >>> last_report('{"done": 2, "total": 4}\n{"aborted": "enough"}\n').aborted
        'enough'
        >>> str(last_report('{"done": 2, "total": 4}\n{"done": 3, "to').progress)
        '50%'
    """
    text = data.decode("utf-8", "replace") if isinstance(data, bytes) else data
    ends: dict[str, Any] = {}
    last = True
    for line in reversed(text[: text.rfind("\n") + 1].split("\n")):
        fields = _json_object(line)
        if fields is None:
            continue
        if last:
            ends = {how: fields[how] for how in ("aborted", "failed") if isinstance(fields.get(how), str)}
        last = False
        if progress := _from_fields(fields):
            return Report(progress, ends.get("aborted"), ends.get("failed"))
    return Report(None, ends.get("aborted"), ends.get("failed"))


class _Line(NamedTuple):
    """A piece of the log that stood on one line of the screen at one moment."""

    text: str
    cut_before: bool
    cut_after: bool


def _lines_from_the_end(text: str, *, whole: bool) -> Iterator[_Line]:
    if len(text) > _LONGEST:
        text, whole = text[-_LONGEST:], False
    pieces = _MOVE.split(text)
    last = len(pieces) - 1
    for number in range(last, -1, -1):
        if piece := pieces[number]:
            yield _Line(piece, cut_before=number == 0 and not whole, cut_after=number == last)


def _read(line: _Line) -> Progress | None:
    mark = line.text.rfind(MARK)
    if mark >= 0:
        return _from_fields(_json_object(line.text[mark + len(MARK) :]))
    if len(line.text) > _WIDEST:
        line = _Line(line.text[-_WIDEST:], cut_before=True, cut_after=line.cut_after)
    text = line.text
    if "/" not in text and "%" not in text and "[" not in text and " of " not in text:
        return None
    for expression, make in _FORMS:
        if line.cut_after and expression is _PERCENT_BAR:
            continue  # counts may follow the bar
        best: Progress | None = None
        for match in expression.finditer(text):
            if line.cut_before and match.start() == 0 and not match[0][0].isalpha():
                continue
            if line.cut_after and match.end() == len(text) and text[-1:].isdigit():
                continue
            best = make(match, line) or best
        if best is not None:
            return best
    return None


def _json_object(text: str) -> dict[str, Any] | None:
    if not text.lstrip().startswith("{") or len(text) > _MARKED:
        return None
    try:
        fields = json.loads(text)
    except (ValueError, RecursionError):
        return None
    return fields if isinstance(fields, dict) else None


def _from_fields(fields: dict[str, Any] | None) -> Progress | None:
    """Progress as :mod:`hpcjobs.runtime` writes it."""
    if fields is None:
        return None
    done, total, at = _number(fields.get("done")), _number(fields.get("total")), _number(fields.get("at"))
    if done is None or (total is None and fields.get("total") is not None):
        return None
    when: dt.datetime | None = None
    if at is not None:
        with contextlib.suppress(OverflowError, ValueError, OSError):
            when = dt.datetime.fromtimestamp(at, dt.timezone.utc)
    message = fields.get("message")
    return Progress(done=done, total=total, message=message if isinstance(message, str) and message else None, at=when)


def _number(value: Any) -> float | None:
    """A finite number that is not negative, or None for anything else."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return None
    try:
        number = float(value)
    except OverflowError:
        return None
    return number if math.isfinite(number) and number >= 0 else None


def _size(text: str, unit: str = "") -> float:
    """``12.3k``, ``4.5MB`` or ``4.5`` with a unit as a number."""
    digits = text.rstrip("kKMGTPEZYiB")
    letters = (text[len(digits) :] or unit).replace("bytes", "")
    power = _POWERS.get(letters[:1].upper(), 0)
    return float(digits) * float(1024 if "i" in letters else 1000) ** power


def _words(description: str, rate: str = "") -> str | None:
    """The message: what stood before the bar and how fast it goes."""
    description = description.rpartition("\ufffd")[2].strip(" \t:-|").strip()[-_MESSAGE:]
    parts = [part for part in (description, rate.strip()) if part and not part.startswith("?")]
    return ", ".join(parts) or None


def _before(match: re.Match[str], line: _Line, until: int | None = None) -> str:
    """The text before a match, where it is whole."""
    return "" if line.cut_before else line.text[: match.start() if until is None else until]


def _tqdm(match: re.Match[str], line: _Line) -> Progress | None:
    bar = _PERCENT_BEFORE_BAR.search(line.text, 0, match.start())
    before = _before(match, line, bar.start() if bar else None)
    total = None if match["total"] == "?" else _size(match["total"])
    return Progress(done=_size(match["done"]), total=total, message=_words(before, match["rate"]))


def _tqdm_open(match: re.Match[str], line: _Line) -> Progress | None:
    return Progress(done=_size(match["done"]), message=_words(_before(match, line), match["rate"]))


def _rich_count(match: re.Match[str], line: _Line) -> Progress | None:
    unit = match["unit"] or ""
    done, total = _size(match["done"], unit), _size(match["total"], unit)
    return _count(done, total, _words(_before(match, line).rstrip("━╸╺─ "), match["rate"] or ""))


def _rich_percent(match: re.Match[str], line: _Line) -> Progress | None:
    return _count(float(match["percent"]), 100.0, _words(_before(match, line).rstrip("━╸╺─ ")))


def _keras(match: re.Match[str], line: _Line) -> Progress | None:  # noqa: ARG001 - one form of several
    if match["total"] == "Unknown":
        return Progress(done=float(match["done"]))
    return _count(float(match["done"]), float(match["total"]), None)


def _phrase(match: re.Match[str], line: _Line) -> Progress | None:  # noqa: ARG001
    return _count(float(match["done"]), float(match["total"]), match["phrase"].replace("[", "").replace("(", ""))


def _build(match: re.Match[str], line: _Line) -> Progress | None:
    return _count(float(match["done"]), float(match["total"]), _words(line.text[match.end() :]))


def _build_percent(match: re.Match[str], line: _Line) -> Progress | None:
    return _count(float(match["percent"]), 100.0, _words(line.text[match.end() :]))


def _percent(match: re.Match[str], line: _Line) -> Progress | None:
    return _count(float(match["percent"]), 100.0, _words(_before(match, line)))


def _percent_said(match: re.Match[str], line: _Line) -> Progress | None:  # noqa: ARG001
    return _count(float(match["percent"] or match["percent_"]), 100.0, None)


def _count(done: float, total: float, message: str | None) -> Progress | None:
    """Progress, where the numbers make sense as one."""
    return Progress(done=done, total=total, message=message) if 0 <= done <= total and total > 0 else None


_FORMS: tuple[tuple[re.Pattern[str], Callable[[re.Match[str], _Line], Progress | None]], ...] = (
    (_TQDM, _tqdm),
    (_TQDM_OPEN, _tqdm_open),
    (_RICH_COUNT, _rich_count),
    (_RICH_PERCENT, _rich_percent),
    (_KERAS, _keras),
    (_PERCENT_BAR, _percent),
    (_BAR_PERCENT, _percent),
    (_BUILD, _build),
    (_BUILD_PERCENT, _build_percent),
    (_WORDS, _phrase),
    (_PERCENT_SAID, _percent_said),
    (_PERCENT_ALONE, _percent),
)
