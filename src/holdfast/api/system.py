"""The hub itself: does it live, can it work, what did it count."""

from __future__ import annotations

import asyncio

from fastapi import APIRouter, Depends, Request, Response

from holdfast.domain.status import EventStatus
from holdfast.errors import NotReady, StoreError
from holdfast.store.queries import CountEvents, Ping
from holdfast.telemetry import Metrics

from . import schemas
from .doorkeeper import OPEN, Door, needs
from .openapi import answers, text_answer
from .parts import ApiParts, parts_of
from .requests import no_query
from .responses import ROOT, json

PING_S = 2.0
"""A database that takes longer than this to answer is away."""

METRICS = "text/plain; version=0.0.4; charset=utf-8"

router = APIRouter(tags=["system"], route_class=Door, dependencies=[Depends(no_query)])


@router.get(
    "/",
    responses=answers({200: (schemas.Welcome, "The way in.")}, 422),
    openapi_extra=needs("look"),
)
async def welcome(request: Request) -> Response:
    """Say who answers, and where to go from here."""
    links = {
        "events": f"{ROOT}/events",
        "executions": f"{ROOT}/executions",
        "pipelines": f"{ROOT}/pipelines",
        "openapi": "/openapi.json",
    }
    return json({"name": "holdfast", "version": parts_of(request).version, "links": links})


@router.get(
    "/healthz",
    responses=answers({200: (schemas.Health, "It lives.")}, 422),
    openapi_extra=OPEN,
)
async def healthz(request: Request) -> Response:
    """Answer as long as the process lives."""
    return json({"status": "ok", "version": parts_of(request).version})


@router.get(
    "/readyz",
    responses=answers({200: (schemas.Readiness, "It can work.")}, 422),
    openapi_extra=OPEN,
)
async def readyz(request: Request) -> Response:
    """Say that the hub can take work and do it; else 503 with the reasons."""
    parts = parts_of(request)
    reasons = [*parts.not_ready(), *await _store_away(parts)]
    if parts.stopping.is_set():
        reasons.append("the hub is stopping")
    if reasons:
        raise NotReady("; ".join(reasons))
    return json({"ready": True})


@router.get(
    "/metrics",
    responses=text_answer(METRICS, "Prometheus text.", 422),
    openapi_extra=needs("look"),
)
async def metrics(request: Request) -> Response:
    """Give out the counters in the Prometheus text format."""
    kit = parts_of(request).kit
    try:
        async with asyncio.timeout(PING_S):
            counts = await kit.store.read(CountEvents())
    except (StoreError, TimeoutError):
        kit.metrics.put("holdfast_store_up", 0)  # the counters are needed most when it is away
    else:
        kit.metrics.put("holdfast_store_up", 1)
        for status in EventStatus:
            kit.metrics.put("holdfast_events", counts[status], status=status.value)
    return Response(kit.metrics.render(), media_type=METRICS)


def describe_metrics(metrics: Metrics) -> None:
    """Declare what `/metrics` adds to the counters of the hub."""
    metrics.describe("holdfast_events", "gauge", "Events by status.")
    metrics.describe("holdfast_store_up", "gauge", "1 when the database answered this scrape.")


async def _store_away(parts: ApiParts) -> list[str]:
    try:
        async with asyncio.timeout(PING_S):
            await parts.kit.store.read(Ping())
    except StoreError as error:
        return [f"the database does not answer: {error.message}"]
    except TimeoutError:
        return [f"the database did not answer within {PING_S:g} s"]
    return []
