"""Whatever a step is given or gives comes out of its record as it went in, or described."""

from __future__ import annotations

import math
import sys
import threading
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import orjson
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from langchain_core.messages import AIMessage, HumanMessage, SystemMessage
from pydantic import BaseModel

from holdfast.domain.payload import MAX_NESTING, Payload, Texts, encode, text_hash
from holdfast.recording.messages import keep_messages

TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=80)
PLAIN = (
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | TEXT
)
JSON = st.recursive(
    PLAIN,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXT, inner, max_size=4),
    max_leaves=25,
)

quick = settings(
    deadline=None, max_examples=150, suppress_health_check=[HealthCheck.too_slow], database=None
)


def read(texts: Texts, *, event_data: Any = None) -> Payload:
    """What the other side makes of a pool."""
    _, new = texts.take_new()
    return Payload(orjson.loads(orjson.dumps(new)), event_data=event_data)


def kept(value: Any) -> Any:
    texts = Texts()
    index = texts.add(value)
    return read(texts).get(index)


@quick
@given(st.lists(JSON, min_size=1, max_size=4))
def test_any_json_comes_out_as_it_went_in(values: list[Any]) -> None:
    texts = Texts()
    indexes = [texts.add(value) for value in values]
    payload = read(texts)
    for index, value in zip(indexes, values, strict=True):
        # As text, for that also compares the order of keys and 1 with 1.0 and True.
        assert orjson.dumps(payload.get(index)) == orjson.dumps(value)


@quick
@given(st.lists(JSON, min_size=1, max_size=4))
def test_entries_only_point_backwards(values: list[Any]) -> None:
    texts = Texts()
    for value in values:
        texts.add(value)
    _, new = texts.take_new()
    for own, entry in enumerate(orjson.loads(orjson.dumps(new))):
        match entry:
            case ["d", members, pointed]:
                targets = [members[key] for key in pointed]
            case ["l", items]:
                targets = items
            case ["p", base, items]:
                targets = [base, *items]
            case _:
                targets = []
        assert all(0 <= target < own for target in targets)


@quick
@given(JSON, JSON)
def test_a_value_seen_before_costs_nothing(one: Any, other: Any) -> None:
    texts = Texts()
    first = texts.add(one)
    texts.add(other)
    size = len(texts)
    assert texts.add(one) == first
    assert len(texts) == size


def test_the_events_own_data_is_pointed_to() -> None:
    data = {"text": "x" * 100, "who": {"name": "Ada"}}
    texts = Texts(orjson.dumps(data["text"]), orjson.dumps(data))
    index = texts.add(data["text"])
    assert index == 0
    assert len(texts) == 1


@quick
@given(st.lists(st.text(max_size=20), max_size=12), st.data())
def test_the_reader_sees_each_piece_of_a_growing_pool(values: list[str], data: Any) -> None:
    """Entries travel with the changes: each batch begins where the last one ended."""
    texts = Texts()
    entries: list[Any] = []
    for value in values:
        texts.add({"a": value, "b": [value, value + "!"]})
        if data.draw(st.booleans()):
            first, new = texts.take_new()
            assert first == len(entries)
            entries += orjson.loads(orjson.dumps(new))
    first, new = texts.take_new()
    assert first == len(entries)
    entries += orjson.loads(orjson.dumps(new))
    assert len(entries) == len(texts)


# -- conversations -----------------------------------------------------------------------------


def conversation(turns: int, text: str) -> list[list[Any]]:
    """The message lists of a loop's model calls: each is the last one plus two."""
    messages: list[Any] = [SystemMessage(f"You are patient. {text}")]
    calls: list[list[Any]] = []
    for turn in range(turns):
        messages = [*messages, HumanMessage(f"question {turn}: {text}")]
        calls.append(messages)
        messages = [*messages, AIMessage(f"answer {turn}: {text}")]
    return calls


def size_of(calls: list[list[Any]]) -> int:
    texts = Texts()
    for call in calls:
        keep_messages(texts, call)
    _, new = texts.take_new()
    return len(orjson.dumps(new))


def test_a_conversation_costs_what_was_said_and_not_its_square() -> None:
    text = "words " * 130  # about 0.8 KB
    calls = conversation(50, text)
    whole = sum(len(orjson.dumps([m.content for m in call])) for call in calls)
    said = len(orjson.dumps([m.content for m in calls[-1]]))
    assert size_of(calls) < 1.3 * said
    assert whole > 20 * size_of(calls)
    # Twice the turns, twice the size.
    assert size_of(conversation(100, text)) < 2.2 * size_of(calls)


def test_every_list_of_a_conversation_can_be_read_back_even_the_last_one_alone() -> None:
    calls = conversation(520, "x")
    texts = Texts()
    indexes = [keep_messages(texts, call)[2] for call in calls]
    _, new = texts.take_new()
    entries = orjson.loads(orjson.dumps(new))
    said = [message.content for message in calls[-1]]
    assert [m["content"] for m in Payload(entries).get(indexes[-1])] == said
    payload = Payload(entries)
    assert [m["content"] for m in payload.get(indexes[3])] == said[: len(calls[3])]


def test_branches_of_one_conversation_share_their_beginning() -> None:
    texts = Texts()
    start = [SystemMessage("s"), HumanMessage("a"), AIMessage("b")]
    left = keep_messages(texts, [*start, HumanMessage("left")])[2]
    right = keep_messages(texts, [*start, HumanMessage("right")])[2]
    longer = keep_messages(texts, [*start, HumanMessage("left"), AIMessage("more")])[2]
    payload = read(texts)
    assert payload.get(left)[-1]["content"] == "left"
    assert payload.get(right)[-1]["content"] == "right"
    assert [m["content"] for m in payload.get(longer)] == ["s", "a", "b", "left", "more"]
    assert [m["role"] for m in payload.get(longer)][:3] == ["system", "user", "assistant"]


# -- what JSON has no form for -----------------------------------------------------------------


class Broken:
    def __repr__(self) -> str:
        raise RuntimeError("no")

    def __getattr__(self, name: str) -> Any:
        raise ValueError(name)


class Mute(Exception):
    def __str__(self) -> str:
        raise RuntimeError("no")


class Person(BaseModel):
    name: str
    born: datetime


class Score(BaseModel):
    value: float


class Undumpable(BaseModel):
    data: bytes


@dataclass
class Point:
    x: float
    label: str


def circle() -> list[Any]:
    ring: list[Any] = [1]
    ring.append({"again": ring})
    return ring


def circles() -> list[Any]:
    one: list[Any] = []
    other = [one, one]
    one += [other, other]
    return one


def nest(levels: int, kind: str = "list") -> Any:
    value: Any = "the bottom"
    for _ in range(levels):
        value = [value] if kind == "list" else {"a": value}
    return value


ODD: dict[str, Any] = {
    "set": {1},
    "frozenset": frozenset({"x"}),
    "bytes": b"\x00\xff",
    "nan": math.nan,
    "infinity": -math.inf,
    "huge": 10**40,
    "too huge to print": 10**5000,
    "deep list": nest(300),
    "deep dict": nest(300, "dict"),
    "deeper than the stack": nest(20_000),
    "surrogate": "a\udc80b",
    "broken": Broken(),
    "class": Person,
    "model": Person(name="Ada", born=datetime(1815, 12, 10, tzinfo=UTC)),
    "undumpable": Undumpable(data=b"\xff"),
    "message": AIMessage("hi", tool_calls=[{"name": "t", "args": {"x": 1}, "id": "1"}]),
    "error": ValueError("no"),
    "mute error": Mute(),
    "circle": circle(),
    "circles": circles(),
    "keys": {1: "a", "1": "b", None: "c", (1, 2): "d", Broken(): "e"},
    "surrogate key": {"a\udc80": "b" * 100},
    "function": encode,
    "dataclass": Point(math.nan, "p\udc80"),
    "generator": (x for x in ()),
    "lock": threading.Lock(),
}


@pytest.mark.parametrize("name", list(ODD))
@pytest.mark.parametrize("place", ["bare", "in a dict", "in a list", "deep inside"])
def test_what_json_cannot_express_is_described(name: str, place: str) -> None:
    odd = ODD[name]
    shapes: dict[str, Any] = {
        "bare": odd,
        "in a dict": {"odd": odd, "beside": "kept" * 1000},
        "in a list": [odd, "kept" * 1000],
        "deep inside": {"a": {"b": {"c": {"d": {"e": [odd]}}}}, "beside": "kept" * 1000},
    }
    found = kept(shapes[place])
    orjson.dumps({"inside": [{"a": {"view": [found]}}]})  # and views can be made of it
    assert found is not None
    assert "null" not in orjson.dumps(found).decode() or name == "message"
    if place != "bare":
        beside = found["beside"] if isinstance(found, dict) else found[1]
        assert beside == "kept" * 1000, "one odd part does not cost the rest"


def test_descriptions_say_what_it_was() -> None:
    assert kept({1}) == [1]
    assert kept(b"\x00\xff")["bytes"] == 2
    assert kept([math.nan, 1.5, None]) == [{"repr": "nan", "type": "builtins.float"}, 1.5, None]
    assert kept(10**40) == {"repr": str(10**40), "type": "builtins.int"}
    assert kept("a\udc80b") == "a\\udc80b"
    assert kept("é\udc80" * 5000) == "é\\udc80" * 5000, "a long text stays whole"
    assert kept(ValueError("no")) == {"type": "ValueError", "message": "no"}
    assert kept(Mute()) == {"type": "Mute", "message": "<no message: RuntimeError>"}
    assert kept(Broken())["repr"] == "<no repr: RuntimeError>"
    assert kept(ODD["model"]) == {"name": "Ada", "born": "1815-12-10T00:00:00Z"}
    assert kept(ODD["message"])["tool_calls"][0]["args"] == {"x": 1}
    assert kept(Point(1.5, "p")) == {"x": 1.5, "label": "p"}
    assert kept(Point(math.nan, "p"))["x"]["repr"] == "nan"
    assert kept(Score(value=math.nan))["value"]["repr"] == "nan"
    again = kept(circle())
    assert again[0] == 1
    assert "{...}" in str(again)


def test_no_key_is_lost() -> None:
    found = kept({1: "a", "1": "b", None: "c", (1, 2): "d"})
    assert sorted(found.values()) == ["a", "b", "c", "d"]
    assert kept({"surrogate\udc80": 1, "plain": 2}) == {"surrogate\\udc80": 1, "plain": 2}


def test_deep_values_keep_their_upper_levels() -> None:
    found = kept(nest(MAX_NESTING + 50))
    for _ in range(MAX_NESTING - 10):
        found = found[0]
    assert "the bottom" in orjson.dumps(found).decode()
    assert kept(nest(100)) == nest(100)


def test_shared_texts_are_texts_whatever_is_in_them() -> None:
    texts = Texts()
    index = texts.add_shared("be \udc80 kind")
    assert read(texts).get(index) == "be \\udc80 kind"
    assert len(text_hash("be \udc80 kind")) == 32


def test_a_text_may_be_shared_and_stand_alone_too() -> None:
    texts = Texts()
    alone = texts.add("be kind")
    shared = texts.add_shared("be kind")
    assert (texts.add("be kind"), texts.add_shared("be kind")) == (alone, shared)
    _, new = texts.take_new()
    kinds = [orjson.loads(orjson.dumps(entry))[0] for entry in new]
    assert [kinds[alone], kinds[shared]] == ["v", "s"]


def test_an_objects_own_members_may_be_odd() -> None:
    texts = Texts()
    index = texts.add_object({"role": "user", "calls": {1, 2}}, {"content": texts.add("hello")})
    assert read(texts).get(index) == {"role": "user", "calls": [1, 2], "content": "hello"}


# -- threads -----------------------------------------------------------------------------------


class Handover(list[bytes]):
    """A list that lets another thread go on just when its length was taken."""

    def __len__(self) -> int:
        length = super().__len__()
        time.sleep(0)
        return length


def test_threads_that_add_at_once_get_indexes_of_their_own_values() -> None:
    texts = Texts()
    texts._entries = Handover(texts._entries)
    barrier = threading.Barrier(8)
    found: dict[int, list[tuple[int, Any]]] = {}

    def work(number: int) -> None:
        mine = found[number] = []
        barrier.wait()
        for turn in range(50):
            value = {"who": number, "said": f"{number} says {turn} " * 5, "list": [turn] * 9}
            mine.append((texts.add(value), value))

    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        threads = [threading.Thread(target=work, args=(n,)) for n in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    finally:
        sys.setswitchinterval(interval)
    payload = read(texts)
    for mine in found.values():
        for index, value in mine:
            assert payload.get(index) == value
