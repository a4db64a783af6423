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
from hpcjobs_server.store.counting import Counted, Counts
from hpcjobs_server.store.history import Records
from hpcjobs_server.store.jobs import Jobs, Place, WorkerInfo
from hpcjobs_server.store.neighbours import Around, Neighbour, Neighbours
from hpcjobs_server.store.queues import Queues
from hpcjobs_server.store.rows import BadCursor
from hpcjobs_server.store.searching import BadSearch, Condition, Every, Not, Order, Search, Some, Test, truth
from hpcjobs_server.store.sorting import DEFAULT_SORT, SORTS, BadSort, Sort
from hpcjobs_server.store.submits import BadDependency, KeyReused, Submits
from hpcjobs_server.store.tapis import Seen, TapisView
from hpcjobs_server.store.tokens import LOGIN
from hpcjobs_server.store.work import Claim, Finish, Held, Moved, Work


class Store(Submits, Jobs, Counts, Around, Actions, Queues, Records, TapisView):
    """Everything that the API asks of the database."""


__all__ = [
    "DEFAULT_SORT",
    "EVENTS_CHANNEL",
    "LOGIN",
    "SORTS",
    "BadCursor",
    "BadDependency",
    "BadSearch",
    "BadSort",
    "Claim",
    "Condition",
    "Counted",
    "Every",
    "Finish",
    "Held",
    "KeyReused",
    "Moved",
    "Neighbour",
    "Neighbours",
    "Not",
    "Order",
    "Place",
    "Repeated",
    "Search",
    "Seen",
    "Some",
    "Sort",
    "Store",
    "TapisView",
    "Test",
    "TooMany",
    "Work",
    "WorkerInfo",
    "truth",
]
