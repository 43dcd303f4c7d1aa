"""Threads know on whose account code still runs in them."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest

from holdfast.engine.threads import ExecutionThreads
from holdfast.ports import running_execution


@pytest.fixture
def threads() -> Iterator[ExecutionThreads]:
    pool = ExecutionThreads(1)
    yield pool
    pool.shutdown(wait=True)


@pytest.fixture
def account() -> Iterator[str]:
    token = running_execution.set("x1")
    yield "x1"
    running_execution.reset(token)


def test_calls_count_while_they_run_or_wait(threads: ExecutionThreads, account: str) -> None:
    release = threading.Event()
    first = threads.submit(release.wait, 10)
    second = threads.submit(lambda: 7)
    assert threads.active(account) == 2
    release.set()
    assert second.result(10) == 7
    assert first.result(10)
    threads.shutdown(wait=True)
    assert threads.active(account) == 0


def test_a_call_cancelled_before_it_ran_counts_no_more(
    threads: ExecutionThreads, account: str
) -> None:
    release = threading.Event()
    first = threads.submit(release.wait, 10)
    second = threads.submit(lambda: 7)
    assert second.cancel()
    assert threads.active(account) == 1
    release.set()
    first.result(10)
    threads.shutdown(wait=True)
    assert threads.active(account) == 0


def test_a_call_that_raises_counts_no_more(threads: ExecutionThreads, account: str) -> None:
    def fail() -> None:
        raise SystemExit

    future = threads.submit(fail)
    with pytest.raises(SystemExit):
        future.result(10)
    threads.shutdown(wait=True)
    assert threads.active(account) == 0


def test_a_call_a_closed_pool_refuses_is_not_counted(
    threads: ExecutionThreads, account: str
) -> None:
    threads.shutdown(wait=True)
    with pytest.raises(RuntimeError):
        threads.submit(lambda: 7)
    assert threads.active(account) == 0


def test_calls_without_an_execution_are_nobodys(threads: ExecutionThreads) -> None:
    assert threads.submit(lambda: 7).result(10) == 7
    assert threads.active("x1") == 0
