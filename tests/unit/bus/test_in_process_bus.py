"""The bus inside one hub."""

from __future__ import annotations

from holdfast.bus import MemoryBus, Notice
from holdfast.bus.base import ENDED, QUEUED


def test_listeners_hear_their_topic_in_order_until_they_stop() -> None:
    bus, heard = MemoryBus(), []
    stop = bus.listen(QUEUED, lambda n: heard.append(("one", n.event_id)))
    bus.listen(QUEUED, lambda n: heard.append(("two", n.event_id)))
    bus.listen(ENDED, lambda n: heard.append(("other", n.event_id)))
    bus.publish(Notice(QUEUED, event_id="a"))
    stop()
    stop()
    bus.publish(Notice(QUEUED, event_id="b"))
    assert heard == [("one", "a"), ("two", "a"), ("two", "b")]


def test_one_may_stop_listening_while_it_is_told() -> None:
    bus, heard = MemoryBus(), []

    def once(notice: Notice) -> None:
        heard.append(notice.event_id)
        stop()

    stop = bus.listen(QUEUED, once)
    bus.listen(QUEUED, lambda n: heard.append(n.event_id))
    bus.publish(Notice(QUEUED, event_id="a"))
    bus.publish(Notice(QUEUED, event_id="b"))
    assert heard == ["a", "a", "b"]


def test_nobody_has_to_listen() -> None:
    MemoryBus().publish(Notice(QUEUED))
