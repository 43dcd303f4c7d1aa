"""The contract of what other programs use on the bus's server: channels, and keys with a state."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Protocol


class Outside(Protocol):
    """Channels and keys under names of their own, without the space of a database.

    A message on a channel reaches who listens at that moment and nobody else.
    """

    async def hear(
        self, pattern: str, call: Callable[[str, bytes], None], ready: Callable[[], None]
    ) -> None:
        """Call `call` with channel and body of each message, until it is cancelled.

        Args:
            pattern: of the channels' names; `*` stands for anything.
            call: called in the loop.
            ready: called once the server listens for us.

        Raises:
            ConnectionError: the server is away.
        """
        ...

    async def send(self, channel: str, body: bytes) -> None:
        """Send a message to who listens.

        Raises:
            ConnectionError: the server is away.
        """
        ...

    async def show(
        self, states: Mapping[str, Mapping[str, str]], gone: Iterable[str], *, for_s: int
    ) -> None:
        """Let keys hold these fields and no others.

        Args:
            states: fields by key.
            gone: keys that are to hold nothing.
            for_s: seconds after which they are gone unless they are shown again.

        Raises:
            ConnectionError: the server is away.
        """
        ...
