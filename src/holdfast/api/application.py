"""The application: the doors of one hub, put together."""

from __future__ import annotations

from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from starlette.middleware import Middleware

from . import (
    agent_socket,
    agent_sse,
    agents,
    breakers,
    budgets,
    collections,
    context_cache,
    dead_letters,
    events,
    executions,
    hubs,
    keys,
    pipelines,
    problems,
    prompts,
    recordings,
    retention,
    schedules,
    sessions,
    system,
    usage,
)
from .doorkeeper import KeyCheck, guarded
from .hosts import HostCheck
from .openapi import complete
from .parts import ApiParts

DESCRIPTION = """Runs LLM pipelines and keeps everything they did.

Times are RFC 3339 in UTC, durations milliseconds, money dollars as decimal text. Errors are
problem details (RFC 9457) with a stable `code`, a `hint` and the offending fields in `errors`.
"""


def create_api(parts: ApiParts) -> FastAPI:
    """The HTTP doors of a hub.

    Args:
        parts: the hub's; it must outlive the application.

    Raises:
        TypeError: a route does not ask for a scope.
    """
    app = FastAPI(
        title="Holdfast",
        version=parts.version,
        description=DESCRIPTION,
        docs_url=None,  # FastAPI's pages load their scripts from elsewhere
        redoc_url=None,
        redirect_slashes=False,
        middleware=[
            Middleware(problems.Faults),
            Middleware(HostCheck, hosts=(parts.host, *parts.allowed_hosts)),
            Middleware(KeyCheck, keyring=parts.keyring, trusted=parts.trusted),
        ],
    )
    app.state.parts = parts
    # `/executions/prune` would else be taken for one of the verbs of `/executions/{verb}`.
    rooms = (
        events,
        dead_letters,
        retention,
        executions,
        keys,
        hubs,
        pipelines,
        breakers,
        context_cache,
        prompts,
        recordings,
        schedules,
        collections,
        usage,
        budgets,
        agent_sse,
        agents,
        sessions,
        system,
    )
    routers = [room.router for room in (rooms if parts.doors else [system])]
    for router in routers:
        app.include_router(router)
    sockets = agent_socket.routes if parts.doors else []
    app.router.routes.extend(sockets)
    routes = [*sockets, *(route for router in routers for route in router.routes)]
    guarded(routes)
    problems.install(app, routes)
    system.describe_metrics(parts.kit.metrics)

    def openapi() -> dict[str, Any]:
        if app.openapi_schema is None:
            document = get_openapi(
                title=app.title,
                version=app.version,
                description=app.description,
                routes=app.routes,
            )
            app.openapi_schema = complete(document)
        return app.openapi_schema

    app.openapi = openapi
    return app
