"""What kind of failure a model call ended with, told by types and attributes.

Message texts are never searched: they change with every release and repeat what users wrote.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any, cast

from langchain_core.exceptions import (
    ContextOverflowError,
    ModelAPIError,
    ModelAuthenticationError,
    ModelConnectionError,
    ModelInvalidRequestError,
    ModelNotFoundError,
    ModelPermissionDeniedError,
    ModelRateLimitError,
    ModelTimeoutError,
)

from holdfast.errors import BreakerOpen, ModelError

_DURATION = re.compile(r"(\d{1,9}(?:\.\d{1,9})?)s")
_MESSAGE_CHARS = 2000
_CAUSES = 5

_TEMPORARY = (ModelTimeoutError, ModelConnectionError, ModelAPIError)
_PERMANENT = (
    ModelAuthenticationError,
    ModelPermissionDeniedError,
    ModelInvalidRequestError,
    ModelNotFoundError,
    ContextOverflowError,
)
_CODES: Mapping[str, str] = {
    # Sent with 429, or inside a stream without any status. Waiting does not refill an account.
    "insufficient_quota": "budget",
    "billing_hard_limit_reached": "budget",
    "rate_limit_exceeded": "rate_limit",
    "server_error": "temporary",
    "overloaded_error": "temporary",
    "budget_exceeded": "budget",  # our own
}
_TYPES: Mapping[str, str] = {
    # Told inside a stream that began well, so that the status says nothing.
    "api_error": "temporary",
    "overloaded_error": "temporary",
    "timeout_error": "temporary",
    "rate_limit_error": "rate_limit",
    "billing_error": "budget",
    "invalid_request_error": "permanent",
    "authentication_error": "permanent",
    "permission_error": "permanent",
    "not_found_error": "permanent",
}
_TRANSPORT: Mapping[str, frozenset[str]] = {
    # By name: importing a vendor's SDK only to know its errors would cost its import.
    "httpx": frozenset({"TransportError"}),
    "httpx2": frozenset({"TransportError"}),
    "httpcore": frozenset({"TimeoutException", "NetworkError", "ProtocolError"}),
    "httpcore2": frozenset({"TimeoutException", "NetworkError", "ProtocolError"}),
    "aiohttp": frozenset({"ClientConnectionError", "ClientPayloadError"}),
    "openai": frozenset({"APIConnectionError"}),
    "anthropic": frozenset({"APIConnectionError"}),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Failure:
    """A failed call in the words of the record."""

    error_class: str  # temporary, rate_limit, permanent, budget, unknown
    http_status: int | None
    request_id: str | None
    message: str
    retry_after_s: float | None = None  # how long the provider asked to wait


class RecordedError(Exception):
    """Stands for what a model's client raised when a call was recorded.

    Attributes:
        error_class: what it was judged to be then.
        http_status: the provider's status, when there was an answer.
    """

    def __init__(self, message: str, error_class: str, http_status: int | None) -> None:
        super().__init__(message)
        self.error_class = error_class
        self.http_status = http_status


def classify(error: BaseException) -> Failure:
    """Tell the kind of an error that a model call raised.

    An error that says nothing itself is judged by what caused it.
    """
    chain = list(_causes(error))
    error_class = next((c for c in map(_class_of, chain) if c is not None), "unknown")
    return Failure(
        error_class=error_class,
        http_status=next((s for s in map(_status, chain) if s is not None), None),
        request_id=next((r for r in map(_request_id, chain) if r is not None), None),
        message=(str(error) or type(error).__name__)[:_MESSAGE_CHARS],
        retry_after_s=next((s for s in map(_retry_after, chain) if s is not None), None),
    )


def _causes(error: BaseException) -> Iterator[BaseException]:
    current: BaseException | None = error
    for _ in range(_CAUSES):
        if current is None:
            return
        yield current
        current = current.__cause__ or (
            None if current.__suppress_context__ else current.__context__
        )


def _class_of(error: BaseException) -> str | None:
    if isinstance(error, BreakerOpen):
        return "temporary"
    if isinstance(error, ModelError | RecordedError):
        return None if error.error_class == "unknown" else error.error_class
    code = getattr(error, "code", None)
    if isinstance(code, str) and code in _CODES:
        return _CODES[code]
    status = _status(error)
    if status is not None and status >= 400:
        return _class_of_status(status)
    kind = getattr(error, "type", None)
    if isinstance(kind, str) and kind in _TYPES:
        return _TYPES[kind]
    if isinstance(error, ModelRateLimitError):
        return "rate_limit"
    if isinstance(error, _TEMPORARY):
        return "temporary"
    if isinstance(error, _PERMANENT):
        return "permanent"
    if isinstance(error, TimeoutError | ConnectionError) or _is_transport(error):
        return "temporary"
    return None


def _class_of_status(status: int) -> str:
    if status == 429:
        return "rate_limit"
    if status in {408, 409, 425} or status >= 500:
        return "temporary"
    if status == 402:
        return "budget"
    return "permanent"


def _is_transport(error: BaseException) -> bool:
    return any(
        cls.__name__ in _TRANSPORT.get(cls.__module__.partition(".")[0], ())
        for cls in type(error).__mro__
    )


def _status(error: BaseException) -> int | None:
    candidates = (
        getattr(error, "http_status", None),
        getattr(error, "status_code", None),
        getattr(getattr(error, "response", None), "status_code", None),
    )
    return next((s for s in candidates if isinstance(s, int) and 100 <= s < 600), None)


def _headers(error: BaseException) -> Mapping[str, Any]:
    headers = getattr(getattr(error, "response", None), "headers", None)
    return cast("Mapping[str, Any]", headers) if isinstance(headers, Mapping) else {}


def _request_id(error: BaseException) -> str | None:
    headers = _headers(error)
    found = (
        getattr(error, "request_id", None)
        or headers.get("x-request-id")
        or headers.get("request-id")
    )
    return found if isinstance(found, str) else None


def _retry_after(error: BaseException) -> float | None:
    """Seconds from `retry-after-ms`, `Retry-After` (RFC 9110: seconds or a date) or the body."""
    own = getattr(error, "retry_after_s", None)  # our own errors'
    if isinstance(own, int | float):
        return float(own)
    headers = _headers(error)
    for name, unit in (("retry-after-ms", 1000), ("retry-after", 1)):
        value = headers.get(name)
        if not isinstance(value, str):
            continue
        try:
            seconds = float(value) / unit
        except ValueError:
            seconds = _until(value)
        if seconds is not None and math.isfinite(seconds) and seconds >= 0:
            return seconds
    return _retry_delay(getattr(error, "details", None))


def _retry_delay(body: Any) -> float | None:
    """Seconds from a `google.rpc.RetryInfo` among the details of an error's body."""
    try:
        details = [dict(detail) for detail in body["error"]["details"]]
    except (KeyError, TypeError, ValueError):
        return None
    for detail in details:
        found = _DURATION.fullmatch(str(detail.get("retryDelay")))
        if found is not None and str(detail.get("@type")).endswith("google.rpc.RetryInfo"):
            return float(found[1])
    return None


def _until(date: str) -> float | None:
    try:
        at = parsedate_to_datetime(date)
    except ValueError:
        return None
    at = at if at.tzinfo is not None else at.replace(tzinfo=UTC)
    return max(0.0, (at - datetime.now(UTC)).total_seconds())
