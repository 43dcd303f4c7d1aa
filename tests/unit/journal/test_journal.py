"""The journal: what runs now, in memory and on disk, and what a dead boot left."""

from __future__ import annotations

import errno
import os
import shutil
import zlib
from dataclasses import replace
from pathlib import Path
from typing import Any

import orjson
import pytest

from holdfast.domain.status import ExecutionStatus, StepStatus
from holdfast.journal import folder as folder_module
from holdfast.journal.folder import ENTRY, orphans
from holdfast.journal.journal import Journal
from holdfast.telemetry import Metrics
from holdfast.testing.ports import start_of

from .conftest import MakeJournal, changes_of, die, take_over

X1, X2, X3 = (f"x{n}" for n in (1, 2, 3))
DATA = b'{"text":"hello"}'


def begin(journal: Journal, execution_id: str, **claim: Any) -> None:
    claim.setdefault("event_id", f"event of {execution_id}")
    journal.begin(start_of(execution_id, data=DATA, **claim))


def tell(journal: Journal, execution_id: str, changes: list[bytes]) -> None:
    for raw in changes:
        journal.change(execution_id, raw)


def run(journal: Journal, execution_id: str, **options: Any) -> None:
    begin(journal, execution_id)
    tell(journal, execution_id, changes_of(execution_id, **options))


def segments(journal: Journal) -> list[Path]:
    return sorted(journal._folder.path.glob("*.log"))


# -- replay ----------------------------------------------------------------------------------------


def test_what_is_read_back_is_what_ran(make_journal: MakeJournal) -> None:
    journal = make_journal("dead")
    run(journal, X1, text="first")
    begin(journal, X2, delivery=2, crashes=1, traceparent="00-abc-def-01")
    tell(journal, X2, changes_of(X2, text="second")[:7])
    run(journal, X3, text="third")
    live = {running.id: running for running in journal.all()}
    journal.settle(X3)
    die(journal)
    found = take_over(make_journal("next"), "dead")
    assert set(found) == {X1, X2}
    for execution_id, running in found.items():
        assert running.record() == live[execution_id].record()
        assert running.execution() == live[execution_id].execution()
        assert (running.seq, running.finished) == (
            live[execution_id].seq,
            live[execution_id].finished,
        )
    start = found[X2].start
    assert replace(start, claimed=replace(start.claimed, data=DATA)) == live[X2].start


def test_an_execution_cut_off_anywhere_shows_what_it_had_done(make_journal: MakeJournal) -> None:
    changes = changes_of(X1)
    for told in range(len(changes) + 1):
        journal = make_journal(f"dead {told}")
        begin(journal, X1)
        tell(journal, X1, changes[:told])
        live = journal.get(X1)
        assert live is not None
        die(journal)
    later = make_journal("next")
    for told in range(len(changes) + 1):
        running = take_over(later, f"dead {told}")[X1]
        running.break_off(ExecutionStatus.CRASHED, 2_000_000_000_000_000, {"code": "hub_died"})
        assert all(step.status is not StepStatus.RUNNING for step in running.steps())
        payload = running.payload()
        for step in running.steps():
            assert "a question" in payload.get(step.input)["text"]


# -- damage ----------------------------------------------------------------------------------------


def journalled(make_journal: MakeJournal, boot_id: str) -> tuple[bytes, list[int]]:
    """A dead boot's single segment, and where each entry of it begins."""
    journal = make_journal(boot_id)
    run(journal, X1, steps=1)
    (segment,) = segments(journal)
    die(journal)
    data = segment.read_bytes()
    starts, at = [], 0
    while at < len(data):
        starts.append(at)
        at += ENTRY.size + ENTRY.unpack_from(data, at)[0]
    return data, starts


class Dead:
    """Folders of dead boots made by hand."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.count = 0

    def with_segments(self, *contents: bytes) -> list[bytes]:
        """The entries a later boot reads out of segments of these bytes."""
        self.count += 1
        path = self.root / f"by hand {self.count}"
        path.mkdir(parents=True)
        (path / "lock").touch()
        for number, content in enumerate(contents, 1):
            (path / f"{number:08d}.log").write_bytes(content)
        (orphan,) = [one for one in self.taken() if one.path == path]
        entries = list(orphan.entries())
        orphan.remove()
        assert not path.exists()
        return entries

    def taken(self) -> list[Any]:
        return list(orphans(self.root))

    def set_aside(self) -> list[bytes]:
        aside = self.root / "set-aside"
        tails = [path.read_bytes() for path in sorted(aside.glob("*"))] if aside.exists() else []
        shutil.rmtree(aside, ignore_errors=True)
        return tails


@pytest.fixture
def dead(tmp_path: Path) -> Dead:
    return Dead(tmp_path / "by hand")


def test_a_tail_torn_at_any_byte_costs_only_itself(make_journal: MakeJournal, dead: Dead) -> None:
    data, starts = journalled(make_journal, "dead")
    whole = dead.with_segments(data)
    assert len(whole) == len(starts)
    assert dead.set_aside() == []
    last = starts[-1]
    for cut in range(last, len(data)):
        assert dead.with_segments(data[:cut]) == whole[:-1]
        assert dead.set_aside() == ([data[last:cut]] if cut > last else [])


def test_a_flipped_bit_costs_what_follows_and_the_rest_is_kept(
    make_journal: MakeJournal, dead: Dead, logs: list[Any]
) -> None:
    data, starts = journalled(make_journal, "dead")
    whole = dead.with_segments(data)
    for at in range(0, len(data), 37):
        hurt = bytearray(data)
        hurt[at] ^= 1 << (at % 8)
        intact = sum(1 for start in starts[1:] if start <= at)
        found = dead.with_segments(bytes(hurt), data)
        assert found == [*whole[:intact], *whole], "the next segment is read all the same"
        (tail,) = dead.set_aside()
        assert tail == bytes(hurt)[starts[intact] :]
    assert {entry["event"] for entry in logs} == {"journal.damaged_tail"}


@pytest.mark.parametrize("size", [1, 7, 8, 16, 4096])
def test_zeros_left_by_a_power_cut_are_no_entries(
    make_journal: MakeJournal, dead: Dead, size: int
) -> None:
    data, _ = journalled(make_journal, "dead")
    whole = dead.with_segments(data)
    dead.set_aside()
    assert dead.with_segments(data + bytes(size)) == whole
    assert dead.set_aside() == [bytes(size)]


def test_entries_nobody_can_make_sense_of_are_counted_and_passed_over(
    make_journal: MakeJournal, tmp_path: Path, metrics: Metrics
) -> None:
    journal = make_journal("dead")
    run(journal, X1)
    folder = journal._folder
    odd = [b"{", b"5", b"[]", b'"x"', b'{"x":"x1"}', b'{"b":{}}', b'{"b":7}', b'{"y":1}']
    for body in odd:
        folder.append(body)
    run(journal, X2)
    live = {running.id: running.record() for running in journal.all()}
    die(journal)
    found = take_over(make_journal("next"), "dead")
    assert {one: running.record() for one, running in found.items()} == live
    assert metrics.get("holdfast_journal_faults_total", action="journal.bad_entry") == len(odd)


def test_a_lost_stretch_does_not_shift_the_texts_after_it(
    make_journal: MakeJournal, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What the disk refused for a while is missing; all else is in its place."""
    journal = make_journal("dead")
    begin(journal, X1)
    changes = changes_of(X1, steps=4)
    original = os.write

    def full(fd: int, data: bytes) -> int:
        raise OSError(errno.ENOSPC, "no space left")

    tell(journal, X1, changes[:9])
    monkeypatch.setattr(folder_module.os, "write", full)
    tell(journal, X1, changes[9:16])
    monkeypatch.setattr(folder_module.os, "write", original)
    tell(journal, X1, changes[16:])
    live = journal.get(X1)
    assert live is not None
    die(journal)
    running = take_over(make_journal("next"), "dead")[X1]
    assert running.finished == live.finished
    payload, expected = running.payload(), live.payload()
    found = {step.step: step for step in running.steps()}
    for step in live.steps():
        if step.step in found and found[step.step].output is not None:
            value = payload.get(found[step.step].output)
            assert value == expected.get(step.output) or "lost" in str(value)
    last = live.steps()[-1]
    assert payload.get(found[last.step].output) == expected.get(last.output)
    assert payload.get(running.finished.output) == {"answer": "a question"}


# -- room on disk ----------------------------------------------------------------------------------


def test_segments_turn_over_and_vanish_when_nobody_needs_them(
    make_journal: MakeJournal, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(folder_module, "SEGMENT_BYTES", 2000)
    journal = make_journal()
    run(journal, X1)
    run(journal, X2)
    full = segments(journal)
    assert len(full) > 3
    journal.settle(X2)
    assert segments(journal)[: len(full)] == full, "the first one is needed by the older execution"
    journal.settle(X1)
    assert len(segments(journal)) == 1
    run(journal, X3)
    begun = segments(journal)
    assert begun
    journal.settle(X3)
    assert len(segments(journal)) == 1


def test_segments_of_an_older_execution_stay_while_many_others_come_and_go(
    make_journal: MakeJournal, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(folder_module, "SEGMENT_BYTES", 2000)
    journal = make_journal("dead")
    begin(journal, "old")
    changes = changes_of("old")
    for number in range(10):
        run(journal, f"young {number}")
        journal.settle(f"young {number}")
        tell(journal, "old", changes[number : number + 1])
    live = journal.get("old")
    assert live is not None
    die(journal)
    found = take_over(make_journal("next"), "dead")
    assert set(found) == {"old"}
    assert found["old"].record() == live.record()


def test_what_others_left_behind_an_older_execution_does_not_pile_up(
    make_journal: MakeJournal, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One run that takes a day must not keep the journal of that day."""
    monkeypatch.setattr(folder_module, "SEGMENT_BYTES", 20_000)
    monkeypatch.setattr(folder_module, "ROOM_BYTES", 40_000)
    journal = make_journal("dead")
    begin(journal, "old")
    changes = changes_of("old")
    written = journal._folder._size
    most = 0
    for number in range(300):
        before = journal._folder._size
        run(journal, f"young {number}")
        written += max(0, journal._folder._size - before)
        journal.settle(f"young {number}")
        if number % 30 == 0 and number // 30 < len(changes) - 1:
            tell(journal, "old", changes[number // 30 : number // 30 + 1])
        most = max(most, sum(one.stat().st_size for one in segments(journal)))
    assert written > 500_000
    assert most < 120_000
    live = journal.get("old")
    assert live is not None
    die(journal)
    found = take_over(make_journal("next"), "dead")
    assert set(found) == {"old"}, "what was settled does not come back"
    assert found["old"].record() == live.record()


def test_what_is_not_settled_stays_when_a_segment_is_rewritten(
    make_journal: MakeJournal, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(folder_module, "SEGMENT_BYTES", 20_000)
    monkeypatch.setattr(folder_module, "ROOM_BYTES", 40_000)
    journal = make_journal("dead")
    kept: list[str] = []
    for number in range(200):
        run(journal, f"run {number}")
        if number % 17:
            journal.settle(f"run {number}")
        else:
            kept.append(f"run {number}")
    live = {running.id: running.record() for running in journal.all()}
    assert sorted(live) == sorted(kept)
    die(journal)
    found = take_over(make_journal("next"), "dead")
    assert {one: running.record() for one, running in found.items()} == live


def test_what_was_settled_does_not_come_back_out_of_an_older_segment(
    make_journal: MakeJournal, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(folder_module, "SEGMENT_BYTES", 20_000)
    monkeypatch.setattr(folder_module, "ROOM_BYTES", 40_000)
    journal = make_journal("dead")
    run(journal, "settled later")
    kept = 0
    while len(segments(journal)) == 1:  # of which most stays needed
        run(journal, f"kept {kept}")
        kept += 1
    journal.settle("settled later")
    second = segments(journal)[1]
    young = 0
    while len(segments(journal)) < 4:
        run(journal, f"young {young}")
        journal.settle(f"young {young}")
        young += 1
    assert second.stat().st_size < 10_000, "it was rewritten"
    die(journal)
    found = take_over(make_journal("next"), "dead")
    assert set(found) == {f"kept {number}" for number in range(kept)}


def test_a_damaged_segment_is_not_rewritten(
    make_journal: MakeJournal, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its damage is told by whoever takes it in, and nothing behind it is dropped before."""
    monkeypatch.setattr(folder_module, "SEGMENT_BYTES", 20_000)
    monkeypatch.setattr(folder_module, "ROOM_BYTES", 0)
    journal = make_journal("dead")
    begin(journal, "old")
    number = 0
    while len(segments(journal)) == 1:
        run(journal, f"young {number}")
        number += 1
    hurt = bytearray(segments(journal)[0].read_bytes())
    hurt[len(hurt) // 2] ^= 1
    segments(journal)[0].write_bytes(hurt)
    for done in range(number):
        journal.settle(f"young {done}")
    assert segments(journal)[0].read_bytes() == bytes(hurt)


def test_a_segment_that_cannot_be_begun_lets_the_old_one_go_on(
    make_journal: MakeJournal, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(folder_module, "SEGMENT_BYTES", 500)
    journal = make_journal("dead")
    original = os.open

    def refused(*_: Any, **__: Any) -> int:
        raise OSError(errno.EMFILE, "too many open files")

    monkeypatch.setattr(folder_module.os, "open", refused)
    run(journal, X1)
    assert len(segments(journal)) == 1
    monkeypatch.setattr(folder_module.os, "open", original)
    run(journal, X2)
    assert len(segments(journal)) > 1
    live = {running.id: running.record() for running in journal.all()}
    die(journal)
    found = take_over(make_journal("next"), "dead")
    assert {one: running.record() for one, running in found.items()} == live


@pytest.mark.parametrize("written", ["nothing", "half"])
def test_a_full_disk_fails_no_run_and_is_counted(
    make_journal: MakeJournal, metrics: Metrics, monkeypatch: pytest.MonkeyPatch, written: str
) -> None:
    journal = make_journal("dead")
    run(journal, X1)
    original = os.write

    def full(fd: int, data: bytes) -> int:
        if written == "half":
            return original(fd, data[: len(data) // 2])
        raise OSError(errno.ENOSPC, "no space left")

    monkeypatch.setattr(folder_module.os, "write", full)
    run(journal, X2)
    journal.settle(X1)
    monkeypatch.setattr(folder_module.os, "write", original)
    live = journal.get(X2)
    assert live is not None
    assert live.finished is not None
    assert len(live.record().steps) == 2
    faults = metrics.get("holdfast_journal_faults_total", action="journal.write_failed")
    assert faults == 1 + len(changes_of(X2)) + 1
    run(journal, X3)
    die(journal)
    found = take_over(make_journal("next"), "dead")
    assert X3 in found, "what came after the full disk can be read"
    assert found[X3].finished is not None


# -- folders ---------------------------------------------------------------------------------------


def test_folders_of_living_boots_are_left_alone(make_journal: MakeJournal) -> None:
    alive, other = make_journal("alive"), make_journal("other")
    run(alive, X1)
    assert list(other.orphans()) == []
    assert list(alive.orphans()) == []
    die(alive)
    assert set(take_over(other, "alive")) == {X1}


def test_a_folder_is_taken_by_one_boot_only(make_journal: MakeJournal) -> None:
    dead_one, one, other = make_journal("dead"), make_journal("one"), make_journal("other")
    run(dead_one, X1)
    die(dead_one)
    ((orphan, _),) = list(one.orphans())
    assert list(other.orphans()) == []
    orphan.release()
    ((orphan, left),) = list(other.orphans())
    assert [running.id for running in left] == [X1]
    orphan.remove()
    assert list(one.orphans()) == []


def test_a_clean_stop_leaves_a_folder_only_when_something_is_not_stored(
    make_journal: MakeJournal,
) -> None:
    clean, left = make_journal("clean"), make_journal("left")
    run(clean, X1)
    clean.settle(X1)
    clean.close()
    assert not clean._folder.path.exists()
    run(left, X2)
    left.close()
    assert set(take_over(make_journal("next"), "left")) == {X2}


# -- odd changes -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"\xff\xfe",
        b"{",
        b"5",
        b"[]",
        b'{"k":"nonsense"}',
        b'{"k":"finished"}',
        b'{"k":"step.finished","step":99,"status":"succeeded","at":1,"duration_us":1}',
        b'{"k":"finished","status":"succeeded","at":1,"texts":[7]}',
    ],
)
def test_a_change_nobody_understands_is_counted_and_hurts_nobody(
    make_journal: MakeJournal, metrics: Metrics, raw: bytes
) -> None:
    journal = make_journal("dead")
    begin(journal, X1)
    changes = changes_of(X1)
    tell(journal, X1, changes[:5])
    assert journal.change(X1, raw) is None
    tell(journal, X1, changes[5:])
    assert metrics.get("holdfast_journal_faults_total", action="journal.bad_change") == 1
    live = journal.get(X1)
    assert live is not None
    assert live.finished is not None
    record = live.record()
    die(journal)
    assert take_over(make_journal("next"), "dead")[X1].record() == record
    # What cannot be read is not even written down.
    unread = metrics.get("holdfast_journal_faults_total", action="journal.bad_entry")
    assert unread == (1 if b"step.finished" in raw else 0)


def test_a_change_of_an_unknown_execution_is_counted(
    make_journal: MakeJournal, metrics: Metrics
) -> None:
    journal = make_journal()
    assert journal.change("nobody", changes_of("nobody")[0]) is None
    assert metrics.get("holdfast_journal_faults_total", action="journal.unknown_execution") == 1
    journal.tokens("nobody", 1, "text")


def test_nothing_comes_after_the_end(make_journal: MakeJournal, metrics: Metrics) -> None:
    journal = make_journal()
    run(journal, X1)
    assert journal.change(X1, changes_of(X1)[0]) is None
    assert metrics.get("holdfast_journal_faults_total", action="journal.bad_change") == 1
    assert journal.break_off(X1, ExecutionStatus.CRASHED, None) is None


# -- watchers and memory ---------------------------------------------------------------------------


def test_watchers_are_woken_by_changes_text_and_the_end(make_journal: MakeJournal) -> None:
    journal = make_journal()
    begin(journal, X1)
    changes = changes_of(X1)
    with journal.watch(X1) as one, journal.watch(X1) as other, journal.watch(X2) as foreign:

        def woken() -> list[bool]:
            found = [watcher.changed.is_set() for watcher in (one, other, foreign)]
            for watcher in (one, other, foreign):
                watcher.changed.clear()
            return found

        assert woken() == [False, False, False]
        tell(journal, X1, changes[:1])
        assert woken() == [True, True, False]
        journal.tokens(X1, 1, "so ")
        assert woken() == [True, True, False]
        tell(journal, X1, changes[1:])
        woken()
        journal.settle(X1)
        assert woken() == [True, True, False]
        assert one.ended
    assert journal._watchers == {}


def test_nothing_of_a_settled_execution_stays_in_memory(make_journal: MakeJournal) -> None:
    journal = make_journal()
    for number in range(300):
        name = f"x{number}"
        run(journal, name)
        with journal.watch(name):
            journal.settle(name)
        journal.settle(name)  # twice is no harm
    assert journal.all() == []
    assert journal._running == {}
    assert journal._watchers == {}
    assert journal._folder._first == {}


def test_an_entry_is_framed_by_length_and_checksum(make_journal: MakeJournal) -> None:
    """The format on disk is a promise to the next version."""
    journal = make_journal()
    begin(journal, X1)
    data = segments(journal)[0].read_bytes()
    length, checksum = ENTRY.unpack_from(data)
    body = data[ENTRY.size :]
    assert (length, checksum) == (len(body), zlib.crc32(body))
    assert orjson.loads(body)["b"]["claimed"]["execution_id"] == X1
