"""Collections: documents added, replaced, listed, deleted, and searched."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Query, Request, Response
from pydantic import Field

from holdfast.domain.knowledge import (
    MAX_KEY_CHARS,
    MAX_LIMIT,
    MAX_QUERY_CHARS,
    Collection,
    Document,
    Mode,
    check_collection,
    check_key,
    read_search,
)
from holdfast.errors import BreakerOpen, ModelError, ProviderAway, ProviderFailed
from holdfast.llm.embeddings import Vectors
from holdfast.operations import knowledge
from holdfast.operations.views import View, iso
from holdfast.telemetry import logger

from . import schemas
from .doorkeeper import Door, needs
from .fields import Id, Limit, PipelineName, Strict
from .openapi import BODY_PROBLEMS, answers, json_request
from .parts import Caller, parts_of
from .requests import no_body, no_query, read_model, single_values
from .responses import ROOT, json, page_body

log = logger("api")

router = APIRouter(prefix=f"{ROOT}/collections", tags=["collections"], route_class=Door)

Key = Annotated[
    str,
    Field(
        min_length=1,
        max_length=MAX_KEY_CHARS,
        pattern=r"^[^\x00-\x1f\x7f-\x9f]+$",
        description="Names the document in its collection.",
    ),
]


class DocumentBody(Strict):
    """A document as it is to be."""

    key: Key
    text: Annotated[str, Field(min_length=1, pattern=r"\S")] = Field(description="What is found.")
    metadata: dict[str, Any] = Field(
        default_factory=dict[str, Any],
        description="What filters look at: texts, numbers, truth values and lists of them.",
    )
    embedding: PipelineName | None = Field(
        None, description="Embedding alias; by default the collection's own."
    )


class SearchBody(Strict):
    """What is looked for."""

    query: Annotated[str, Field(min_length=1, max_length=MAX_QUERY_CHARS, pattern=r"\S")]
    mode: Mode = Mode.HYBRID
    limit: Annotated[int, Field(ge=1, le=MAX_LIMIT)] = 5
    filters: dict[str, Any] = Field(
        default_factory=dict[str, Any],
        description='Conditions on metadata: `{"lang": "de", "year": {"gte": 2020}}`; operators '
        "are eq, in, gt, gte, lt, lte.",
    )
    min_score: Annotated[float, Field(ge=-1, le=1)] | None = Field(
        None, description="Least similarity of what embeddings find."
    )


class DocumentsQuery(Strict):
    """Which page of a collection's documents."""

    before: Id | None = Field(None, description="The last id of the page before this one.")
    limit: Limit = 50


class KeyQuery(Strict):
    """Which document."""

    key: Key


@router.get(
    "",
    responses=answers({200: (schemas.CollectionList, "All of them, by name.")}, 422),
    dependencies=[Depends(no_query)],
    openapi_extra=needs("look"),
)
async def list_collections(request: Request, caller: Caller) -> Response:
    """List collections."""
    found = await knowledge.collections(parts_of(request).kit, caller.owner_id)
    return json({"items": [_collection(one) for one in found]})


@router.get(
    "/{name}",
    responses=answers({200: (schemas.Collection, "The collection.")}, 404, 422),
    dependencies=[Depends(no_query)],
    openapi_extra=needs("look"),
)
async def get_collection(request: Request, caller: Caller, name: str) -> Response:
    """Show a collection: what made its vectors, how much it holds."""
    return json(
        _collection(await knowledge.collection(parts_of(request).kit, name, caller.owner_id))
    )


@router.delete(
    "/{name}",
    responses=answers({200: (schemas.Deleted, "It is gone.")}, 404, 422),
    dependencies=[Depends(no_query), Depends(no_body)],
    openapi_extra=needs("index"),
)
async def delete_collection(request: Request, caller: Caller, name: str) -> Response:
    """Delete a collection with all its documents."""
    await knowledge.remove_collection(parts_of(request).kit, name, caller.owner_id)
    return json({"deleted": name})


@router.get(
    "/{name}/documents",
    responses=answers({200: (schemas.DocumentPage, "A page, newest first.")}, 404, 422),
    dependencies=[Depends(single_values)],
    openapi_extra=needs("look"),
)
async def list_documents(
    request: Request, caller: Caller, name: str, query: Annotated[DocumentsQuery, Query()]
) -> Response:
    """List a collection's documents, without their texts."""
    found = await knowledge.documents(
        parts_of(request).kit, name, caller.owner_id, before=query.before, limit=query.limit
    )
    path = f"{router.prefix}/{name}/documents"
    items = [_document(one) for one in found]
    return json(page_body(items, path, request.query_params, query.limit))


@router.put(
    "/{name}/documents",
    responses=answers({200: (schemas.Indexed, "It is found from now on.")}, *BODY_PROBLEMS, 502),
    dependencies=[Depends(no_query)],
    openapi_extra={**json_request(DocumentBody), **needs("index")},
)
async def put_document(request: Request, caller: Caller, name: str) -> Response:
    """Add a document, or put it in the place of the one of that key.

    The collection is made with its first document, which decides how all are embedded. A text
    that is there already is not embedded again.
    """
    check_collection(name)
    body = await read_model(request, DocumentBody)
    check_key(body.key)
    made = Vectors()
    with _told():
        done = await knowledge.index(
            parts_of(request).kit,
            owner_id=caller.owner_id,
            collection=name,
            key=body.key,
            text=body.text,
            metadata=body.metadata,
            alias=body.embedding,
            made=made,
        )
    return json({**_document(done.document), "embedded": done.embedded, "tokens_used": _used(made)})


@router.delete(
    "/{name}/documents",
    responses=answers({200: (schemas.Deleted, "It is gone.")}, 404, 422),
    dependencies=[Depends(single_values), Depends(no_body)],
    openapi_extra=needs("index"),
)
async def delete_document(
    request: Request, caller: Caller, name: str, query: Annotated[KeyQuery, Query()]
) -> Response:
    """Delete a document; it is found no more."""
    await knowledge.remove_document(parts_of(request).kit, name, query.key, caller.owner_id)
    return json({"deleted": query.key})


@router.post(
    "/{name}/search",
    responses=answers({200: (schemas.FoundChunks, "The best first.")}, *BODY_PROBLEMS, 502),
    dependencies=[Depends(no_query)],
    openapi_extra={**json_request(SearchBody), **needs("look")},
)
async def search(request: Request, caller: Caller, name: str) -> Response:
    """Search a collection by likeness, by words, or by both."""
    check_collection(name)
    body = await read_model(request, SearchBody)
    asked = read_search(
        collection=name,
        query=body.query,
        mode=body.mode,
        limit=body.limit,
        filters=body.filters,
        min_score=body.min_score,
    )
    made = Vectors()
    with _told():
        hits = await knowledge.search(
            parts_of(request).kit, asked, owner_id=caller.owner_id, made=made
        )
    return json(
        {
            "items": [
                {
                    "key": hit.key,
                    "n": hit.n,
                    "text": hit.text,
                    "score": hit.score,
                    "similarity": hit.similarity,
                    "metadata": hit.metadata,
                }
                for hit in hits
            ],
            "tokens_used": _used(made),
        }
    )


@contextmanager
def _told() -> Generator[None]:
    """Tell of a provider's failure without what it said."""
    try:
        yield
    except ModelError as error:
        log.error("api.embedding_failed", error_class=error.error_class, error=str(error))
        status = "" if error.http_status is None else f", HTTP {error.http_status}"
        raise ProviderFailed(
            f"the provider of the embeddings failed: {error.error_class}{status}",
            hint="the hub's log has what it said",
        ) from error
    except BreakerOpen as error:
        if error.__cause__ is None:
            raise ProviderAway(
                "the provider of the embeddings kept failing and is not asked now",
                hint="come back later; see: holdfast breakers list",
            ) from error
        log.error("api.embedding_failed", error_class="temporary", error=str(error))
        raise ProviderFailed(
            "the provider of the embeddings keeps failing and is not asked for a while",
            hint="see: holdfast breakers list; the hub's log has what it said",
        ) from error


def _used(made: Vectors) -> int:
    return sum(call.tokens or 0 for call in made.calls)


def _collection(one: Collection) -> View:
    return {
        "id": one.id,
        "name": one.name,
        "embedding": {
            "provider": one.embedding.provider,
            "model": one.embedding.model,
            "dimensions": one.embedding.dimensions,
        },
        "documents": one.documents,
        "chunks": one.chunks,
        "created_at": iso(one.created_at),
        "updated_at": iso(one.updated_at),
    }


def _document(one: Document) -> View:
    return {
        "id": one.id,
        "key": one.key,
        "metadata": one.metadata,
        "chunks": one.chunks,
        "tokens": one.tokens,
        "created_at": iso(one.created_at),
        "updated_at": iso(one.updated_at),
    }
