"""The bus inside one hub: plain calls, in the loop."""

from __future__ import annotations

from collections.abc import Callable

from .base import Bus, Notice


class MemoryBus(Bus):
    """Delivers at once, in the order of listening."""

    def __init__(self) -> None:
        self._listeners: dict[str, list[Callable[[Notice], None]]] = {}

    def publish(self, notice: Notice) -> None:
        """See `Bus.publish`."""
        for call in tuple(self._listeners.get(notice.topic, ())):
            call(notice)

    def listen(self, topic: str, call: Callable[[Notice], None]) -> Callable[[], None]:
        """See `Bus.listen`."""
        listeners = self._listeners.setdefault(topic, [])
        listeners.append(call)

        def stop() -> None:
            if call in listeners:
                listeners.remove(call)

        return stop
