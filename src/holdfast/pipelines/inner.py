"""Graphs inside a node: run as part of its step, recorded without a step of their own."""

from __future__ import annotations

from langchain_core.runnables import RunnableConfig

from holdfast.recording import INNER_GRAPH

NO_LIMIT = 1_000_000
"""Nodes at once where no limit was declared; one from further out is not inherited."""


def inner(config: RunnableConfig, *, at_once: int | None = None) -> RunnableConfig:
    """The configuration for a graph that a node runs.

    Args:
        config: the node's own.
        at_once: how many of the inner graph's nodes may run side by side.
    """
    return {**config, "run_name": INNER_GRAPH, "max_concurrency": at_once or NO_LIMIT}
