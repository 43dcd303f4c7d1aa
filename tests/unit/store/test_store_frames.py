"""JSON and frames hold every text."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from holdfast.store.frames import Frames, from_json, plain, to_json

anything = st.text(st.characters(exclude_categories=()), max_size=20)


@given(anything)
def test_any_text_survives_json(text: str) -> None:
    stored = to_json({"text": text, text: 1})
    stored.encode()
    assert "\0" not in stored
    assert from_json(stored) == {"text": text, **({text: 1} if text != "text" else {"text": 1})}


@given(anything)
def test_any_text_survives_a_frame(text: str) -> None:
    frames = Frames()
    assert frames.unpack_text(frames.pack_text(text)) == text
    packed, size = frames.pack_entries([["v", text], ["e"]])
    assert frames.unpack_entries(packed) == (["v", text], ["e"])
    assert size > 0


@given(anything)
def test_a_plain_text_is_one_that_databases_take(text: str) -> None:
    shown = plain(text)
    shown.encode()
    assert "\0" not in shown
    assert plain(shown) == shown


@pytest.mark.parametrize("value", [{1: "a"}, {"big": 2**70}, {"set": {1}}])
def test_json_never_refuses_a_value(value: Any) -> None:
    assert from_json(to_json(value))
