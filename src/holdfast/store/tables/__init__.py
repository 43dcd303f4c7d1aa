"""The tables, the same on SQLite and PostgreSQL.

Columns carry plain types only (text, integers, bytes), nothing that converts a value on its way in
or out, so that a statement compiled once can be handed to the bare driver. Times and durations are
microseconds, money is picodollars, structured values are JSON text. A column is named like the
field of the domain object it holds.
"""

from __future__ import annotations

from .agents import agent_versions, agents, processes
from .base import metadata
from .breakers import breakers
from .budgets import allowances, budgets
from .checkpoints import checkpoint_blobs, checkpoint_writes, checkpoints, pauses, waits
from .context_cache import cache_savings, context_cache
from .conversations import messages, sessions
from .dead_letters import interventions
from .events import duplicates, events
from .executions import attempts, executions, steps
from .hubs import hubs
from .keys import api_keys, users
from .knowledge import chunks, collections, document_facts, documents
from .memory_items import memory_items
from .payloads import blobs, payloads
from .prompts import prompt_labels, prompt_moves, prompt_versions, prompts
from .rates import rates
from .schedules import schedules
from .usage import usage, usage_days

__all__ = [
    "agent_versions",
    "agents",
    "allowances",
    "api_keys",
    "attempts",
    "blobs",
    "breakers",
    "budgets",
    "cache_savings",
    "checkpoint_blobs",
    "checkpoint_writes",
    "checkpoints",
    "chunks",
    "collections",
    "context_cache",
    "document_facts",
    "documents",
    "duplicates",
    "events",
    "executions",
    "hubs",
    "interventions",
    "memory_items",
    "messages",
    "metadata",
    "pauses",
    "payloads",
    "processes",
    "prompt_labels",
    "prompt_moves",
    "prompt_versions",
    "prompts",
    "rates",
    "schedules",
    "sessions",
    "steps",
    "usage",
    "usage_days",
    "users",
    "waits",
]
