"""``python -m tests.browser.page_pictures``: take the pictures of the job page for the documentation anew.

All that is seen is real: a service, jobs, a browser. With ``--all FOLDER`` every page is taken, light, dark and on a
phone, to be looked at; without it those that the documentation shows, into ``docs/_static``.
"""

from __future__ import annotations

import argparse
import shutil
import sys
from pathlib import Path
from typing import Any

from playwright.sync_api import Browser, expect, sync_playwright

from hpcjobs import Client
from tests.benchmarks.bench import Bench
from tests.browser.conftest import FLAGS, NAMES
from tests.browser.job_page import JobPage
from tests.browser.pictures import STATIC
from tests.running import Service

WAYS: dict[str, dict[str, Any]] = {
    "light": {"color_scheme": "light", "viewport": {"width": 1180, "height": 720}},
    "dark": {"color_scheme": "dark", "viewport": {"width": 1180, "height": 720}},
    "phone": {"color_scheme": "light", "viewport": {"width": 390, "height": 844}},
}
SHOWN = {"list-light": "page", "job-light": "page-job"}
"""Those that the documentation shows, and what they are called there."""

STEPS = "for i in $(seq 500); do echo step $i of 500; sleep 0.2; done"
SWEEP = "for i in $(seq 20); do echo $((i * 5))%; sleep 0.1; done; [ {index} != 3 ] || { echo no mesh >&2; exit 3; }"


def main() -> None:
    """Take them."""
    parser = argparse.ArgumentParser(prog="python -m tests.browser.page_pictures", description=__doc__)
    parser.add_argument("--all", type=Path, metavar="FOLDER", help="take every page, into this folder")
    asked = parser.parse_args()
    program = next(filter(None, map(shutil.which, NAMES)))
    with Bench() as bench, bench.service(cores=4, workers=1) as service, sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program, headless=True, args=list(FLAGS))
        token = service.make_token("ada").token or ""
        with service.client(token) as client:
            jobs = _jobs(client)
            for way in WAYS:
                _take(browser, service, token, jobs, way, asked.all)
        browser.close()


def _jobs(client: Client) -> dict[str, str]:
    """Jobs as a researcher has them, in every state."""
    client.submit("for f in a b c; do seq 999 > $f.csv; done; echo 3 files written", name="records").wait(
        progress=False
    )
    sweep = client.submit_array(SWEEP, array=6, name="sweep", tags=["sweep", "damping"])
    sweep.wait(progress=False)
    runs = client.submit(STEPS, name="spectrum", tags=["damping 5%"], walltime="10m", max_attempts=2)
    client.submit(
        "trap 'sleep 100; exit 1' TERM; echo saving takes a while; sleep 999 & wait", name="model", grace="5m"
    )
    stubborn = next(iter(client.jobs(name="model")))
    for job in (runs, stubborn):
        next(iter(job.logs(follow=True)))
    stubborn.cancel(reason="wrong mesh")
    client.submit("python3 report.py", name="report", after=[runs], tags=["paper"])
    client.submit("python3 -m fit record.csv", name="fit", start_in="2h")
    client.cancel(client.submit("sleep 60", name="trial", start_in="2h").id, reason="not needed any more")
    failed = next(iter(client.jobs(state="FAILED")))
    return {"runs": runs.id, "failed": failed.id}


def _take(browser: Browser, service: Service, token: str, jobs: dict[str, str], way: str, folder: Path | None) -> None:
    opened = JobPage(browser, service, token, **WAYS[way])
    page = opened.page

    def take(name: str) -> None:
        called = f"{name}-{way}"
        if folder is None and called not in SHOWN:
            return
        path = STATIC / f"{SHOWN[called]}.png" if folder is None else folder / f"{called}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        page.mouse.move(0, 0)
        page.screenshot(path=path, animations="disabled", full_page=folder is not None)
        sys.stdout.write(f"{path} {path.stat().st_size:,} bytes\n")

    opened.open("login")
    take("login")
    opened.log_in().live()
    expect(opened.state(jobs["runs"])).to_contain_text("RUNNING")
    take("list")
    opened.open("?state=DONE&created_after=soon")
    take("wrong")
    opened.open(f"jobs/{jobs['runs']}").live()
    take("job")
    page.locator("details.ask summary", has_text="Cancel").click()
    take("job-asking")
    opened.open(f"jobs/{jobs['failed']}").live()
    take("job-failed")
    opened.open("queues")
    take("queues")
    opened.open("jobs/nothing")
    take("gone")
    opened.open()
    opened.pick(jobs["runs"], jobs["failed"])
    take("list-picked")
    opened.press("Cancel…")
    take("confirm")
    opened.close()


if __name__ == "__main__":
    main()
