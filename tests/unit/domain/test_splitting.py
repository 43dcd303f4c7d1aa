"""Texts in chunks: nothing is lost, nothing is too long, and the cuts are where a reader's are."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from holdfast.domain.splitting import CHARS_PER_TOKEN, split, tokens_of
from holdfast.errors import InvalidInput

TEXTS = st.text(alphabet="ab .\n!?\t\r。é🙂", max_size=500) | st.text(max_size=200)


@settings(max_examples=500, deadline=None)
@given(text=TEXTS, size=st.integers(1, 25), data=st.data())
def test_chunks_cover_the_text_and_keep_to_the_limit(text: str, size: int, data: st.DataObject):
    overlap = data.draw(st.integers(0, size - 1))
    pieces = split(text, size=size, overlap=overlap)
    covered: set[int] = set()
    for piece in pieces:
        assert piece.text == text[piece.start : piece.end]
        assert piece.text.strip() == piece.text != ""
        assert tokens_of(piece.text) == piece.tokens <= size
        covered.update(range(piece.start, piece.end))
    assert all(at in covered or char.isspace() for at, char in enumerate(text))
    starts = [piece.start for piece in pieces]
    assert starts == sorted(set(starts))


@pytest.mark.parametrize("break_", ["\n\n", "\r\n\r\n", "\n \n", "\n", " ", ". ", "。", "\t"])
def test_whatever_separates_its_parts_a_long_text_is_never_one_piece(break_: str) -> None:
    text = break_.join(f"part{n:04}" for n in range(400))
    pieces = split(text, size=30, overlap=0)
    assert len(pieces) >= len(text) / (30 * CHARS_PER_TOKEN)
    assert all("part" in piece.text for piece in pieces)
    if break_ != "\n \n":
        assert not any(piece.text.startswith("art") for piece in pieces)  # cut between parts


def test_a_text_without_any_break_is_cut_all_the_same() -> None:
    pieces = split("x" * 1000, size=50, overlap=10)
    assert [piece.tokens for piece in pieces] == [50] * 5


def test_paragraphs_stay_whole_where_they_fit() -> None:
    first, second = "One two three. Four five.", "Six seven eight nine. Ten."
    pieces = split(f"{first}\n\n\n{second}\n", size=8, overlap=0)
    assert [piece.text for piece in pieces] == [first, second]
    assert [piece.text for piece in split(f"{first}\n\n{second}", size=20, overlap=0)] == [
        f"{first}\n\n{second}"
    ]


def test_lines_and_sentences_stay_whole_where_they_fit() -> None:
    for break_ in ("\n", ". ", "? "):
        parts = [f"alpha b gamma delta {n}" for n in range(60)]
        pieces = split(break_.join(parts), size=20, overlap=0)
        assert len(pieces) >= 15
        assert all(piece.text.startswith("alpha") for piece in pieces)


def test_a_chunk_repeats_the_end_of_the_one_before() -> None:
    text = " ".join(f"Sentence {n} is here." for n in range(30))
    pieces = split(text, size=30, overlap=8)
    for before, after in pairwise(pieces):
        shared = before.end - after.start
        assert 0 < shared <= 8 * CHARS_PER_TOKEN
        assert after.text.startswith("Sentence")


@pytest.mark.parametrize(("size", "overlap"), [(0, 0), (5, 5), (5, -1)])
def test_what_makes_no_chunks_is_refused(size: int, overlap: int) -> None:
    with pytest.raises(InvalidInput, match="cannot be made"):
        split("text", size=size, overlap=overlap)


def test_nothing_is_made_of_white_space() -> None:
    assert split(" \n\n \t ") == []
