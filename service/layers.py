"""Layers: segments that exclude each other."""

from typing import Annotated

from litestar import delete, get, post
from litestar.openapi.spec import Example
from litestar.params import Body
from msgspec.structs import asdict

from service.docs.openapi import header
from service.http.answers import Json
from service.http.bodies import ApiRequest
from service.http.idempotency import idempotent
from service.schemas import Layer, LayerInPath, Layers, LayerStats, NewLayer, ReasonInQuery

NEW = Example(
    summary="For segments of which a user gets one",
    value={"slug": "AVITO_DISCOUNTS", "description": "One discount per user", "reason": "experiment 18"},
)


@post(
    "/v1/layers",
    response_headers=header("Location", "Path of the new layer"),
)
@idempotent()
async def create_layer(request: ApiRequest, data: Annotated[NewLayer, Body(examples=[NEW])]) -> Json[Layer]:
    """Create a layer.

    Segments that are created with this layer exclude each other: a user is in at most one of them. Role: admin.
    """
    text = await request.auth.change("http_create_layer", **asdict(data))
    return Json(text, (b"location", f"/v1/layers/{data.slug}".encode()))


@get("/v1/layers")
async def list_layers(request: ApiRequest) -> Json[Layers]:
    """List layers.

    All of them by slug, each with its segments and what is free. Role: reader.
    """
    return Json(await request.auth.call("http_list_layers"))


@get("/v1/layers/{slug:str}")
async def get_layer(request: ApiRequest, slug: LayerInPath) -> Json[Layer]:
    """One layer.

    With its segments, what each of them holds now, and what is free. Role: reader.
    """
    return Json(await request.auth.call("http_get_layer", slug=slug))


@get("/v1/layers/{slug:str}/stats")
async def get_layer_stats(request: ApiRequest, slug: LayerInPath) -> Json[LayerStats]:
    """Count a layer.

    Each segment of it, and the layer as a whole: members, what the rollouts have planned and what they hold, and whether
    the difference is chance. Role: reader.
    """
    return Json(await request.auth.call_heavy("http_layer_stats", slug=slug))


@delete("/v1/layers/{slug:str}", tags=["Deletion"])
@idempotent()
async def delete_layer(request: ApiRequest, slug: LayerInPath, reason: ReasonInQuery = None) -> None:
    """Delete a layer.

    Only a layer that has no segments can be deleted. The slug may be used again, for a new layer. Role: admin.
    """
    await request.auth.change("delete_layer", slug=slug, reason=reason)
