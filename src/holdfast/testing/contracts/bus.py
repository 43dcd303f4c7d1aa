"""The contract of a bus: inherit `BusContract` and give it two hubs on one bus."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

from holdfast.bus import Bus, Notice
from holdfast.bus.base import CANCEL, CHANGED, ENDED, MAX_ANSWER_BYTES, PAUSE, QUEUED
from holdfast.errors import HubSilent

WITHIN_S = 10.0


class Heard:
    """Writes down what a hub hears of some topics."""

    def __init__(self, bus: Bus, *topics: str) -> None:
        self.notices: list[Notice] = []
        self._news = asyncio.Event()
        for topic in topics:
            bus.listen(topic, self._note)

    def _note(self, notice: Notice) -> None:
        self.notices.append(notice)
        self._news.set()

    async def until(self, *wanted: Notice) -> list[Notice]:
        """Wait until all of them were heard; everything heard so far."""
        async with asyncio.timeout(WITHIN_S):
            while not set(wanted) <= set(self.notices):
                self._news.clear()
                await self._news.wait()
        return self.notices


class BusContract:
    """Tests for any backend. The fixtures `one` and `two` are started hubs on one bus."""

    async def test_the_own_hub_hears_at_once_and_once(self, one: Bus, two: Bus) -> None:
        """A notice does not come back to where it was sent from."""
        own, other = Heard(one, ENDED), Heard(two, ENDED)
        for event_id in "ab":
            one.publish(Notice(ENDED, event_id))
        assert own.notices == [Notice(ENDED, "a"), Notice(ENDED, "b")]
        await other.until(Notice(ENDED, "b"))
        two.publish(Notice(ENDED, "c"))
        await own.until(Notice(ENDED, "c"))
        assert own.notices == [Notice(ENDED, "a"), Notice(ENDED, "b"), Notice(ENDED, "c")]

    async def test_other_hubs_hear_everything_in_order(self, one: Bus, two: Bus) -> None:
        """With its event, execution and status."""
        heard = Heard(two, ENDED)
        sent = [Notice(ENDED, f"e{n}", f"x{n}", "succeeded") for n in range(500)]
        for notice in sent:
            one.publish(notice)
        assert await heard.until(sent[-1]) == sent

    async def test_a_started_hub_has_joined(self, one: Bus, two: Bus) -> None:
        """Where the others can be reached at once."""
        assert one.joined
        assert two.joined

    async def test_listeners_hear_their_topic_only(self, one: Bus, two: Bus) -> None:
        """And nothing after they have stopped."""
        heard: list[Notice] = []
        stop = two.listen(ENDED, heard.append)
        other = Heard(two, CHANGED)
        one.publish(Notice(ENDED, "a"))
        one.publish(Notice(CHANGED, "b"))
        await other.until(Notice(CHANGED, "b"))
        stop()
        stop()
        one.publish(Notice(ENDED, "c"))
        one.publish(Notice(CHANGED, "d"))
        await other.until(Notice(CHANGED, "d"))
        assert heard == [Notice(ENDED, "a")]

    async def test_a_ring_for_the_queue_arrives(self, one: Bus, two: Bus) -> None:
        """Which event it was for may be left out."""
        rung = asyncio.Event()
        two.listen(QUEUED, lambda _: rung.set())
        one.publish(Notice(QUEUED, "a"))
        async with asyncio.timeout(WITHIN_S):
            await rung.wait()

    async def test_commands_arrive_in_order(self, one: Bus, two: Bus) -> None:
        """Cancel and pause reach the hub that runs it, whichever that is."""
        heard = Heard(two, CANCEL, PAUSE)
        sent = [Notice(CANCEL if n % 2 else PAUSE, "e", f"x{n}") for n in range(20)]
        for notice in sent:
            one.publish(notice)
        assert await heard.until(*sent) == sent

    async def test_one_listeners_fault_is_its_own(self, one: Bus, two: Bus) -> None:
        """The next one is told all the same."""

        def fail(_: Notice) -> None:
            raise RuntimeError("planted")

        two.listen(ENDED, fail)
        heard = Heard(two, ENDED)
        one.publish(Notice(ENDED, "a"))
        await heard.until(Notice(ENDED, "a"))
        one.publish(Notice(ENDED, "b"))
        await heard.until(Notice(ENDED, "b"))

    async def test_a_hub_answers_another(self, one: Bus, two: Bus) -> None:
        """Many questions at once, each with its own answer, however large."""

        async def doubled(args: Mapping[str, Any]) -> Any:
            return {"twice": args["text"] * 2}

        two.answer("double", doubled)
        texts = [str(n) for n in range(20)] + ["ü" * 1_000_000]
        asked = (one.ask(two.hub, "double", {"text": text}, within_s=WITHIN_S) for text in texts)
        assert await asyncio.gather(*asked) == [{"twice": text * 2} for text in texts]

    async def test_whom_nobody_knows_is_silent(self, one: Bus, two: Bus) -> None:
        """Told at once, not after the deadline."""
        async with asyncio.timeout(WITHIN_S):
            assert await silent(one, "nobody", within_s=3600) != ""

    async def test_a_fault_while_answering_is_told(self, one: Bus, two: Bus) -> None:
        """And so is a question nobody answers, and an answer that is too large."""

        async def fail(_: Mapping[str, Any]) -> Any:
            raise RuntimeError("planted")

        async def much(_: Mapping[str, Any]) -> Any:
            return "x" * MAX_ANSWER_BYTES

        two.answer("fail", fail)
        two.answer("much", much)
        assert "planted" in await silent(one, two.hub, "fail")
        assert "unheard-of" in await silent(one, two.hub, "unheard-of")
        assert "bytes" in await silent(one, two.hub, "much")

    async def test_a_hub_that_takes_too_long_is_silent(self, one: Bus, two: Bus) -> None:
        """Every call has a deadline."""

        async def never(_: Mapping[str, Any]) -> Any:
            await asyncio.Event().wait()

        two.answer("never", never)
        assert "within 0.05 s" in await silent(one, two.hub, "never", within_s=0.05)

    async def test_a_hub_that_has_left_hears_nothing(self, one: Bus, two: Bus) -> None:
        """And answers nothing."""
        await two.close()
        one.publish(Notice(ENDED, "a"))
        await silent(one, two.hub)


async def silent(bus: Bus, hub: str, verb: str = "anything", *, within_s: float = WITHIN_S) -> str:
    """What is said of a hub that does not answer."""
    try:
        await bus.ask(hub, verb, {}, within_s=within_s)
    except HubSilent as error:
        return str(error)
    raise AssertionError(f"hub {hub} answered {verb}")
