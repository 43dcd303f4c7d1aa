"""`AgentDeclaration`: an agent as the engine knows it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, ClassVar

import orjson
from pydantic import BaseModel, ValidationError

from holdfast.domain.agents import AGENT
from holdfast.errors import InvalidInput
from holdfast.pipelines.base import Declaration, DeclarationOptions
from holdfast.pipelines.fingerprint import fingerprint
from holdfast.pipelines.schemas import refused

from .config import AgentConfig
from .schemas import TurnData


class AgentDeclaration(Declaration):
    """One version of one agent; made with `build.declare`.

    Made of the configuration alone: what that names by dotted paths is imported when the graph is
    asked for, in the agent's own process, or when `check` proves that it can be.

    Attributes:
        name: the agent's id, to which its events are addressed.
        title: what people call it.
        config: its configuration.
    """

    kind: ClassVar[str] = AGENT

    def __init__(self, agent_id: str, *, title: str, version: int, config: AgentConfig) -> None:
        settings = config.settings
        options: DeclarationOptions = {"deadline": settings.limits.turn_s}
        if config.simple is not None:
            options["budget"] = config.simple.settings.limits.budget
        super().__init__(agent_id, version=str(version), **options)
        self.title = title
        self.config = config
        self.where = f"agent {title}"

    @property
    def speaks(self) -> frozenset[str] | None:
        """The nodes whose models speak to the user; None: all that do."""
        return None

    def sources(self) -> Sequence[object]:
        """Functions and classes its behaviour depends on, as far as they have been imported."""
        return []

    def _hash_code(self) -> str:
        config = orjson.dumps(self.config.plain(), option=orjson.OPT_SORT_KEYS).decode()
        return fingerprint(__name__, self.sources(), config)

    def validate(self, data: Any) -> TurnData:
        """Decoded JSON as a turn's data.

        Raises:
            InvalidInput: with every wrong field in `fields`.
        """
        try:
            return TurnData.model_validate(data)
        except ValidationError as error:
            told = refused(self.title, error, "data")
            message = told.message.replace("pipeline ", "agent ", 1)
            raise InvalidInput(message, fields=told.fields) from error

    def schema(self) -> dict[str, Any]:
        """JSON schema of a turn's data."""
        return TurnData.model_json_schema()

    def kept(self) -> Iterable[type[BaseModel | Any]]:
        """What its checkpoints may hold."""
        return [TurnData]
