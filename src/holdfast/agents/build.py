"""From a stored configuration to a declaration that runs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from .config import AgentConfig, read_config
from .declaration import AgentDeclaration
from .graph_agent import GraphAgent
from .simple import SimpleAgent


def declare(
    *,
    id: str,  # noqa: A002 - the table's own word
    name: str,
    version: int,
    config: AgentConfig | Mapping[str, Any],
) -> AgentDeclaration:
    """An agent's declaration; imports nothing that the configuration names.

    Args:
        id: the agent's.
        name: what people call it.
        version: of the configuration.
        config: as it is stored, or read already.

    Raises:
        InvalidInput: the configuration is wrong; `fields` names each place.
    """
    read = config if isinstance(config, AgentConfig) else read_config(config)
    made = SimpleAgent if read.simple is not None else GraphAgent
    return made(id, title=name, version=version, config=read)
