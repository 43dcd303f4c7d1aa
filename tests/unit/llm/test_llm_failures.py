"""The kinds of failure, told by types and attributes alone."""

import asyncio
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from types import SimpleNamespace

import httpx
import pytest
from langchain_core import exceptions as lc

from holdfast.errors import ModelError
from holdfast.llm.failures import classify


class Answered(Exception):
    def __init__(self, status, headers=None, code=None):
        super().__init__("rate limit 429 timeout")  # must not matter
        self.status_code = status
        self.response = SimpleNamespace(status_code=status, headers=headers or {})
        self.code = code


@pytest.mark.parametrize(
    ("status", "kind"),
    [(408, "temporary"), (409, "temporary"), (500, "temporary"), (503, "temporary")]
    + [(529, "temporary"), (429, "rate_limit"), (402, "budget")]
    + [(status, "permanent") for status in (400, 401, 403, 404, 413, 422)]
    + [(200, "unknown")],
)
def test_by_status(status, kind):
    failure = classify(Answered(status))
    assert (failure.error_class, failure.http_status) == (kind, status)


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (TimeoutError(), "temporary"),
        (ConnectionResetError(), "temporary"),
        (httpx.ReadTimeout("x"), "temporary"),
        (httpx.RemoteProtocolError("x"), "temporary"),
        (httpx.ConnectError("x"), "temporary"),
        (lc.ModelTimeoutError(), "temporary"),
        (lc.ModelConnectionError(), "temporary"),
        (lc.ModelAPIError(), "temporary"),
        (lc.ModelRateLimitError(), "rate_limit"),
        (lc.ModelAuthenticationError(), "permanent"),
        (lc.ModelInvalidRequestError(), "permanent"),
        (lc.ModelNotFoundError(), "permanent"),
        (lc.ContextOverflowError(), "permanent"),
        (ModelError("x", error_class="budget"), "budget"),
        (ValueError("429 rate limit, timeout, try again"), "unknown"),
        (httpx.InvalidURL("x"), "unknown"),
        (asyncio.CancelledError(), "unknown"),
    ],
)
def test_by_type(error, kind):
    assert classify(error).error_class == kind


def test_an_empty_account_is_not_a_rate_limit():
    assert classify(Answered(429, code="insufficient_quota")).error_class == "budget"
    assert classify(Answered(429, code="rate_limit_exceeded")).error_class == "rate_limit"


def test_the_cause_speaks_when_the_error_does_not():
    wrapped = RuntimeError("node failed")
    wrapped.__cause__ = Answered(429, {"x-request-id": "req_7", "retry-after": "3"})
    failure = classify(wrapped)
    assert (failure.error_class, failure.http_status) == ("rate_limit", 429)
    assert (failure.request_id, failure.retry_after_s) == ("req_7", 3.0)
    assert failure.message == "node failed"


def test_retry_after_in_each_form():
    assert classify(Answered(429, {"retry-after-ms": "250"})).retry_after_s == 0.25
    later = format_datetime(datetime.now(UTC) + timedelta(seconds=60), usegmt=True)
    assert 50 < classify(Answered(429, {"retry-after": later})).retry_after_s <= 60
    for nonsense in ("soon", "-3", "nan", "inf"):
        assert classify(Answered(429, {"retry-after": nonsense})).retry_after_s is None


def test_a_silent_error_gets_a_message():
    assert classify(TimeoutError()).message == "TimeoutError"
    assert len(classify(ValueError("x" * 5000)).message) == 2000


def test_googles_retry_delay_stands_in_the_body():
    error = Answered(429)
    kind = "type.googleapis.com/google.rpc.RetryInfo"
    error.details = {"error": {"details": [{"@type": "x"}, {"@type": kind, "retryDelay": "3.5s"}]}}
    assert classify(error).retry_after_s == 3.5
    for nonsense in (None, [], {"error": None}, {"error": {"details": [1, "x"]}}):
        error.details = nonsense
        assert classify(error).retry_after_s is None


@pytest.mark.parametrize(
    ("told", "kind"),
    [("overloaded_error", "temporary"), ("rate_limit_error", "rate_limit"), ("odd", "unknown")],
)
def test_an_error_told_inside_a_stream_by_its_type(told, kind):
    error = Answered(200)
    error.type = told
    assert classify(error).error_class == kind
