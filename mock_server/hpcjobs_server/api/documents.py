"""What the OpenAPI document says beyond what the routes show by themselves."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from hpcjobs.actions import CancelOrder, DeleteOrder, JobChanges, RetryOrder, UpdateOrder
from hpcjobs.arrays import ArrayOrder, ManyOrder
from hpcjobs.models import InputQuery, JobQuery, JobSpec, LoginOrder, TokenOrder
from hpcjobs.records import QueueOrder
from hpcjobs_server.problems import MEDIA_TYPE, ProblemDocument

_REF = "#/components/schemas/{model}"
_MEANINGS = {
    401: "No token, or a wrong or an expired one",
    403: "The token may not do this",
    404: "There is no such thing, or it is another's",
    408: "Nothing came for too long",
    409: "The state of the job, or an earlier request with the same key, stands against it",
    411: "The length is missing",
    412: "Someone else changed the job first",
    413: "Larger than the limit",
    415: "Not JSON",
    416: "Nothing is in that range (yet)",
    422: "Fields that cannot be used",
    503: "The database is away",
    507: "The disk is full",
}

OPEN: dict[str, Any] = {"security": []}
"""For routes that need no token."""


def problems(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """The answers that say no, for a route's ``responses``."""
    content = {MEDIA_TYPE: {"schema": {"$ref": _REF.format(model="ProblemDocument")}}}
    every = sorted({*statuses, 401, 403, 422, 503})
    return {status: {"description": _MEANINGS[status], "content": content} for status in every}


def raw(description: str, media_type: str, **headers: str) -> dict[str, Any]:
    """An answer that is no JSON."""
    told = {
        name.replace("_", "-"): {"description": text, "schema": {"type": "string"}} for name, text in headers.items()
    }
    schema = {"type": "string", "format": "binary"} if media_type != "text/event-stream" else {"type": "string"}
    return {"description": description, "headers": told, "content": {media_type: {"schema": schema}}}


def body(model: type[BaseModel], *, required: bool = True) -> dict[str, Any]:
    """The JSON body of a route that reads it by itself."""
    schema = {"$ref": _REF.format(model=model.__name__)}
    return {"requestBody": {"required": required, "content": {"application/json": {"schema": schema}}}}


def parameter(name: str, where: str, description: str, schema: dict[str, Any] | None = None) -> dict[str, Any]:
    """One parameter of a route that reads it by itself."""
    return {"name": name, "in": where, "description": description, "schema": schema or {"type": "string"}}


KEY = parameter("Idempotency-Key", "header", "The same key never makes a second job (at most 200 characters)")


def query(model: type[BaseModel], *, many: Collection[str] = ()) -> list[dict[str, Any]]:
    """The query parameters of a route that reads them by itself."""
    listed = []
    for name, schema in model.model_json_schema(ref_template=_REF)["properties"].items():
        one = {"name": name, "in": "query", "schema": schema}
        listed.append({**one, "style": "form", "explode": True} if name in many else one)
    return listed


def install(app: FastAPI) -> None:
    """Make the OpenAPI document of ``app`` complete: bodies, problems, and the token."""

    def make() -> dict[str, Any]:
        if app.openapi_schema is None:
            document = get_openapi(title=app.title, version=app.version, description=app.description, routes=app.routes)
            components = document.setdefault("components", {})
            models: list[type[BaseModel]] = [
                JobSpec, JobQuery, InputQuery, ManyOrder, ArrayOrder, CancelOrder, RetryOrder, DeleteOrder, UpdateOrder,
                JobChanges, QueueOrder, TokenOrder, LoginOrder, ProblemDocument,
            ]  # fmt: skip
            _, more = models_json_schema([(model, "validation") for model in models], ref_template=_REF)
            components.setdefault("schemas", {}).update(more["$defs"])
            components["securitySchemes"] = {"token": {"type": "http", "scheme": "bearer"}}
            document["security"] = [{"token": []}]
            app.openapi_schema = document
        return app.openapi_schema

    app.openapi = make  # type: ignore[method-assign]
