"""What the demo tells, one method per step; it uses the public client as anyone would, and checks what it says."""

from __future__ import annotations

import contextlib
import importlib.util
import shutil
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeAlias

from rich.markup import escape
from rich.table import Table

from hpcjobs import Client, Job
from hpcjobs.lifecycle import NOT_STARTED, JobState
from hpcjobs.models import CancelOutcome, CancelResult, JobInfo, ServiceInfo
from hpcjobs_server.demo import picture, sweep
from hpcjobs_server.demo.claims import DemoError, claim
from hpcjobs_server.demo.hints import program, short, submission
from hpcjobs_server.demo.screen import Screen, state
from hpcjobs_server.demo.service import START_SECONDS, DemoService
from hpcjobs_server.processes import pauses

LOOK = 0.1
"""Seconds between two looks at all jobs."""

PATIENCE = 180.0
"""Seconds that any step may take; on two cores all of them take half a minute."""

LOG_LINES = 5

Infos: TypeAlias = "dict[float, JobInfo]"
"""What is known of the jobs, by their damping."""


def with_a_worker(client: Client, *, within: float = START_SECONDS) -> ServiceInfo:
    """What the service says of itself once it has a worker: on a busy machine it answers before.

    Args:
        client: A client of it.
        within: Seconds.

    Raises:
        DemoError: It has none by then.
    """
    for _ in pauses(within):
        info = client.info()
        if info.workers and info.max_cores:
            return info
    raise DemoError(f"the service has no worker after {within:g} s")


class Story:
    """One run.

    Args:
        screen: Where it is told.
        service: The service, not started yet.
        results: The folder for the results.
    """

    def __init__(self, screen: Screen, service: DemoService, results: Path) -> None:
        self.screen, self.service, self.results = screen, service, results
        self.tag = f"demo-{uuid.uuid4().hex[:8]}"
        self.jobs: dict[float, Job] = {}
        self.reasons: dict[float, str] = {}
        """Why jobs were cancelled."""

    def tell(self) -> None:
        """Tell it from start to end.

        Raises:
            DemoError: Something could not be done, or is not as it should be.
        """
        missing = [name for name in ("numpy", "matplotlib") if importlib.util.find_spec(name) is None]
        if missing:
            raise DemoError(f"{' and '.join(missing)} cannot be found; install with: pip install 'hpcjobs[demo]'")
        self.clear_results()
        self.start()
        with self.service.client() as client:
            self.submit(client)
            streamed = self.watch_the_first(client)
            self.stream(streamed)
            self.cancel(client, spare=streamed)
            self.cancel_again()
            infos = self.wait(client)
            spectra = self.download(infos)
            self.summarize(infos, spectra)
        self.stop()
        self.say_what_is_next()

    def clear_results(self) -> None:
        """Remove what an earlier run has written, and nothing else."""
        self.results.mkdir(parents=True, exist_ok=True)
        (self.results / "spectra.png").unlink(missing_ok=True)
        for damping in sweep.DAMPINGS:
            folder = self.results / sweep.name(damping)
            with contextlib.suppress(OSError):
                (folder / sweep.OUTPUT).unlink()
                folder.rmdir()

    def start(self) -> None:
        """Start the service."""
        self.screen.step("Start the service: an API, a worker and a Postgres of its own")
        self.screen.command(f"hpcjobs serve --port 0 --cores {self.service.cores} --data {short(self.service.folder)}")
        self.service.start()

    def submit(self, client: Client) -> None:
        """Submit one job per damping."""
        info = with_a_worker(client)
        self.screen.say(
            f"hpcjobs {info.version} at {self.service.url} after {self.screen.seconds:.1f} s, "
            f"{info.max_cores} cores for jobs"
        )
        self.screen.step("Submit a sweep: an earthquake's response spectrum for eight dampings")
        self.screen.say(f"[dim]{sweep.TITLE}[/]")
        self.screen.code(
            "for d in [0.005, 0.01, ...]:\n"
            '    client.submit(f"python spectrum.py record.csv --damping {d}", cores=1,\n'
            '                  inputs=["spectrum.py", "record.csv"], walltime="5m")'
        )
        began = time.monotonic()
        self.jobs = {damping: sweep.submit(client, damping, tag=self.tag) for damping in sweep.DAMPINGS}
        took = time.monotonic() - began
        self.screen.say(f"{len(self.look(client))} jobs submitted in {took:.2f} s")

    def look(self, client: Client) -> Infos:
        """All jobs of this run at this moment, with one request."""
        infos = {job.id: job.info for job in client.jobs(tag=self.tag)}
        claim(set(infos) == {job.id for job in self.jobs.values()}, "the service lists other jobs than were submitted")
        return {damping: infos[job.id] for damping, job in self.jobs.items()}

    def watch(self, client: Client, until: Callable[[Infos], bool], *, keep: bool) -> Infos:
        """Show all jobs until something is so; a job that fails ends the demo at once."""
        deadline = time.monotonic() + PATIENCE
        with self.screen.watching(keep=keep) as show:
            while True:
                infos = self.look(client)
                show(list(infos.values()))
                for damping, info in infos.items():
                    if info.state is JobState.FAILED:
                        log = self.jobs[damping].logs(tail=10)
                        raise DemoError(f"the job for {sweep.label(damping)} failed: {info.reason}\n{log}")
                if until(infos):
                    return infos
                claim(time.monotonic() < deadline, f"the jobs were not as expected after {PATIENCE:g} s")
                time.sleep(LOOK)

    def watch_the_first(self, client: Client) -> float:
        """Watch until a job has got somewhere; returns its damping."""
        self.screen.step("Watch them")
        infos = self.watch(client, lambda infos: any(map(_under_way, infos.values())), keep=True)
        waiting = sum(info.state in NOT_STARTED for info in infos.values())
        claim(waiting >= 2, "no job waits, although there are more jobs than cores")
        return next(damping for damping, info in infos.items() if _under_way(info))

    def stream(self, damping: float) -> None:
        """Follow a job's log for a while."""
        job = self.jobs[damping]
        self.screen.step(f"Follow the log of the job for {sweep.label(damping)} while it runs")
        self.screen.command(f"hpcjobs logs --follow {job.id}")
        shown = 0
        for line in _lines(job):
            self.screen.quote(line)
            shown += 1
            if shown == LOG_LINES:
                break
        claim(shown == LOG_LINES, f"the log ended after {shown} lines")

    def cancel(self, client: Client, *, spare: float) -> None:
        """Cancel a job that runs, rather not the one to ``spare``, and one that waits."""
        self.screen.step("Cancel one job that runs and one that waits, each with a reason")
        claim(self.service.cancel_requests() == 0, "the service counts requests to cancel before any was sent")
        sent = 0
        deadline = time.monotonic() + PATIENCE
        while not self.reasons:  # a job may end between the look and the request: that is an outcome like any other
            claim(time.monotonic() < deadline, "no running job could be cancelled")
            infos = self.look(client)
            running = [damping for damping, info in infos.items() if info.state is JobState.RUNNING]
            if not running:
                time.sleep(LOOK)
                continue
            damping = next((one for one in reversed(running) if one != spare), spare)
            reason = "its neighbours are enough"
            result = self.cancel_one(damping, "running", reason)
            sent += result.outcome is not CancelOutcome.ALREADY_TERMINAL
            if result.outcome is CancelOutcome.CANCEL_REQUESTED:
                self.reasons[damping] = reason

        waiting = [damping for damping, info in self.look(client).items() if info.state in NOT_STARTED]
        claim(bool(waiting), "no job waits any more")
        damping = waiting[-1]
        self.reasons[damping] = "more than the building has"
        result = self.cancel_one(damping, "waiting", self.reasons[damping])
        sent += 1
        claim(result.outcome is CancelOutcome.CANCELLED, f"a job that waits was not cancelled at once: {result}")

        for damping, reason in self.reasons.items():
            info = self.jobs[damping].wait(timeout=PATIENCE, progress=False)
            claim(info.state is JobState.CANCELLED, f"the job for {sweep.label(damping)} ended {info.state}")
            claim(info.cancel_reason == reason, f"the reason was not kept: {info.cancel_reason!r}")
            kept = escape(info.cancel_reason or "")
            self.screen.say(f"{sweep.label(damping)} ended [yellow]{info.state}[/] with the reason: {kept}")
        counted = self.service.cancel_requests()
        claim(counted == sent, f"{sent} requests to cancel were sent, and the service counts {counted}")

    def cancel_again(self) -> None:
        """Cancel what is cancelled, and prove that no request was sent."""
        self.screen.step("Cancel them again: a look at the state, and no request to cancel")
        before = self.service.cancel_requests()
        for damping in self.reasons:
            result = self.cancel_one(damping, "cancelled", "once more")
            claim(result.outcome is CancelOutcome.ALREADY_TERMINAL, f"a second cancel came to {result.outcome}")
        after = self.service.cancel_requests()
        claim(after == before, f"a second cancel sent {after - before} requests")
        self.screen.say(f"requests to cancel that the service has received: {before} before, {after} after")

    def cancel_one(self, damping: float, which: str, reason: str) -> CancelResult:
        """Cancel one job, and show the call and what it came to."""
        self.screen.code(f"job.cancel(reason={reason!r})  # {sweep.label(damping)}, {which}")
        result = self.jobs[damping].cancel(reason=reason)
        change = f"it was {result.before}" + ("" if result.after == result.before else f", it is {result.after}")
        self.screen.say(f"[bold]{result.outcome}[/] [dim]({change})[/]")
        return result

    def wait(self, client: Client) -> Infos:
        """Wait until every job has ended as it should."""
        self.screen.step("Wait for the others")
        infos = self.watch(client, lambda infos: all(info.terminal for info in infos.values()), keep=False)
        for damping, info in infos.items():
            expected = JobState.CANCELLED if damping in self.reasons else JobState.FINISHED
            claim(info.state is expected, f"the job for {sweep.label(damping)} ended {info.state}, not {expected}")
            if expected is JobState.FINISHED:
                claim(info.exit_code == 0, f"the job for {sweep.label(damping)} ended with exit code {info.exit_code}")
        number = len(infos) - len(self.reasons)
        self.screen.say(f"{number} jobs are [green]FINISHED[/], {self.screen.seconds:.0f} s after the start")
        return infos

    def download(self, infos: Infos) -> dict[float, sweep.Spectrum]:
        """Download what the jobs have written, and draw it."""
        self.screen.step(f"Download the results to {short(self.results)}")
        spectra: dict[float, sweep.Spectrum] = {}
        for damping, info in infos.items():
            if info.state is JobState.FINISHED:
                files = self.jobs[damping].download(self.results / sweep.name(damping), sweep.OUTPUT)
                names = [file.name for file in files]
                claim(names == [sweep.OUTPUT], f"the job for {sweep.label(damping)} gave {names}, not {sweep.OUTPUT}")
                spectra[damping] = sweep.read_spectrum(files[0], damping)
        for source in (sweep.PROGRAM, sweep.RECORD):
            shutil.copyfile(source, self.results / source.name)
        picture.draw(list(spectra.values()), self.results / "spectra.png")
        return spectra

    def summarize(self, infos: Infos, spectra: dict[float, sweep.Spectrum]) -> None:
        """Show what came of it."""
        table = Table(box=None, padding=(0, 1), header_style="bright_black", pad_edge=False)
        for title in ("  damping", "peak acceleration", "at period", "ran"):
            table.add_column(title, justify="right")
        table.add_column("state")
        table.add_column("reason")
        for damping, info in infos.items():
            height, period = spectra[damping].peak if damping in spectra else (None, None)
            run_time = info.run_time()
            table.add_row(
                sweep.label(damping),
                f"{height:.3f} g" if height is not None else "",
                f"{period:.3f} s" if period is not None else "",
                f"{run_time.total_seconds():.1f} s" if run_time is not None else "",
                state(info),
                escape(info.cancel_reason or ""),
            )
        self.screen.put()
        self.screen.put(table)
        self.screen.put()
        peaks = [one.peak[0] for one in spectra.values()]
        claim(peaks == sorted(peaks, reverse=True), "the peak does not fall with the damping: the spectra are wrong")
        self.screen.say("The more damping, the lower the peak, as it must be.")
        self.screen.say(f"[bold]{escape(short(self.results / 'spectra.png'))}[/] shows them all.")

    def stop(self) -> None:
        """Stop the service."""
        self.screen.step("Stop the service")
        number = self.service.stop()
        self.screen.say(f"its {number} processes have ended: [green]no process left[/]")

    def say_what_is_next(self) -> None:
        """Say what to try next."""
        hpcjobs = program()
        again = submission(self.results / sweep.PROGRAM.name, self.results / sweep.RECORD.name)
        self.screen.step(f"That took {self.screen.seconds:.0f} s. Three commands to try next")
        self.screen.command(f"{hpcjobs} {again}")
        self.screen.say("[dim]starts a service of your own if none runs, and prints the job's ID[/]")
        self.screen.command(f"{hpcjobs} watch ID")
        self.screen.command(f"{hpcjobs} serve --stop")


def _under_way(info: JobInfo) -> bool:
    return info.state is JobState.RUNNING and info.progress is not None and info.progress.done > 0


def _lines(job: Job) -> Iterator[str]:
    """The lines of a job's log as they come."""
    rest = ""
    for text in job.logs(follow=True):
        *whole, rest = (rest + text).split("\n")
        yield from whole
    if rest:
        yield rest
