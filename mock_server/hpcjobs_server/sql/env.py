"""Alembic's entry: runs the revisions on the connection that :mod:`hpcjobs_server.migrate` hands over."""

from __future__ import annotations

from alembic import context

context.configure(connection=context.config.attributes["connection"], version_table="schema_version")
with context.begin_transaction():
    context.run_migrations()
