"""Structured answers: text from a model held against a pydantic schema."""

from __future__ import annotations

import re
import time
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

import json_repair
import orjson
from pydantic import BaseModel, ValidationError

from .schemas import shorten

A = TypeVar("A", bound=BaseModel)

_FENCED = re.compile(r"\A\s*```[a-zA-Z]*\n(.*?)\n?```\s*\Z", re.DOTALL)


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict(Generic[A]):
    """What became of one answer.

    Attributes:
        outcome: `valid`, `repaired` (the JSON had to be mended) or `invalid`.
        answer: the parsed answer; None when invalid.
        errors: why it is invalid, one line each, fit to be shown to the model.
        duration_us: what parsing and validation took.
    """

    outcome: str
    answer: A | None
    errors: list[str]
    duration_us: int


def judge(text: str, schema: type[A], context: Any = None) -> Verdict[A]:
    """Hold a model's answer against its schema.

    Args:
        text: as the model gave it; a code fence around it is ignored.
        schema: what it must be.
        context: reaches the schema's validators as `info.context`.
    """
    began = time.perf_counter_ns()
    outcome, answer, errors = _judge(text, schema, context)
    return Verdict(
        outcome=outcome,
        answer=answer,
        errors=errors,
        duration_us=(time.perf_counter_ns() - began) // 1000,
    )


def _judge(text: str, schema: type[A], context: Any) -> tuple[str, A | None, list[str]]:
    fenced = _FENCED.match(text)
    body = fenced.group(1) if fenced else text
    outcome = "valid"
    try:
        value: Any = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        value = json_repair.loads(body)
        if value == "":  # its word for: there is no JSON in this
            return "invalid", None, [f"the answer is not JSON: {error}"]
        outcome = "repaired"
    try:
        return outcome, schema.model_validate(value, context=context), []
    except ValidationError as error:
        return "invalid", None, [_line(item) for item in error.errors(include_url=False)]


def _line(error: Any) -> str:
    place = ".".join(str(part) for part in error["loc"]) or "answer"
    return f"{place}: {error['msg']} (got {shorten(error['input'])})"
