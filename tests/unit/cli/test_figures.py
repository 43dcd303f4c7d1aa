"""Numbers and foreign text as people read them."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from holdfast.cli.figures import age, dollars, milliseconds, one_line, plain, tokens


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (None, "–"),
        (0.24, "0.2 ms"),
        (9.949, "9.9 ms"),
        (9.96, "10 ms"),
        (412.0, "412 ms"),
        (999.4, "999 ms"),
        (999.6, "1.00 s"),
        (1240.0, "1.24 s"),
        (59_994.0, "59.99 s"),
        (59_996.0, "1 min 00 s"),
        (125_000.0, "2 min 05 s"),
    ],
)
def test_durations(value, shown):
    assert milliseconds(value) == shown


@pytest.mark.parametrize(
    ("value", "unknown", "shown"),
    [
        (None, 0, "$?"),
        ("0", 0, "$0"),
        ("0", 2, "$?"),
        ("0.00026", 0, "$0.00026"),
        ("0.0031", 1, "$0.0031 + ?"),
        ("0.000000000001", 0, "$0.0000000000010"),
        ("0.012345", 0, "$0.012"),
        ("0.5", 0, "$0.50"),
        ("1.266", 0, "$1.27"),
        ("1234.5", 0, "$1234.50"),
    ],
)
def test_money_keeps_two_digits_that_mean_something(value, unknown, shown):
    assert dollars(value, unknown=unknown) == shown


def test_tokens_say_what_they_are():
    assert tokens(1204) == "1,204"
    assert tokens(1204, estimated=True) == "~1,204"
    assert tokens(1204, unknown=1) == "1,204 + ?"
    assert tokens(0, unknown=1) == "?"


def test_ages():
    now = datetime(2026, 11, 2, 12, tzinfo=UTC)
    stamps = {
        "2026-11-02T12:00:01Z": "0 s",  # clocks differ
        "2026-11-02T11:59:48Z": "12 s",
        "2026-11-02T11:57:00Z": "3 min",
        "2026-11-02T07:00:00Z": "5 h",
        "2026-10-31T11:00:00Z": "2 d",
    }
    assert {stamp: age(stamp, now) for stamp in stamps} == stamps


def test_no_control_character_survives():
    everything = "".join(map(chr, range(0x20))) + "\x7f\x9b\u202e\ud800x"

    shown = plain(everything)

    assert [c for c in shown if ord(c) < 0x20] == ["\t", "\n"]
    assert shown.endswith("␡���x")
    shown.encode()


def test_one_line_is_one_line():
    assert one_line("a\r\nb\t c") == "a b c"
    assert one_line("abcdef", 4) == "abc…"
