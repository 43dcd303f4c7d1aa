"""Results of nodes kept for the same input: what the key is made of, how a result is written."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pydantic import PydanticSchemaGenerationError, TypeAdapter, ValidationError

from holdfast.domain.payload import encode
from holdfast.errors import DeclarationError, PortError
from holdfast.telemetry import logger

from .context import current_run
from .state import State

if TYPE_CHECKING:
    from .nodes import Node

log = logger("pipelines")


@dataclass(frozen=True, slots=True)
class Kept:
    """What the cache had for one run of a node.

    Attributes:
        execution_id: whose result it is; None when there was none.
        result: as the node would have returned it.
    """

    node: Node[Any]
    key: str
    execution_id: str | None = None
    result: Any = None

    async def keep(self, result: Any) -> None:
        """Keep a fresh result; a cache that cannot costs the run nothing else."""
        policy, run = self.node.policy, current_run()
        if policy.cache is None or self.node.codec is None:
            return
        try:
            body = self.node.codec.dump_json(result).decode()
            await run.ports.cache.put(
                execution_id=run.execution_id, key=self.key, value=body, ttl_s=policy.cache.ttl
            )
        except (PortError, ValueError) as error:
            log.warning("cache.not_kept", node=self.node.name, error=str(error))


async def kept_result(node: Node[Any], state: State) -> Kept:
    """Look whether the node has run on the same input."""
    run, key = current_run(), key_of(node, state)
    if node.codec is None:
        return Kept(node, key)
    try:
        found = await run.ports.cache.get(execution_id=run.execution_id, key=key)
        if found is not None:
            return Kept(node, key, found.execution_id, node.codec.validate_json(found.value))
    except (PortError, ValidationError) as error:
        log.warning("cache.not_read", node=node.name, error=str(error))
    return Kept(node, key)


def key_of(node: Node[Any], state: State) -> str:
    """Hash of the code, the node and its input; other code never finds old results."""
    cache = node.policy.cache
    given = node.cache_input(state) if cache is None or cache.key is None else cache.key(state)
    parts = [node.pipeline, node.code_version, node.name, node.version, given]
    return hashlib.blake2b(encode(parts), digest_size=16).hexdigest()


def codec_of(hint: Any, where: str) -> TypeAdapter[Any]:
    """Writes and reads a node's results.

    Args:
        hint: type of the result.
        where: names the node in errors.

    Raises:
        DeclarationError: results of such a type cannot be read back as what they were.
    """
    if hint is None:
        raise DeclarationError(
            f"{where}: cache= needs to know the type of its result",
            hint="annotate what the function returns, with a type pydantic knows",
        )
    try:
        return TypeAdapter(hint)
    except PydanticSchemaGenerationError as error:
        raise DeclarationError(
            f"{where}: cache= cannot keep a {hint!r}", hint="return a pydantic model or plain data"
        ) from error
