"""A change survives its way over the socket and through the journal."""

from __future__ import annotations

import orjson
import pytest

from holdfast.domain.changes import (
    CHANGES,
    AttemptStarted,
    Finished,
    StepFinished,
    StepStarted,
    read_change,
    write_change,
)
from holdfast.domain.payload import Texts

STARTED = StepStarted(
    step=1, parent=None, kind="node", operation="n", version=None, at=5, input=0, texts=[["e"]]
)


def test_a_change_reads_as_it_was_written() -> None:
    assert read_change(write_change(STARTED)) == STARTED


def test_every_kind_is_known_by_its_name() -> None:
    assert len(CHANGES) == 8
    assert all(kind == cls.k for kind, cls in CHANGES.items())


def test_texts_of_a_pool_travel_as_they_are() -> None:
    texts = Texts()
    texts.add("hello" * 20)
    first, new = texts.take_new()
    change = StepFinished(step=1, status="succeeded", at=1, duration_us=1, first=first, texts=new)
    assert read_change(write_change(change)).texts == [["e"], ["v", "hello" * 20]]


def test_facts_of_any_kind_do_not_stop_a_change() -> None:
    texts = Texts()
    texts.add("kept" * 20)
    first, new = texts.take_new()
    change = AttemptStarted(
        step=1,
        n=1,
        at=1,
        provider="p",
        model=None,
        parameters={"stop": {"a"}, "odd\udc80": 10**30},
        system=None,
        user=None,
        messages=None,
        first=first,
        texts=new,
    )
    found = read_change(write_change(change))
    assert isinstance(found, AttemptStarted)
    assert found.parameters["stop"] == ["a"]
    assert found.parameters["odd\\udc80"]["repr"] == str(10**30)
    assert found.texts == [["e"], ["v", "kept" * 20]]


def test_an_error_with_a_lone_surrogate_still_ends_the_execution() -> None:
    error = {"code": "step_failed", "message": "bad \udc80 byte"}
    found = read_change(write_change(Finished(status="failed", at=1, error=error)))
    assert isinstance(found, Finished)
    assert found.error == {"code": "step_failed", "message": "bad \\udc80 byte"}


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"{",
        b"5",
        b"[]",
        b"null",
        b'"text"',
        b"{}",
        b'{"k":"unknown"}',
        b'{"k":["finished"]}',
        b'{"k":"finished"}',
        b'{"k":"finished","status":"failed","at":1,"more":1}',
        b'{"k":"finished","status":"failed","at":1,"texts":[5]}',
        b'{"k":"finished","status":"failed","at":1,"texts":[[]]}',
        b'{"k":"finished","status":"failed","at":1,"texts":7}',
    ],
)
def test_what_is_no_change_is_refused(raw: bytes) -> None:
    with pytest.raises(ValueError, match=r"(?i)not a change|input|unexpected|EOF") as refused:
        read_change(raw)
    assert not isinstance(refused.value, UnicodeError)


def test_an_older_change_without_a_place_begins_at_the_beginning() -> None:
    body = orjson.loads(write_change(STARTED))
    del body["first"]
    assert read_change(orjson.dumps(body)).first == 0
