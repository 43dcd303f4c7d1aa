"""Types of the fields that come in: what is allowed where, said once for checks and OpenAPI."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import Annotated, Any

from fastapi import Path
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, WithJsonSchema

from holdfast.operations.views import microseconds
from holdfast.pipelines.base import MAX_NAME_CHARS
from holdfast.store.queries.pages import MAX_PAGE

MAX_WAIT_S = 60.0
"""Longest time a request waits for an event."""

_RFC3339 = re.compile(
    r"\d{4}-\d\d-\d\d[Tt]\d\d:\d\d:\d\d(\.\d{1,9})?([Zz]|[+-]\d\d:\d\d)", re.ASCII
)


def read_time(value: Any) -> datetime:
    """A moment in UTC out of RFC 3339 text; digits beyond microseconds are cut off.

    Raises:
        ValueError: not such text, or no moment in the years 1 to 9999.
    """
    if isinstance(value, str) and _RFC3339.fullmatch(value):
        try:
            return datetime.fromisoformat(value.upper()).astimezone(UTC)
        except (ValueError, OverflowError):
            pass  # a 13th month or a year 0: told like any other text that is no time
    raise ValueError("an existing time as RFC 3339 has it, such as 2026-11-20T10:00:00Z")


Time = Annotated[
    datetime, BeforeValidator(read_time), WithJsonSchema({"type": "string", "format": "date-time"})
]

_LINE = r"^[^\x00-\x1f\x7f-\x9f]+$"
"""No control characters: these texts stand in columns, tables and log lines."""

Type = Annotated[str, Field(min_length=1, max_length=MAX_NAME_CHARS, pattern=_LINE)]

Subject = Annotated[str, Field(min_length=1, max_length=1000, pattern=_LINE)]

SessionId = Annotated[str, Field(min_length=1, max_length=200, pattern=_LINE)]

Source = Annotated[
    str,
    Field(min_length=1, max_length=1000, pattern=r"^[A-Za-z0-9._~:/?#\[\]@!$&'()*+,;=%-]+$"),
]
"""A URI reference, as far as its characters go."""

NAME_PATTERN = re.compile(rf"[A-Za-z0-9._-]{{1,{MAX_NAME_CHARS}}}", re.ASCII)

REF = r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,63}$"
"""A label of a prompt, or a hash or the beginning of one."""

PipelineName = Annotated[
    str, Field(min_length=1, max_length=MAX_NAME_CHARS, pattern=r"^[A-Za-z0-9._-]+$")
]

Id = Annotated[
    str,
    Field(
        pattern=r"^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$",
        json_schema_extra={"format": "uuid"},
    ),
]

IdInPath = Annotated[str, Path(json_schema_extra={"format": "uuid"})]
"""Not checked by its form: what is no id is not found, like an id nobody has."""

Limit = Annotated[int, Field(ge=1, le=MAX_PAGE, description="Most items of the page.")]


def read_flag(value: Any) -> bool:
    """True or false out of a query.

    Raises:
        ValueError: it says neither.
    """
    if value in ("true", "false"):
        return bool(value == "true")
    raise ValueError("true or false")


Flag = Annotated[bool, BeforeValidator(read_flag), WithJsonSchema({"type": "boolean"})]

Wait = Annotated[
    float,
    Field(
        ge=0,
        le=MAX_WAIT_S,
        allow_inf_nan=False,
        description="Seconds to wait for the event to end.",
    ),
]


class Strict(BaseModel):
    """Fields that nobody named are refused."""

    model_config = ConfigDict(extra="forbid")


class Waiting(Strict):
    """Query of what can wait."""

    wait: Wait | None = None


class Page(Strict):
    """Query of every list: newest first, continued after the last id of the page before."""

    since: Time | None = Field(None, description="Not before this time.")
    until: Time | None = Field(None, description="Before this time.")
    before: Id | None = Field(None, description="The last id of the page before this one.")
    limit: Limit = 50

    def bounds(self) -> dict[str, Any]:
        """What every list of the store takes."""
        return {
            "since": microseconds(self.since),
            "until": microseconds(self.until),
            "before": self.before,
            "limit": self.limit,
        }
