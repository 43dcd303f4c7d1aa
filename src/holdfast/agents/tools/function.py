"""Python functions as tools: the signature is the schema, the docstring the description."""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable
from functools import partial, wraps
from typing import Any

from langchain_core.tools import BaseTool, StructuredTool
from pydantic import PydanticUserError

from holdfast.agents.config import FunctionTool
from holdfast.agents.loading import load
from holdfast.errors import DeclarationError
from holdfast.pipelines.context import in_thread

from .base import AgentTool, as_text, check_name

_BY_NAME = {inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY}
"""Kinds of parameters that a model can give."""


def make(config: FunctionTool, where: str) -> AgentTool:
    """A tool of a function, or of a LangChain tool as it is.

    Raises:
        DeclarationError: it cannot be imported, called, or described to a model.
    """
    found = load(config.path, where)
    if isinstance(found, BaseTool):
        check_name(found.name, where)
        return AgentTool(tool=found, parallel=config.parallel, source=type(found))
    if not inspect.isroutine(found):
        raise DeclarationError(
            f"{where}: {config.path} is {type(found).__name__} and no function",
            hint="name a function, or a tool made with LangChain's @tool",
        )
    return AgentTool(tool=_tool(found, where), parallel=config.parallel, source=found)


def _tool(fn: Callable[..., Any], where: str) -> BaseTool:
    name = check_name(getattr(fn, "__name__", type(fn).__name__), where)
    kinds = {one.kind for one in inspect.signature(fn).parameters.values()}
    if not kinds <= _BY_NAME:
        raise DeclarationError(
            f"{where}: {name} takes parameters that have no name of their own",
            hint="a model gives each by its name: neither *args and **kwargs nor /",
        )
    if not inspect.getdoc(fn):
        raise DeclarationError(
            f"{where}: {name} has no docstring",
            hint="it is what the model knows of the tool; the first sentence says what it does",
        )
    try:
        read = StructuredTool.from_function(fn, parse_docstring=True)
    except (TypeError, ValueError, NameError, LookupError, PydanticUserError) as error:
        raise DeclarationError(
            f"{where}: {name}'s parameters cannot be described: {error}",
            hint="annotate each with a type that pydantic knows",
        ) from error
    return StructuredTool(
        name=name,
        description=read.description,
        args_schema=read.args_schema,
        coroutine=_call_of(fn),
    )


def _call_of(fn: Callable[..., Any]) -> Callable[..., Awaitable[str]]:
    """Async in the loop, sync in one of the execution's threads."""
    if inspect.iscoroutinefunction(fn):

        @wraps(fn)  # LangChain looks for a parameter that is to be its configuration
        async def call(**given: Any) -> str:
            return as_text(await fn(**given))

        return call

    @wraps(fn)
    async def call_in_thread(**given: Any) -> str:
        result = await in_thread(partial(fn, **given))
        # A partial or a lambda around an async function does not look async.
        if inspect.isawaitable(result):
            result = await result
        return as_text(result)

    return call_in_thread
