"""The Tapis API, ``/v3``: a second one over the same jobs, which Tapis's own clients drive unchanged.

It is not in ``/v1/openapi.json``: Tapis describes it (https://tapis-project.github.io/live-docs/).
"""

from __future__ import annotations

from hpcjobs_server.api.tapis import actions, jobs, listing, outputs, tenants, tokens
from hpcjobs_server.api.tapis.envelope import PREFIX, refusal

ROUTERS = (tenants.router, tokens.router, listing.router, jobs.router, actions.router, outputs.router)
"""In the order in which addresses are looked for: ``/jobs/list`` before ``/jobs/{uuid}``."""

__all__ = ["PREFIX", "ROUTERS", "refusal"]
