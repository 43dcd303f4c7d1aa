"""How an event comes in: plain JSON with CloudEvents names, or CloudEvents 1.0 structured."""

from __future__ import annotations

import re
from datetime import datetime
from typing import Annotated, Any, Literal, TypedDict, TypeVar, cast

from fastapi import Request
from pydantic import ConfigDict, Field, ValidationError

from holdfast.domain.events import MAX_DELAY_S
from holdfast.errors import InvalidInput, UnsupportedMedia
from holdfast.operations.submit import check_depth

from .fields import PipelineName, SessionId, Source, Strict, Subject, Time, Type
from .problems import refusal, shown
from .requests import decode, media_type, read_body

JSON = "application/json"
CLOUDEVENTS = "application/cloudevents+json"

_KEY = re.compile(r"[!-~]{1,255}")
"""Visible ASCII. The space it has not is what sets CloudEvents' keys apart."""

_TRACEPARENT = r"^[0-9a-f]{2}-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}$"
_TRACE = re.compile(
    r"(?!ff)[0-9a-f]{2}-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}(?P<later>-.*)?"
)


class PlainEvent(Strict):
    """An event as plain JSON."""

    model_config = ConfigDict(extra="forbid", strict=True)

    type: Type = Field(description="Names the pipeline, unless `target` does.")
    data: Any = Field(description="What the pipeline works on; see its schema.")
    source: Source = Field("/", description="Who sends it, a URI reference.")
    subject: Subject | None = Field(None, description="What it is about.")
    time: Time | None = Field(None, description="When it happened.")
    target: PipelineName | None = Field(None, description="The pipeline, when `type` is not it.")
    priority: int | None = Field(
        None, ge=-1000, le=1000, description="Higher runs first; without it the pipeline's own."
    )
    session_id: SessionId | None = Field(
        None, description="The conversation it is a turn of; turns run one after the other."
    )
    deliver_at: Time | None = Field(None, description="Not run before.")
    delay: float | None = Field(
        None,
        ge=0,
        le=MAX_DELAY_S,
        allow_inf_nan=False,
        description="Seconds; not run earlier than that from now.",
    )


class CloudEvent(Strict):
    """An event as CloudEvents 1.0, structured; `source` and `id` are its idempotency key."""

    model_config = ConfigDict(extra="forbid", strict=True)

    specversion: Literal["1.0"]
    id: Annotated[Subject, Field(max_length=255)]
    source: Source
    type: Type
    data: Any
    subject: Subject | None = None
    time: Time | None = None
    datacontenttype: Literal["application/json"] | None = None
    traceparent: Annotated[str, Field(pattern=_TRACEPARENT)] | None = None
    sessionid: SessionId | None = None
    deliverat: Time | None = None


M = TypeVar("M", bound=Strict)


class Intake(TypedDict):
    """What `operations.submit` is to be called with."""

    type: str
    data: Any
    source: str
    subject: str | None
    time: datetime | None
    target: str | None
    priority: int | None
    idempotency_key: str | None
    traceparent: str | None
    session_id: str | None
    deliver_at: datetime | None
    delay_s: float


async def read_event(request: Request) -> Intake:
    """Read and check everything but the data, which is the pipeline's to check.

    Raises:
        UnsupportedMedia, BodyTooLarge, MalformedBody: the body cannot be read.
        InvalidInput: a field or header is wrong.
    """
    media = media_type(request, JSON, CLOUDEVENTS)
    if "ce-specversion" in request.headers:
        raise UnsupportedMedia(
            "CloudEvents in binary mode are not read",
            hint=f"send the event structured, as {CLOUDEVENTS}",
            fields=[{"field": "ce-specversion", "expected": "no such header", "got": "1.0"}],
        )
    key = idempotency_key(request)
    body = decode(await read_body(request))
    if not isinstance(body, dict):
        raise InvalidInput(
            "the body is not a JSON object",
            fields=[{"field": "body", "expected": "a JSON object", "got": shown(body)}],
        )
    fields = cast("dict[str, Any]", body)
    check_depth(fields.get("data"))
    traceparent = traceparent_of(request)
    if media == JSON:
        plain = _checked(PlainEvent, fields)
        return Intake(
            type=plain.type,
            data=plain.data,
            source=plain.source,
            subject=plain.subject,
            time=plain.time,
            target=plain.target,
            priority=plain.priority,
            idempotency_key=key,
            traceparent=traceparent,
            session_id=plain.session_id,
            deliver_at=plain.deliver_at,
            delay_s=plain.delay or 0,
        )
    event = _checked(CloudEvent, fields)
    return Intake(
        type=event.type,
        data=event.data,
        source=event.source,
        subject=event.subject,
        time=event.time,
        target=None,
        priority=None,
        idempotency_key=key or f"{event.source} {event.id}",
        traceparent=_traceparent(event.traceparent) or traceparent,
        session_id=event.sessionid,
        deliver_at=event.deliverat,
        delay_s=0,
    )


_HINTS = {
    "id": "ids are given by the hub; to send an event only once use the Idempotency-Key header",
    "specversion": f"CloudEvents are sent as Content-Type: {CLOUDEVENTS}",
    "data_base64": "only JSON data is taken, in the field data",
}


def _checked(model: type[M], fields: dict[str, Any]) -> M:
    try:
        return model.model_validate(fields)
    except ValidationError as error:
        refused = refusal(error.errors(include_url=False), known=list(model.model_fields))
        refused.hint = next(
            (_HINTS[name] for name in fields.keys() - model.model_fields if name in _HINTS), ""
        )
        raise refused from error


def idempotency_key(request: Request) -> str | None:
    """The key a request carries.

    Raises:
        InvalidInput: several, or not of visible ASCII characters.
    """
    keys = request.headers.getlist("idempotency-key")
    if not keys:
        return None
    if len(keys) > 1 or not _KEY.fullmatch(keys[0]):
        expected = "one key of 1 to 255 visible ASCII characters"
        raise InvalidInput(
            f"the Idempotency-Key header is not {expected}",
            fields=[
                {"field": "Idempotency-Key", "expected": expected, "got": shown(", ".join(keys))}
            ],
        )
    return keys[0]


def traceparent_of(request: Request) -> str | None:
    """The W3C trace context that a request carries."""
    return _traceparent(request.headers.get("traceparent"))


def _traceparent(text: str | None) -> str | None:
    """`text` if it is a W3C trace context; another one is to be ignored, says the standard."""
    found = _TRACE.fullmatch(text) if text else None
    if found is None or (found["later"] and found.string.startswith("00")):
        return None
    return text
