"""What the pages are made with beside their words: style, script, pictures.

The files are few and small: they are read once. Their addresses hold a part of their sum, so that a browser keeps them
for as long as they are the same and no longer.
"""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import mimetypes
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from hpcjobs_server.problems import Problem

_FOLDER = Path(__file__).parent / "static"
_SHOWN = frozenset({".css", ".js", ".svg"})
_FOREVER = "public, max-age=31536000, immutable"

router = APIRouter(include_in_schema=False)


@dataclasses.dataclass(frozen=True)
class Asset:
    """One file."""

    content: bytes
    media_type: str
    path: str
    """Its address within the page."""


@functools.cache
def assets() -> Mapping[str, Asset]:
    """All of them, by name."""
    found = {}
    for path in sorted(_FOLDER.rglob("*")):
        if path.suffix in _SHOWN:
            name, content = path.relative_to(_FOLDER).as_posix(), path.read_bytes()
            kind = mimetypes.guess_type(name)[0] or "application/octet-stream"
            if kind.startswith("text/"):
                kind += "; charset=utf-8"
            found[name] = Asset(content, kind, f"static/{hashlib.sha256(content).hexdigest()[:12]}/{name}")
    return MappingProxyType(found)


@router.get("/static/{mark}/{name:path}")
async def read_asset(request: Request, mark: str, name: str) -> Response:  # noqa: ARG001 - FastAPI hands it over
    """A file. An address of an earlier version gets the present one, which no browser keeps."""
    asset = assets().get(name)
    if asset is None:
        raise Problem(404, "not_found", "the page has no such file")
    same = asset.path == f"static/{mark}/{name}"
    return Response(
        asset.content, media_type=asset.media_type, headers={"Cache-Control": _FOREVER if same else "no-store"}
    )


@router.get("/favicon.ico")
async def icon() -> Response:
    """The picture of a tab, where a browser asks for it by itself."""
    asset = assets()["icon.svg"]
    return Response(asset.content, media_type=asset.media_type, headers={"Cache-Control": "public, max-age=86400"})
