"""What it costs to have the client at all: the import, and the first call.

The baseline is what one would write without the client: httpx, a pydantic model of the answer, tenacity. CPU time of the
whole process, system time included, less that of a Python that does nothing.
"""

from __future__ import annotations

import statistics
import subprocess
import sys
import textwrap

from tests.benchmarks.bench import Bench
from tests.benchmarks.figures import Figure, Goal, interleaved, ratio
from tests.running import clean_environ

EMPTY = "pass"
IMPORT = "import hpcjobs"
STACK = """
    import httpx
    import tenacity
    from pydantic import BaseModel
"""
CALL = """
    import os
    import hpcjobs
    client = hpcjobs.Client(url=os.environ["BENCH_URL"], token=os.environ["BENCH_TOKEN"])
    assert client.job(os.environ["BENCH_JOB"]).info.owner == "tester"
"""
RAW_CALL = """
    from __future__ import annotations
    import datetime as dt, os
    import httpx
    import tenacity
    from pydantic import BaseModel

    class Progress(BaseModel):
        done: float
        total: float | None = None
        message: str | None = None
        at: dt.datetime | None = None

    class JobInfo(BaseModel):
        id: str
        state: str
        name: str | None = None
        owner: str | None = None
        queue: str | None = None
        priority: int | None = None
        tags: list[str] = []
        meta: dict[str, object] = {}
        cancel_requested: bool = False
        cancel_reason: str | None = None
        reason: str | None = None
        exit_code: int | None = None
        progress: Progress | None = None
        attempt: int = 0
        max_attempts: int = 1
        created_at: dt.datetime | None = None
        started_at: dt.datetime | None = None
        finished_at: dt.datetime | None = None
        version: int | None = None
        spec: dict[str, object] | None = None

    headers = {"Authorization": "Bearer " + os.environ["BENCH_TOKEN"]}
    client = httpx.Client(base_url=os.environ["BENCH_URL"], headers=headers)
    answer = client.get("/v1/jobs/" + os.environ["BENCH_JOB"]).raise_for_status()
    assert JobInfo.model_validate_json(answer.content).owner == "tester"
"""


def cpu_of(code: str, environ: dict[str, str]) -> float:
    """CPU seconds, user and system, of a Python that runs ``code``, as it sees them itself before it ends."""
    asked = textwrap.dedent(code) + "\nimport sys, time\nsys.stderr.write(repr(time.process_time()))\n"
    done = subprocess.run(
        [sys.executable, "-c", asked], env=environ, check=True, timeout=60, stderr=subprocess.PIPE, text=True
    )
    return float(done.stderr)


def run(bench: Bench) -> list[Figure]:
    # Compiled code is kept where both sides find it, whatever the developer's own environment says about that.
    environ = {**clean_environ(), "PYTHONPYCACHEPREFIX": str(bench.folder / "pycache")}
    environ.pop("PYTHONDONTWRITEBYTECODE", None)
    rounds = bench.rounds(25, 3)
    with bench.service(workers=0) as service, service.client() as client:
        environ.update(BENCH_URL=service.url, BENCH_TOKEN=service.token, BENCH_JOB=client.submit("true", name="x").id)
        codes = {"empty": EMPTY, "ours": IMPORT, "stack": STACK, "call": CALL, "raw": RAW_CALL}
        for code in codes.values():
            cpu_of(code, environ)
        bench.say(f"{rounds} rounds of {len(codes)} processes")
        found = interleaved(rounds, **{name: (lambda code=code: cpu_of(code, environ)) for name, code in codes.items()})
    net = {
        name: [value - empty for value, empty in zip(values, found["empty"], strict=True)]
        for name, values in found.items()
    }
    middle = {name: statistics.median(values) * 1e3 for name, values in net.items()}
    return [
        Figure(
            "imports",
            "CPU of `import hpcjobs` against `import httpx, tenacity` and `pydantic.BaseModel`",
            ratio(net["ours"], net["stack"]),
            "x",
            Goal(0.3),
            f"{middle['ours']:.1f} ms against {middle['stack']:.1f} ms, an empty Python taken off",
        ),
        Figure(
            "imports",
            "CPU of import, client and first `get`, against the same with raw httpx and a pydantic model",
            ratio(net["call"], net["raw"]),
            "x",
            Goal(1.1),
            f"{middle['call']:.1f} ms against {middle['raw']:.1f} ms; the stack's import alone is {middle['stack']:.1f} ms",
        ),
    ]
