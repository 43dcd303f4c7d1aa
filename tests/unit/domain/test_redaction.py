"""Placeholders in records: how they are told, and what they are the same as."""

from __future__ import annotations

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from holdfast.domain.payload import Payload, Texts
from holdfast.domain.redaction import between, is_redacted, placeholder, same

HIDDEN = "Rumpelstilzchen"


def hide(text: str) -> str:
    return text.replace(HIDDEN, placeholder("name", "1")).replace("4000123", "⟦customer 1⟧")


def read(texts: Texts, index: int, data: object = None) -> object:
    _, new = texts.take_new()
    return Payload([orjson.loads(orjson.dumps(one)) for one in new], event_data=data).get(index)


@pytest.mark.parametrize(
    ("value", "kept"),
    [
        (f"I am {HIDDEN}.", "I am ⟦name 1⟧."),
        ({"who": HIDDEN, "age": 3}, {"who": "⟦name 1⟧", "age": 3}),
        ({"long": f"{HIDDEN} " * 20}, {"long": "⟦name 1⟧ " * 20}),
        ({HIDDEN: [1, {HIDDEN: None}]}, {"⟦name 1⟧": [1, {"⟦name 1⟧": None}]}),
        (
            {"deep": {"er": {"and": {"er": [HIDDEN]}}}},
            {"deep": {"er": {"and": {"er": ["⟦name 1⟧"]}}}},
        ),
        ({"customer": 4000123, "tokens": 400}, {"customer": "⟦customer 1⟧", "tokens": 400}),
        ({HIDDEN: 1, "⟦name 1⟧": 2}, {"⟦name 1⟧": 1, "⟦name 1⟧'": 2}),
    ],
)
def test_every_text_of_a_value_is_redacted_before_it_is_kept(value: object, kept: object) -> None:
    texts = Texts(redact=hide)
    assert read(texts, texts.add(value)) == kept


def test_prompts_and_messages_are_redacted() -> None:
    texts = Texts(redact=hide)
    system = texts.add_shared(f"You are {HIDDEN}")
    content = texts.add(f"{HIDDEN} " * 9)
    message = texts.add_object({"role": "user", "name": HIDDEN}, {"content": content})
    whole = texts.add_growing_list([system, message])
    assert read(texts, whole) == [
        "You are ⟦name 1⟧",
        {"role": "user", "name": "⟦name 1⟧", "content": "⟦name 1⟧ " * 9},
    ]


def test_a_text_met_again_is_kept_once() -> None:
    texts = Texts(redact=hide)
    assert texts.add(HIDDEN) == texts.add(HIDDEN)


def test_what_was_given_to_a_step_does_not_point_to_the_events_data() -> None:
    class Event:
        """Spelled as its data, like an event's model."""

        def __init__(self, body: str) -> None:
            self.body = body

        def model_dump(self, mode: str) -> dict[str, str]:
            assert mode == "json"
            return {"body": self.body}

    for body, shown in ((HIDDEN, "⟦name 1⟧"), ("nobody", "as it came")):
        data = orjson.dumps({"body": body})
        texts = Texts(data, redact=hide)
        index = texts.add(Event(body))
        assert read(texts, index, {"body": "as it came"}) == {"body": shown}
        assert (index == 0) == (body == "nobody")


def test_the_result_is_kept_as_it_is() -> None:
    texts = Texts(redact=hide)
    before, result = texts.add({"a": HIDDEN * 9}), texts.add_whole({"a": HIDDEN * 9})
    _, new = texts.take_new()
    payload = Payload([orjson.loads(orjson.dumps(one)) for one in new])
    assert (payload.get(before), payload.get(result)) == ({"a": "⟦name 1⟧" * 9}, {"a": HIDDEN * 9})


def test_without_rules_nothing_changes() -> None:
    given = {"a": HIDDEN, "b": [4000123, {"c": "d" * 99}]}
    plain, whole = Texts(), Texts()
    plain.add(given)
    whole.add_whole(given)
    assert orjson.dumps(plain.take_new()) == orjson.dumps(whole.take_new())
    assert len(plain) > 1


@pytest.mark.parametrize(
    "value", ["a ⟦name 1⟧", {"⟦name 1⟧": 1}, [{"a": ["⟦private key 7.12⟧"]}], ("⟦a 1⟧",)]
)
def test_what_was_taken_out_is_seen(value: object) -> None:
    assert is_redacted(value)


@pytest.mark.parametrize("value", ["[E-MAIL 1]", "⟦⟧", "⟦name⟧", 7, None, {"a": ["⟦ 1"]}])
def test_other_brackets_are_no_placeholder(value: object) -> None:
    assert not is_redacted(value)


def test_pieces_between() -> None:
    assert between("a ⟦x 1⟧⟦y 2⟧ b") == [
        (False, "a "),
        (True, "⟦x 1⟧"),
        (False, ""),
        (True, "⟦y 2⟧"),
        (False, " b"),
    ]


@pytest.mark.parametrize(
    ("a", "b"),
    [
        ("Dear ⟦name 1⟧!", "Dear Eva!"),
        ("Dear ⟦name 1⟧!", "Dear ⟦name 2⟧!"),
        ("⟦a 1⟧, ⟦b 1⟧", "x, y, z"),
        ({"a": ["⟦a 1⟧", 1]}, {"a": ["x", 1]}),
        ({"⟦a 1⟧": 1, "b": 2}, {"b": 2, "x": 1}),
        ("⟦customer 1⟧", 4000123),
        (None, None),
    ],
)
def test_a_placeholder_is_the_same_as_any_text(a: object, b: object) -> None:
    assert same(a, b)
    assert same(b, a)


@pytest.mark.parametrize(
    ("a", "b"),
    [
        ("Dear ⟦name 1⟧!", "Dear Eva?"),
        ("Dear ⟦name 1⟧!", "Dear!"),
        ("a⟦x 1⟧a", "a"),
        ("⟦a 1⟧-⟦b 1⟧", "x"),
        ({"a": "⟦a 1⟧"}, {"b": "⟦a 1⟧"}),
        ({"a": "⟦a 1⟧"}, {"a": 1.5}),
        (["⟦a 1⟧"], ["x", "y"]),
        ("a", "b"),
    ],
)
def test_what_was_kept_still_tells_two_apart(a: object, b: object) -> None:
    assert not same(a, b)
    assert not same(b, a)


@given(st.lists(st.tuples(st.text(), st.text(min_size=1))), st.text())
def test_a_redacted_text_is_the_same_as_what_it_was(
    pieces: list[tuple[str, str]], end: str
) -> None:
    text = "".join(kept + taken for kept, taken in pieces) + end
    recorded = "".join(f"{kept}⟦x {n}⟧" for n, (kept, _) in enumerate(pieces)) + end
    assert same(recorded, text)
