"""All SQL of the jobs, tokens and workers tables: nothing else reads or writes them.

The rules that hold here:

* The ``jobs`` table is the only truth; a ticket is written in the statement that makes a job ready.
* ``attempt`` fences: only the worker that made the attempt can end it.
* Many rows are locked in the order of their ids, so that two bulk calls cannot deadlock.
* Only the database's clock decides about time.
"""

from __future__ import annotations

from hpcjobs_server.database import EVENTS_CHANNEL
from hpcjobs_server.store.actions import Actions, Repeated, TooMany
from hpcjobs_server.store.history import Records
from hpcjobs_server.store.jobs import Jobs, Place, WorkerInfo
from hpcjobs_server.store.queues import Queues
from hpcjobs_server.store.rows import BadCursor
from hpcjobs_server.store.searching import BadSearch, Condition, Every, Not, Order, Search, Some, Test, truth
from hpcjobs_server.store.submits import BadDependency, KeyReused, Submits
from hpcjobs_server.store.tapis import Seen, TapisView
from hpcjobs_server.store.work import Claim, Finish, Held, Moved, Work


class Store(Submits, Jobs, Actions, Queues, Records, TapisView):
    """Everything that the API asks of the database."""


__all__ = [
    "EVENTS_CHANNEL",
    "BadCursor",
    "BadDependency",
    "BadSearch",
    "Claim",
    "Condition",
    "Every",
    "Finish",
    "Held",
    "KeyReused",
    "Moved",
    "Not",
    "Order",
    "Place",
    "Repeated",
    "Search",
    "Seen",
    "Some",
    "Store",
    "TapisView",
    "Test",
    "TooMany",
    "Work",
    "WorkerInfo",
    "truth",
]
