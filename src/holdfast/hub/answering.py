"""Answering: what running work asks of its hub over the ports, whoever runs it."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from typing import Any

from holdfast.domain.ids import new_id
from holdfast.errors import NotFound, PortError, StoreRefused
from holdfast.journal import Running
from holdfast.operations.kit import Kit
from holdfast.operations.replay import replayed
from holdfast.operations.submit import submit
from holdfast.ports import CachedResult
from holdfast.runner.client_ports import STORE_TIMEOUT_S
from holdfast.store.queries import EventById

from . import knowing, remembering
from .breakers import Breakers
from .budgets import Budgets
from .context_caches import ContextCaches
from .keeping import Keeper
from .limits import Limits
from .patience import patiently
from .prompts import Prompts
from .results import ResultCache

ANSWERS = {"knowledge": knowing.answer, "memory": remembering.answer}
"""Who answers a port whose questions the store and the embeddings are asked for."""


class Answering:
    """Answers the ports of all executions of a hub.

    Args:
        kit: the hub's parts.
        breakers: say who may probe.
        budgets: set aside what calls may use.
        caches: of what providers keep.
        limits: of models.
        keeper: of checkpoints.
        prompts: their contents.
    """

    def __init__(
        self,
        kit: Kit,
        *,
        breakers: Breakers,
        budgets: Budgets,
        caches: ContextCaches,
        limits: Limits,
        keeper: Keeper,
        prompts: Prompts,
    ) -> None:
        self._kit = kit
        self._breakers = breakers
        self._budgets = budgets
        self._caches = caches
        self._limits = limits
        self._keeper = keeper
        self._prompts = prompts
        self._results = ResultCache()

    async def ask(self, execution_id: str, port: str, args: dict[str, Any]) -> Any:
        """See `Employer.ask`.

        Raises:
            HoldfastError: as the port says.
        """
        running = self._kit.journal.get(execution_id)
        if running is None:
            raise PortError(f"execution {execution_id} is not under way")
        if port in ("cache.get", "cache.put"):
            return self._cached(running, port, args)
        if port == "limits.take":
            return await self._limits.take(execution_id, **args)
        if port == "budgets.reserve":
            return await self._budgets.reserve(running, args)
        if port == "breakers.probe":
            return await self._breakers.probe(args["breaker"], execution_id)
        if port.startswith("context_cache."):
            return await self._caches.answer(port, args, running)
        if port == "prompts.version":
            return await self._prompts.version(running.owner_id, running.event_id, args)
        if port.startswith("checkpoints."):
            return await self._keeper.ask(running, port.removeprefix("checkpoints."), args)
        room, _, verb = port.partition(".")
        if room in ANSWERS:
            return await ANSWERS[room](self._kit, running, verb, args, self._budgets.purse(running))
        if port == "records.replayed":
            return (await replayed(self._kit, running)).for_run()
        if port != "events.submit":
            raise PortError(f"no port {port}")
        return await self._submit(running, args)

    def _cached(self, running: Running, port: str, args: Mapping[str, Any]) -> Any:
        if port == "cache.get":
            found = self._results.get(running.owner_id, args["key"])
            return None if found is None else [found.execution_id, found.value]
        result = CachedResult(running.id, args["value"])
        return self._results.put(running.owner_id, args["key"], result, args["ttl_s"])

    async def _submit(self, running: Running, args: Mapping[str, Any]) -> str:
        """Take in what a run sends; while the database is away the step waits."""
        event_id = new_id()  # one for all tries: one whose answer was lost may have been stored

        async def once() -> str:
            try:
                submitted = await submit(
                    self._kit,
                    owner_id=running.owner_id,
                    type=args["type"],
                    data=args["data"],
                    source=f"/executions/{running.id}",
                    idempotency_key=args["idempotency_key"],
                    traceparent=running.start.claimed.traceparent,
                    event_id=event_id,
                )
            except StoreRefused:
                with suppress(NotFound):  # refused because a try before had stored it
                    return (await self._kit.store.read(EventById(event_id, running.owner_id))).id
                raise
            return submitted.id

        return await patiently(
            self._kit.store, once, within_s=STORE_TIMEOUT_S, event_id=running.event_id
        )
