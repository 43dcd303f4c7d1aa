"""Compaction as work of its own: asked for when a turn has ended, done by a pipeline of ours."""

from __future__ import annotations

from dataclasses import dataclass

from holdfast.agents.build import declare
from holdfast.agents.config import SimpleSettings
from holdfast.agents.declaration import AgentDeclaration
from holdfast.domain.agents import AgentVersion
from holdfast.domain.conversations import Compaction
from holdfast.errors import NotFound, SingletonBusy
from holdfast.memory.compaction import is_due
from holdfast.pipelines.base import Declaration
from holdfast.pipelines.compaction import NAME
from holdfast.store.queries import SessionBy
from holdfast.telemetry import logger

from .kit import Kit
from .submit import submit
from .views import View

log = logger("operations")

DEFAULT_ALIAS = "standard"
"""Asked where an agent has a model of its own that no alias stands for."""


@dataclass(frozen=True, slots=True)
class Standing:
    """Whether the sessions of an agent are compacted, and by which model.

    Attributes:
        rule: when; None: never.
        model: alias; None: never.
        reason: why it is never done; empty where it is.
    """

    rule: Compaction | None
    model: str | None
    reason: str = ""

    @property
    def enabled(self) -> bool:
        """Whether it is done at all."""
        return self.rule is not None and self.model is not None


def compaction_of(kit: Kit, declaration: Declaration) -> Standing:
    """How an agent's sessions are compacted.

    The model is that of its settings for compaction; else its own alias; else, where its model has
    none, `standard`.
    """
    settings = _settings(declaration)
    if settings is None:
        return Standing(None, None, "it keeps what it needs in its own state")
    memory = settings.memory
    if not memory.enabled:
        return Standing(None, None, "its memory is off")
    if not memory.compaction.enabled:
        return Standing(None, None, "it is off in its configuration")
    rule = memory.compaction.rule()
    wanted = memory.compaction.model or settings.model or DEFAULT_ALIAS
    if NAME not in kit.registry:
        return Standing(rule, None, f"pipeline {NAME} is not loaded, see its failures")
    if wanted not in kit.aliases:
        return Standing(rule, None, f"there is no model alias {wanted}")
    return Standing(rule, wanted)


def compaction_view(kit: Kit, version: AgentVersion) -> View:
    """The same of an agent as its configuration says, for people."""
    config = version.config
    declared = declare(id=version.id, name=version.name, version=version.version, config=config)
    standing = compaction_of(kit, declared)
    return {"enabled": standing.enabled, "model": standing.model, "reason": standing.reason}


def rule_of(kit: Kit, agent_id: str) -> Compaction:
    """An agent's rule; the usual one where nothing is known of it."""
    settings = _settings(kit.registry.get(agent_id)) if agent_id in kit.registry else None
    return Compaction() if settings is None else settings.memory.compaction.rule()


def _settings(declaration: Declaration) -> SimpleSettings | None:
    if not isinstance(declaration, AgentDeclaration):
        return None
    settings = declaration.config.settings
    return settings if isinstance(settings, SimpleSettings) else None


async def compact_if_due(kit: Kit, *, owner_id: str, agent_id: str, session_id: str) -> str | None:
    """Send the event that compacts a session, when there is something to compact.

    At most one is under way for a session; it goes on until nothing is due.

    Returns:
        Id of the event; None when none was sent.
    """
    if agent_id not in kit.registry:
        return None
    standing = compaction_of(kit, kit.registry.get(agent_id))
    if standing.rule is None or standing.model is None:
        return None
    try:
        session = await kit.store.read(SessionBy(session_id, owner_id))
        if not is_due(session.unsummarised, standing.rule):
            return None
        sent = await submit(
            kit,
            owner_id=owner_id,
            type=NAME,
            source=f"/sessions/{session_id}",
            data={
                "session_id": session_id,
                "agent_id": agent_id,
                "model": standing.model,
                "keep": standing.rule.keep,
                "block": standing.rule.block,
            },
        )
    except NotFound:  # deleted meanwhile
        return None
    except SingletonBusy:  # the one under way takes what is due now, too
        return None
    log.debug("session.compacting", session_id=session_id, event_id=sent.id)
    return sent.id
