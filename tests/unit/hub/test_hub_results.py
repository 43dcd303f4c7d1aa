"""The hub's cache of results: bounded, timed, each owner's apart."""

from __future__ import annotations

import pytest

from holdfast.hub.results import ENTRY_BYTES, RESULT_BYTES, ResultCache
from holdfast.ports import CachedResult


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


def result(value: str = "1") -> CachedResult:
    return CachedResult("x1", value)


def test_a_result_is_kept_for_its_time(clock):
    cache = ResultCache(clock=clock)
    cache.put("ann", "k", result(), 60)
    clock.now += 59
    assert cache.get("ann", "k") == result()
    clock.now += 1
    assert cache.get("ann", "k") is None
    assert cache.size == 0


def test_nobody_sees_anothers_results(clock):
    cache = ResultCache(clock=clock)
    cache.put("ann", "k", result(), 60)
    assert cache.get("bob", "k") is None


def test_the_one_unused_for_longest_makes_room(clock):
    cache = ResultCache(3 * (ENTRY_BYTES + 1), clock=clock)
    for key in ("a", "b", "c"):
        cache.put("ann", key, result(), 60)
    cache.get("ann", "a")
    cache.put("ann", "d", result(), 60)
    assert [key for key in "abcd" if cache.get("ann", key)] == ["a", "c", "d"]


def test_what_is_too_large_is_not_kept_and_takes_nothing(clock):
    cache = ResultCache(clock=clock)
    cache.put("ann", "k", result(), 60)
    cache.put("ann", "k", result("x" * RESULT_BYTES), 60)
    assert cache.get("ann", "k") is None
    assert cache.size == 0


def test_a_newer_result_takes_the_place_of_the_older(clock):
    cache = ResultCache(clock=clock)
    for value in ("1", "22", "333"):
        cache.put("ann", "k", result(value), 60)
    assert cache.get("ann", "k") == result("333")
    assert cache.size == ENTRY_BYTES + 3
