"""Jobs in HTML: without a style sheet and without a script, because a saved notebook is shown without them.

Colours are those of JupyterLab or VS Code, light or dark, or else such as can be read on both. Everything that comes
from elsewhere is escaped.
"""

from __future__ import annotations

import html
from collections.abc import Sequence

from hpcjobs.lifecycle import JobState
from hpcjobs.lines import FEW, SYMBOLS, counts, details, worth_a_line
from hpcjobs.models import JobInfo
from hpcjobs.wording import clean

GREEN = "var(--jp-success-color0, var(--vscode-charts-green, #2e8b3a))"
RED = "var(--jp-error-color1, var(--vscode-charts-red, #e03c3c))"
BLUE = "var(--jp-brand-color1, var(--vscode-charts-blue, #2a7fd4))"
ORANGE = "var(--jp-warn-color0, var(--vscode-charts-orange, #d9730d))"
MUTED = "var(--jp-content-font-color2, var(--vscode-descriptionForeground, #808080))"
SHADES = {JobState.FINISHED: GREEN, JobState.FAILED: RED, JobState.RUNNING: BLUE, JobState.CANCELLED: MUTED}


def as_html(jobs: Sequence[JobInfo], remark: str = "") -> str:
    """Jobs as HTML: a line about one; about several the counts, and a row for each that is worth one.

    Args:
        jobs: In the caller's order.
        remark: A sentence below.
    """
    below = f'<div style="color:{MUTED}">{escaped(remark)}</div>' if remark else ""
    if len(jobs) == 1:
        (info,) = jobs
        parts = [state(info), escaped(info.name or ""), identity(info), bar_of(info), escaped(details(info))]
        inner = f"<div>{' '.join(part for part in parts if part)}</div>"
    else:
        ended = sum(info.terminal for info in jobs)
        shown = bar(ended / len(jobs), "jobs that have ended") + " " if ended < len(jobs) else ""
        head, dot, rest = escaped(counts(jobs)).partition(" · ")
        inner = f"<div>{shown}<b>{head}</b>{dot}{rest}</div>{_table(worth_a_line(jobs))}"
    return f'<div style="padding:2px 5px;line-height:1.5">{inner}{below}</div>'


def line_as_html(text: str, fraction: float | None = None, name: str = "") -> str:
    """A line of text as HTML, behind a bar called ``name`` where there is a ``fraction``."""
    shown = f"{bar(fraction, name)} " if fraction is not None else ""
    return f'<div style="padding:2px 5px;line-height:1.5">{shown}{escaped(text)}</div>'


def _table(rows: Sequence[JobInfo]) -> str:
    if not rows:
        return ""
    more = f'<div style="color:{MUTED}">and {len(rows) - FEW} more</div>' if len(rows) > FEW else ""
    named = any(info.name for info in rows)
    lines: list[str] = []
    for info in rows[:FEW]:
        cells = [state(info), *([escaped(info.name or "")] if named else []), identity(info)]
        *first, last = [*cells, f"{bar_of(info)} {escaped(details(info))}".strip()]
        kept = "".join(f'<td style="text-align:left;white-space:nowrap">{cell}</td>' for cell in first)
        lines.append(f'<tr>{kept}<td style="text-align:left">{last}</td></tr>')
    return f'<table style="margin:4px 0">{"".join(lines)}</table>{more}'


def state(info: JobInfo) -> str:
    """The state as sign, word and colour."""
    asked = info.cancel_requested and not info.terminal
    shade = ORANGE if asked else SHADES.get(info.state, "inherit")
    return f'<b style="color:{shade};margin-right:0.5em">{SYMBOLS[info.state]} {escaped(info.label)}</b>'


def identity(info: JobInfo) -> str:
    """The id, small."""
    return f'<code style="color:{MUTED};background:none;font-size:85%">{escaped(info.id)}</code>'


def bar_of(info: JobInfo) -> str:
    """How far a job is; empty where it does not say."""
    fraction = info.progress.fraction if info.progress is not None and not info.terminal else None
    return bar(fraction, f"progress of job {info.name or info.id}") if fraction is not None else ""


def bar(fraction: float, name: str) -> str:
    """A bar that a screen reader calls ``name``."""
    style = f"width:10em;vertical-align:middle;accent-color:{BLUE}"
    return f'<progress max="1" value="{fraction:.3f}" aria-label="{escaped(name)}" style="{style}"></progress>'


def escaped(text: str) -> str:
    """Text from elsewhere, on one line."""
    return html.escape(clean(text))
