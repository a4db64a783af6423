"""The tokens: who may do what. Only their hashes are kept."""

from __future__ import annotations

import datetime as dt
import hashlib
import secrets
from uuid import uuid4

from hpcjobs.models import Scope, TokenInfo
from hpcjobs_server.store.base import Database, Row, to_uuid

LOGIN = "one-time login"
"""The name of the keys that let a browser in once."""

_INFO = "id, name, owner, scope, created_at, expires_at"


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
            f" RETURNING {_INFO}",
            [uuid4(), _hash(token), name, owner, scope.value, expires_in],
        )
        return _token(rows[0]).model_copy(update={"token": token})

    async def authenticate(self, token: str) -> TokenInfo | None:
        """Whose token this is; None where it is not known. An expired one is returned: see ``expires_at``."""
        rows = await self.all(
            f"SELECT {_INFO} FROM tokens WHERE hash = %s AND NOT refreshes",
            [_hash(token)],
        )
        return _token(rows[0]) if rows else None

    async def derive_token(
        self, parent: str, *, name: str, expires_in: dt.timedelta, refreshes: bool = False
    ) -> TokenInfo | None:
        """Make a token from another one: it may do the same, lives no longer, and goes when that one is revoked.

        Args:
            parent: The id of the other one.
            name: What it is called in lists.
            expires_in: For how long it is good.
            refreshes: Whether it is of no use but to :meth:`redeem_token`.

        Returns:
            The token with its text; None where the other one is gone.
        """
        token = "hpcjobs_" + secrets.token_urlsafe(32)
        rows = await self.all(
            "WITH old AS (DELETE FROM tokens WHERE parent_id = %(parent)s AND expires_at < now() - interval '1 day')"
            " INSERT INTO tokens (id, hash, name, owner, scope, expires_at, parent_id, refreshes)"
            " SELECT %(id)s, %(hash)s, %(name)s, owner, scope,"
            " least(expires_at, now() + %(life)s::interval), id, %(refreshes)s"
            " FROM tokens WHERE id = %(parent)s AND (expires_at IS NULL OR expires_at > now())"
            f" RETURNING {_INFO}",
            {
                "parent": to_uuid(parent),
                "id": uuid4(),
                "hash": _hash(token),
                "name": name,
                "life": expires_in,
                "refreshes": refreshes,
            },
        )
        return _token(rows[0]).model_copy(update={"token": token}) if rows else None

    async def find_key(self, token: str, *, name: str) -> TokenInfo | None:
        """Whose a token that refreshes is, which is not used up by this; None where it is not good.

        Args:
            token: The token.
            name: What it was made for.
        """
        rows = await self.all(
            f"SELECT {_INFO} FROM tokens WHERE hash = %s AND refreshes AND name = %s AND expires_at > now()",
            [_hash(token), name],
        )
        return _token(rows[0]) if rows else None

    async def redeem_token(self, token: str, *, name: str) -> str | None:
        """Use up a token that refreshes; the id of the token that it was got with, None where it is not good.

        Args:
            token: The token.
            name: What it was made for: what is for one thing is of no use for another.
        """
        rows = await self.all(
            "DELETE FROM tokens WHERE hash = %s AND refreshes AND name = %s"
            " RETURNING parent_id, expires_at > now() AS good",
            [_hash(token), name],
        )
        return str(rows[0]["parent_id"]) if rows and rows[0]["good"] else None

    async def list_tokens(self, owner: str | None) -> list[TokenInfo]:
        """The tokens of an owner, or of everybody."""
        rows = await self.all(
            f"SELECT {_INFO} FROM tokens WHERE %s::text IS NULL OR owner = %s ORDER BY created_at",
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
