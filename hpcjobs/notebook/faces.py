"""The HTML of a card: what a job looks like at one moment. No style sheet, no script; everything is escaped."""

from __future__ import annotations

import datetime as dt
import html
from collections.abc import Sequence
from typing import TYPE_CHECKING

from hpcjobs import lines, markup
from hpcjobs.lifecycle import JobState
from hpcjobs.wording import duration, plain_log, size

if TYPE_CHECKING:
    from hpcjobs.models import JobInfo, OutputFile
    from hpcjobs.notebook.pace import Pace

_MUTED = f"color:{markup.MUTED}"
_BORDER = "1px solid var(--jp-border-color2, var(--vscode-widget-border, #9e9e9e66))"
_FONT = "font-family:var(--jp-ui-font-family, sans-serif);font-size:var(--jp-ui-font-size1, 13px);line-height:1.5"


def short(info: JobInfo) -> str:
    """What a button calls a job: its name, or the beginning of its id."""
    name = info.name or info.id[:8]
    return name if len(name) <= 30 else name[:29] + "…"


def head(info: JobInfo) -> str:
    """State, name and id; a screen reader says the state when it changes."""
    name = f'<span style="font-weight:600">{markup.escaped(info.name)}</span> ' if info.name else ""
    label = markup.escaped(lines.title(info))
    return (
        f'<div role="group" aria-label="job {label}" style="{_FONT}">'
        f'<span role="status">{markup.state(info)}</span>{name}{markup.identity(info)}</div>'
    )


def body(info: JobInfo, pace: Pace | None = None, now: dt.datetime | None = None) -> str:
    """How far it is, for how long, and why it is where it is."""
    now = now or dt.datetime.now(dt.timezone.utc)
    rows: list[str] = []
    if info.progress is not None and info.state >= JobState.RUNNING and info.state is not JobState.UNKNOWN:
        parts = [markup.escaped(str(info.progress))]
        if pace is not None and not info.terminal and str(pace):
            parts.append(str(pace))
        fraction = info.progress.fraction
        bar = "" if fraction is None else _bar(fraction, f"progress of job {lines.title(info)}")
        rows.append(f"<div>{bar}{' · '.join(parts)}</div>")
    rows.append(f'<div style="{_MUTED}">{markup.escaped(" · ".join(_times(info, now)))}</div>')
    reason = lines.why(info) if info.terminal and info.state is not JobState.FINISHED else info.reason
    if reason and info.state is not JobState.FINISHED:
        rows.append(f"<div>{markup.escaped(reason)}</div>")
    if info.cancel_requested and not info.terminal:
        asked = f": {info.cancel_reason}" if info.cancel_reason else ""
        rows.append(f"<div>{markup.escaped(f'it was asked to stop{asked}')}</div>")
    return f'<div style="{_FONT}">{"".join(rows)}</div>'


def _times(info: JobInfo, now: dt.datetime) -> list[str]:
    parts: list[str] = []
    waited, ran = info.queue_time(now), info.run_time(now)
    if info.started_at is None:
        if waited is not None and not info.terminal:
            parts.append(f"waiting {duration(waited)}")
        elif info.terminal:
            parts.append("never ran")
    elif ran is not None:
        parts.append(f"{'ran' if info.terminal else 'running'} {duration(ran)}")
        if waited is not None:
            parts.append(f"waited {duration(waited)}")
    if info.attempt > 1:
        parts.append(f"attempt {info.attempt}")
    if info.queue and info.queue != "default":
        parts.append(f"queue {info.queue}")
    if info.start_at is not None and info.state.not_started and info.start_at > now:
        parts.append(f"not before {info.start_at.astimezone():%Y-%m-%d %H:%M:%S}")
    if info.tags:
        parts.append(", ".join(info.tags))
    return parts


def _bar(fraction: float, name: str) -> str:
    style = f"width:16em;max-width:60%;vertical-align:middle;margin-right:0.6em;accent-color:{markup.BLUE}"
    return f'<progress max="1" value="{fraction:.3f}" aria-label="{markup.escaped(name)}" style="{style}"></progress>'


def log(info: JobInfo, text: str) -> str:
    """The end of the log; empty where there is none."""
    shown = plain_log(text)
    if not shown:
        return ""
    style = (
        "margin:4px 0 0 0;padding:4px 8px;max-height:16em;overflow:auto;white-space:pre-wrap;overflow-wrap:anywhere;"
        "font-family:var(--jp-code-font-family, monospace);font-size:var(--jp-code-font-size, 12px);line-height:1.35;"
        f"border-left:3px solid {markup.MUTED};background:none;color:inherit"
    )
    name = markup.escaped(f"end of the log of job {lines.title(info)}")
    return f'<pre tabindex="0" aria-label="{name}" style="{style}">{html.escape(shown)}</pre>'


def note(text: str, *, bad: bool = False) -> str:
    """A sentence about what was clicked or about the connection; a screen reader says it."""
    if not text:
        return ""
    colour = markup.RED if bad else markup.MUTED
    sign = "⚠ " if bad else ""
    return f'<div role="status" style="{_FONT};color:{colour}">{sign}{markup.escaped(text)}</div>'


def files(found: Sequence[OutputFile], links: dict[str, str]) -> str:
    """A job's files.

    Args:
        found: The files.
        links: For those that can be fetched by the browser, their content as a ``data:`` address.
    """
    if not found:
        return f'<div style="{_FONT};{_MUTED}">no files</div>'
    rows = []
    for file in found[:100]:
        name = markup.escaped(file.path)
        if file.path in links:
            label = markup.escaped(file.path.rpartition("/")[2])
            name = f'<a href="{links[file.path]}" download="{label}" style="text-decoration:underline">{name}</a>'
        rows.append(
            f'<tr><td style="text-align:left">{name}</td>'
            f'<td style="text-align:right;{_MUTED}">{size(file.size)}</td></tr>'
        )
    more = f'<div style="{_MUTED}">and {len(found) - 100:,} more</div>' if len(found) > 100 else ""
    return f'<div style="{_FONT}"><table style="margin:4px 0" aria-label="files">{"".join(rows)}</table>{more}</div>'


def caption(info: JobInfo, now: dt.datetime | None = None) -> str:
    """What stays in the notebook's file while the job goes on: its last state, and when that was seen."""
    return f'<div style="{_FONT};font-size:85%;{_MUTED}">{markup.escaped(caption_text(info, now))}</div>'


def caption_text(info: JobInfo, now: dt.datetime | None = None) -> str:
    """The same in words."""
    seen = (now or dt.datetime.now().astimezone()).astimezone()
    far = f", {info.progress}" if info.progress is not None and not info.terminal else ""
    return f'seen {seen:%Y-%m-%d %H:%M:%S}: {info.label}{far} · now: client.job("{info.id}")'


def static(info: JobInfo, *, tail: str = "", said: str = "", listed: Sequence[OutputFile] = ()) -> str:
    """A card without buttons, for the notebook's file.

    Args:
        info: The job, as it was last seen.
        tail: The end of its log, which is shown where it did not end well.
        said: What came of the last click.
        listed: Its files, where they were looked at.
    """
    parts = [head(info), body(info)]
    if info.state is not JobState.FINISHED:
        parts.append(log(info, tail))
    parts.append(note(said))
    if listed:
        parts.append(files(listed, {}))
    return f'<div style="border:{_BORDER};border-radius:4px;padding:6px 10px;max-width:60em">{"".join(parts)}</div>'
