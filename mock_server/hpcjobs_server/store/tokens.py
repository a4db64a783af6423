"""The tokens: who may do what. Only their hashes are kept."""

from __future__ import annotations

import datetime as dt
import hashlib
import secrets
from uuid import uuid4

from hpcjobs.models import Scope, TokenInfo
from hpcjobs_server.store.base import Database, Row, to_uuid


class Tokens(Database):
    """The tokens table."""

    async def create_token(
        self, owner: str, *, name: str, scope: Scope, expires_in: dt.timedelta | None = None
    ) -> TokenInfo:
        """Make a token; its text is in the answer and nowhere else."""
        token = "hpcjobs_" + secrets.token_urlsafe(32)
        rows = await self.all(
            "INSERT INTO tokens (id, hash, name, owner, scope, expires_at)"
            " VALUES (%s, %s, %s, %s, %s, now() + %s::interval)"
            " RETURNING id, name, owner, scope, created_at, expires_at",
            [uuid4(), _hash(token), name, owner, scope.value, expires_in],
        )
        return _token(rows[0]).model_copy(update={"token": token})

    async def authenticate(self, token: str) -> TokenInfo | None:
        """Whose token this is; None where it is not known. An expired one is returned: see ``expires_at``."""
        rows = await self.all(
            "SELECT id, name, owner, scope, created_at, expires_at FROM tokens WHERE hash = %s", [_hash(token)]
        )
        return _token(rows[0]) if rows else None

    async def list_tokens(self, owner: str | None) -> list[TokenInfo]:
        """The tokens of an owner, or of everybody."""
        rows = await self.all(
            "SELECT id, name, owner, scope, created_at, expires_at FROM tokens"
            " WHERE %s::text IS NULL OR owner = %s ORDER BY created_at",
            [owner, owner],
        )
        return [_token(row) for row in rows]

    async def revoke_token(self, owner: str | None, token_id: str) -> bool:
        """Make a token useless; False where there is none, or it is another's."""
        uid = to_uuid(token_id)
        rows = await self.all(
            "DELETE FROM tokens WHERE id = %s AND (%s::text IS NULL OR owner = %s) RETURNING id", [uid, owner, owner]
        )
        return bool(rows)


def _hash(token: str) -> bytes:
    # tokens are long and random, so that a plain hash cannot be searched
    return hashlib.sha256(token.encode("utf-8", "surrogatepass")).digest()


def _token(row: Row) -> TokenInfo:
    return TokenInfo(**{**row, "id": str(row["id"])})
