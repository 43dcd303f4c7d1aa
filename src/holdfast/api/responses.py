"""Answers: JSON from the outside form of the nouns, and the links between them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from urllib.parse import urlencode

from starlette.responses import Response

from holdfast.domain.events import Event
from holdfast.domain.executions import Execution
from holdfast.domain.payload import encode
from holdfast.operations.views import View, agent_name, event_view, execution_view
from holdfast.pipelines.registry import Registry

ROOT = "/api/v1"


def json(body: Any, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    """A JSON answer."""
    return Response(encode(body), status, headers, "application/json")


def event_path(event_id: str) -> str:
    """Where an event is."""
    return f"{ROOT}/events/{event_id}"


def execution_path(execution_id: str) -> str:
    """Where an execution is."""
    return f"{ROOT}/executions/{execution_id}"


def event_links(event_id: str, execution_id: str | None) -> View:
    """Where to go from an event; without an execution as long as none began."""
    links = {"event": event_path(event_id)}
    if execution_id is not None:
        links["execution"] = execution_path(execution_id)
    return links


def execution_links(execution_id: str, event_id: str) -> View:
    """Where to go from an execution."""
    path = execution_path(execution_id)
    return {
        "execution": path,
        "event": event_path(event_id),
        "stream": f"{path}/stream",
        "export": f"{path}/export",
    }


def event_body(registry: Registry, event: Event, *, with_data: bool = True) -> View:
    """An event with its links."""
    view = event_view(event, with_data=with_data)
    view["agent"] = agent_name(registry, event.target_kind, event.target)
    view["links"] = event_links(event.id, event.execution_id)
    return view


def execution_body(registry: Registry, execution: Execution) -> View:
    """An execution as lists show it, with its links."""
    view = execution_view(execution)
    view["agent"] = agent_name(registry, execution.kind, execution.name)
    view["links"] = execution_links(execution.id, execution.event_id)
    return view


def page_body(items: list[View], path: str, query: Mapping[str, Any], limit: int) -> View:
    """A page of a list, with the way to the next one where there may be one.

    Args:
        items: newest first, each with an `id`.
        path: of the list.
        query: parameters of this page as they came, for the next page to have them too.
        limit: most items of a page.
    """
    following = None
    if len(items) == limit:
        following = f"{path}?{urlencode({**query, 'before': items[-1]['id']})}"
    return {"items": items, "next": following}
