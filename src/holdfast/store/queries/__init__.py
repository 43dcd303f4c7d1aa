"""What can be read, one module per noun.

Every query names the owner whose things it sees; the few that look across owners serve the hub
itself, not a caller, and say so.
"""

from __future__ import annotations

from .agents import AgentBy, Agents, AgentsWithWork, AgentVersions, AllAgents
from .breakers import AllBreakers, BreakersNow
from .budgets import AllBudgets, BudgetNow, BudgetsNow, Waiting, WaitingFor
from .checkpoints import Checkpoints
from .children import Family, FamilyOf
from .context_cache import AllCaches, SavingsOf
from .conversations import (
    MessageBy,
    Messages,
    MessagesOf,
    OldestUnsummarised,
    SessionBy,
    Sessions,
    StoredWindow,
    WindowOf,
)
from .dead_letters import InterventionsOf, ListDeadLetters
from .events import CountEvents, CountQueued, EventById, ListEvents
from .executions import (
    EventWhole,
    ExecutionById,
    ExecutionsOf,
    ListExecutions,
    RecordOf,
    StoredRecord,
)
from .hub import AllHubs, AtRest, Holders, Lease, LeasesOf, Ping, Space, StillReady
from .keys import AllKeys
from .knowledge import (
    ChunksByIds,
    ChunksWithWords,
    CollectionByName,
    ComparesVectors,
    DocumentByKey,
    ListCollections,
    ListDocuments,
    MatchingDocuments,
    NearestChunks,
    VectorNews,
)
from .lineage import SentBy
from .memory_items import GetItems, ListNamespaces, SearchItems
from .processes import AllProcesses, Processes, ProcessesLeft, ProcessOf
from .prompts import AllLabels, ListPrompts, PromptByName, PromptContent, PromptHistory, PromptItem
from .prune import CountOld, OldEvents
from .schedules import ListSchedules, ScheduleByName
from .usage import PastRun, PastRuns, UsageBy, UsageOf
from .waits import GivenWait, PausedPipelines, WaitsOf

__all__ = [
    "AgentBy",
    "AgentVersions",
    "Agents",
    "AgentsWithWork",
    "AllAgents",
    "AllBreakers",
    "AllBudgets",
    "AllCaches",
    "AllHubs",
    "AllKeys",
    "AllLabels",
    "AllProcesses",
    "AtRest",
    "BreakersNow",
    "BudgetNow",
    "BudgetsNow",
    "Checkpoints",
    "ChunksByIds",
    "ChunksWithWords",
    "CollectionByName",
    "ComparesVectors",
    "CountEvents",
    "CountOld",
    "CountQueued",
    "DocumentByKey",
    "EventById",
    "EventWhole",
    "ExecutionById",
    "ExecutionsOf",
    "Family",
    "FamilyOf",
    "GetItems",
    "GivenWait",
    "Holders",
    "InterventionsOf",
    "Lease",
    "LeasesOf",
    "ListCollections",
    "ListDeadLetters",
    "ListDocuments",
    "ListEvents",
    "ListExecutions",
    "ListNamespaces",
    "ListPrompts",
    "ListSchedules",
    "MatchingDocuments",
    "MessageBy",
    "Messages",
    "MessagesOf",
    "NearestChunks",
    "OldEvents",
    "OldestUnsummarised",
    "PastRun",
    "PastRuns",
    "PausedPipelines",
    "Ping",
    "ProcessOf",
    "Processes",
    "ProcessesLeft",
    "PromptByName",
    "PromptContent",
    "PromptHistory",
    "PromptItem",
    "RecordOf",
    "SavingsOf",
    "ScheduleByName",
    "SearchItems",
    "SentBy",
    "SessionBy",
    "Sessions",
    "Space",
    "StillReady",
    "StoredRecord",
    "StoredWindow",
    "UsageBy",
    "UsageOf",
    "VectorNews",
    "Waiting",
    "WaitingFor",
    "WaitsOf",
    "WindowOf",
]
