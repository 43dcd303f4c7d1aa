"""Limits of models counted over all hubs: slices of the database's, used up in memory."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from holdfast.domain.ids import MICROS
from holdfast.domain.limits import SLICE_US, WINDOW_US, Slice, Wanted
from holdfast.errors import StoreError
from holdfast.runner.client_ports import STORE_TIMEOUT_S
from holdfast.store import Store
from holdfast.store.commands import TakeCalls
from holdfast.telemetry import logger

from .patience import patiently
from .rounds import Rounds

log = logger("hub")

GIVE_BACK_S = 0.5
"""How long what is not used may be kept from the others after its slice."""


@dataclass(frozen=True, slots=True)
class Leave:
    """Leave for a call.

    Attributes:
        wait_s: seconds until it may be made.
        slice: that it is of; None when it is refused.
    """

    wait_s: float
    slice: int | None


@dataclass(slots=True)
class _Name:
    """What this hub has of one model.

    Attributes:
        at: the slice at hand; None without one.
        until: by the hub's own clock; the slice is used up by then or given back.
        back: calls and tokens to be given back, by slice.
    """

    at: int | None = None
    until: float = 0.0
    calls: int = 0
    tokens: int = 0
    back: dict[int, tuple[int, int]] = field(default_factory=dict[int, tuple[int, int]])
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)  # in the order of asking

    def gives(self, at: int, calls: int, tokens: int) -> None:
        had = self.back.get(at, (0, 0))
        self.back[at] = had[0] + calls, had[1] + tokens

    def drop(self) -> None:
        """What is left of the slice at hand goes back."""
        if self.at is not None and (self.calls or self.tokens):
            self.gives(self.at, self.calls, self.tokens)
        self.at, self.calls, self.tokens = None, 0, 0


class SharedLimits:
    """Takes and gives back; belongs to the hub's loop.

    Args:
        store: shared with the other hubs.
        clock: seconds.
        window_us: how far back calls count.
        slice_us: how long a slice may be used.
    """

    def __init__(
        self,
        store: Store,
        *,
        clock: Callable[[], float] = time.monotonic,
        window_us: int = WINDOW_US,
        slice_us: int = SLICE_US,
    ) -> None:
        self._store = store
        self._clock = clock
        self._window_us, self._slice_us = window_us, slice_us
        self._slice_s = slice_us / MICROS
        self._names: dict[str, _Name] = {}
        self._rounds = Rounds("limits", self._give_back_on, retry_s=GIVE_BACK_S)

    def start(self) -> None:
        """Give back what is not used, as long as the hub lives."""
        self._rounds.start(after_s=GIVE_BACK_S)

    async def close(self) -> None:
        """Give all back."""
        await self._rounds.close()
        try:
            await self._give_back(everything=True)
        except StoreError as error:  # it is free again a minute later anyway
            log.warning("limits.not_given_back", error=str(error))

    async def take(self, name: str, limits: Mapping[str, int], tokens: int) -> Leave:
        """Leave for one call, out of the slice at hand or a new one.

        Raises:
            StoreError: the database stays away.
        """
        one = self._names.setdefault(name, _Name())
        async with one.lock:
            at, enough = one.at, one.calls >= 1 and one.tokens >= tokens
            if at is not None and enough and self._clock() < one.until:
                one.calls, one.tokens = one.calls - 1, one.tokens - tokens
                return Leave(0.0, at)
            one.drop()
            wanted = Wanted(
                requests=limits.get("requests_per_minute"),
                most=limits.get("tokens_per_minute"),
                tokens=tokens,
            )
            began = self._clock()  # before the store's own: a slice never lasts too long
            found = await self._write(name, one, wanted)
            assert found is not None  # noqa: S101 - it was wanted
            if found.at is None:
                return Leave(found.wait_us / MICROS, None)
            if not found.wait_us:
                one.at, one.until = found.at, began + self._slice_s
                one.calls, one.tokens = found.calls - 1, found.tokens - tokens
            return Leave(found.wait_us / MICROS, found.at)

    def settle(self, name: str, of: int, *, planned: int, made: bool, used: int | None) -> None:
        """Take what became of a call: one that was not made, or what it did use."""
        one = self._names.setdefault(name, _Name())
        calls, tokens = (0, planned - used) if made and used is not None else (0, 0)
        if not made:
            calls, tokens = 1, planned
        if not (calls or tokens):
            return
        if of == one.at and tokens >= 0 and self._clock() < one.until:
            one.calls, one.tokens = one.calls + calls, one.tokens + tokens
        else:
            one.gives(of, calls, tokens)

    async def _write(self, name: str, one: _Name, wanted: Wanted | None) -> Slice | None:
        back, one.back = one.back, {}
        command = TakeCalls(
            name=name,
            wanted=wanted,
            back=back,
            window_us=self._window_us,
            slice_us=self._slice_us,
        )
        try:
            return await patiently(
                self._store,
                lambda: self._store.write(command),
                within_s=STORE_TIMEOUT_S,
                model=name,
            )
        except StoreError:
            for at, (calls, tokens) in back.items():
                one.gives(at, calls, tokens)
            raise

    async def _give_back(self, *, everything: bool = False) -> None:
        now = self._clock()
        for name, one in list(self._names.items()):
            if one.lock.locked():
                continue  # what asks gives back as well
            async with one.lock:
                if everything or (one.at is not None and now >= one.until):
                    one.drop()
                if one.back:
                    await self._write(name, one, None)

    async def _give_back_on(self) -> float:
        await self._give_back()
        return GIVE_BACK_S
