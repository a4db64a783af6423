"""Ten thousand jobs in one call over HTTP, against the same work in process on the same Postgres."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Sequence

import psycopg

from hpcjobs import Client
from hpcjobs.actions import outcomes
from hpcjobs_server.database import connection_info
from hpcjobs_server.queue import TICKETS
from tests.benchmarks.bench import Bench
from tests.benchmarks.figures import Figure, Goal, ratio, timed
from tests.benchmarks.submits import Deferring

# What one would write by hand who knows that the jobs are there, are one's own and have not started: one statement that
# leaves the same rows behind, in the same tables, with the same triggers.
RAW = {
    "update": """
        WITH changed AS (
            UPDATE jobs SET priority = 5, spec = spec || '{"priority": 5}', actor = 'raw', version = version + 1
            WHERE id = ANY(%s) RETURNING id, attempt
        )
        UPDATE procrastinate_jobs p SET priority = 5 FROM changed c
        WHERE p.queueing_lock = c.id || ':' || c.attempt AND p.status = 'todo'
    """,
    "cancel": """
        UPDATE jobs SET state = 'CANCELLED', reason = 'measured', finished_at = now(), changed_at = now(),
            actor = 'raw', version = version + 1
        WHERE id = ANY(%s)
    """,
    "retry": f"""
        WITH changed AS (
            UPDATE jobs SET state = 'QUEUED', reason = NULL, finished_at = NULL, changed_at = now(), actor = 'raw',
                version = version + 1
            WHERE id = ANY(%s) RETURNING id, seq, queue, priority, cores, attempt, start_at
        )
        {TICKETS.format(rows="changed")}
    """,
    "delete": "DELETE FROM jobs WHERE id = ANY(%s)",
}


class Hand:
    """The statements by hand, in this process."""

    def __init__(self, connection: psycopg.Connection[tuple[object, ...]]) -> None:
        self._connection = connection

    def twins(self, ids: Sequence[str]) -> list[uuid.UUID]:
        """Jobs like these, with tickets, for the other side; their ids."""
        new = {uuid.UUID(one): uuid.uuid4() for one in ids}
        columns = ", ".join(
            str(row[0])
            for row in self._connection.execute(
                "SELECT attname FROM pg_attribute WHERE attrelid = 'jobs'::regclass AND attnum > 0"
                " AND NOT attisdropped AND attname NOT IN ('id', 'seq', 'submit_key')"
            )
        )
        self._connection.execute(
            f"INSERT INTO jobs (id, {columns}) SELECT n.new, {columns} FROM jobs JOIN unnest(%s::uuid[], %s::uuid[])"
            " AS n (old, new) ON n.old = id ORDER BY seq",
            [list(new), list(new.values())],
        )
        self._connection.execute("SELECT issue_tickets(%s)", [list(new.values())])
        return list(new.values())

    def do(self, action: str, ids: Sequence[uuid.UUID]) -> None:
        """One action."""
        self._connection.execute(RAW[action].encode(), [ids])

    def drop_tickets(self) -> None:
        """What workers would do with the tickets of jobs that were cancelled."""
        self._connection.execute("DELETE FROM procrastinate_jobs")

    def tidy(self) -> None:
        """Leave no dead rows of one round to the next."""
        self._connection.execute("VACUUM ANALYZE")


def acted(client: Client, action: str, ids: Sequence[str]) -> None:
    """One action over HTTP, which must do its work on all of them."""
    done = {
        "update": lambda: client.update_many(ids, {"priority": 5}),
        "cancel": lambda: client.cancel_many(ids, reason="measured"),
        "retry": lambda: client.retry_many(ids),
        "delete": lambda: client.delete_many(ids),
    }[action]()
    assert list(outcomes(done).values()) == [len(ids)], outcomes(done)


def run(bench: Bench) -> list[Figure]:
    rounds, count = bench.rounds(5, 2), bench.rounds(10_000, 500)
    specs = [{"command": ["true"], "name": f"job-{number}"} for number in range(count)]
    found: dict[str, dict[str, list[float]]] = {}

    def note(what: str, **ways: Callable[[], float]) -> None:
        rows = found.setdefault(what, {name: [] for name in ways})
        # which of them is first changes from round to round
        names = list(ways)[:: -1 if len(next(iter(rows.values()))) % 2 else 1]
        for name in names:
            rows[name].append(ways[name]())

    with (
        bench.service(workers=0) as service,
        service.client() as client,
        bench.database() as address,
        Deferring(address) as procrastinating,
        psycopg.connect(connection_info(service.settings.database_url), autocommit=True) as connection,
    ):
        hand = Hand(connection)

        def one_round() -> None:
            made: list[str] = []
            arrays: list[str] = []

            def many() -> float:
                jobs = []
                seconds = timed(lambda: jobs.extend(client.submit_many(specs)))
                made.extend(job.id for job in jobs)
                return seconds

            def array() -> float:
                handles = []
                seconds = timed(lambda: handles.append(client.submit_array(["true"], array=count)))
                arrays.extend(handle.id for handle in handles)
                return seconds

            note("submit_many", ours=many, array=array, raw=lambda: procrastinating.batch_defer(count))
            client.delete_many(arrays)
            twins = hand.twins(made)
            for action in RAW:
                if action == "retry":
                    hand.drop_tickets()
                note(
                    action,
                    ours=lambda action=action: timed(lambda: acted(client, action, made)),
                    raw=lambda action=action: timed(lambda: hand.do(action, twins)),
                )
            hand.drop_tickets()
            procrastinating.forget()
            hand.tidy()

        one_round()  # opens connections, and plans
        found.clear()
        bench.say(f"{rounds} rounds of {count} jobs each")
        for _ in range(rounds):
            one_round()

    submitted = found.pop("submit_many")
    figures = [
        Figure(
            "bulk",
            f"{what} of {count:,} over HTTP, in jobs a second, against Procrastinate's `batch_defer` in process",
            ratio([1 / one for one in submitted[name]], [1 / one for one in submitted["raw"]]),
            "x",
            Goal(0.5, "at least"),
            f"{count / min(submitted[name]):,.0f}/s against {count / min(submitted['raw']):,.0f}/s in the best round",
        )
        for name, what in (("ours", "`submit_many`"), ("array", "an array"))
    ]
    return figures + [
        Figure(
            "bulk",
            f"`{action}_many` of {count:,} over HTTP, time against one statement by hand",
            ratio(times["ours"], times["raw"]),
            "x",
            Goal(3),
            f"{min(times['ours']) * 1e3:.0f} ms against {min(times['raw']) * 1e3:.0f} ms in the best round",
        )
        for action, times in found.items()
    ]
