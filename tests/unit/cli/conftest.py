"""Views as the API gives them, each field at its plainest."""

from __future__ import annotations

import io
from itertools import count

import pytest
from rich.console import Console

EXECUTION = "0199c0de-0000-7000-8000-000000000001"
EVENT = "0199c0de-0000-7000-8000-000000000002"


def make_attempt(n=1, **fields):
    tokens = {
        "input": 1022,
        "cached": None,
        "cache_write": None,
        "output": 41,
        "reasoning": None,
        "usage": "reported",
    }
    return {
        "n": n,
        "seq": 2 * n,
        "end_seq": 2 * n + 1,
        "status": "succeeded",
        "provider": "openai",
        "model": "gpt-6.1-luna",
        "parameters": {},
        "prompt_system": "Judge.",
        "prompt_user": "A letter.",
        "messages": [
            {"role": "system", "content": "Judge."},
            {"role": "user", "content": "A letter."},
        ],
        "raw_response": {"role": "assistant", "content": "Fine."},
        "started_at": "2026-11-02T14:03:22.000000Z",
        "duration_ms": 311.0,
        "first_token_ms": None,
        "request_id": None,
        "finish_reason": "stop",
        "http_status": None,
        "validation": None,
        "cost_usd": "0.00021",
        "price_source": "list",
        "credits": 0,
        "error": None,
        "error_class": None,
        **fields,
        "tokens": {**tokens, **fields.get("tokens", {})},
    }


@pytest.fixture
def attempt():
    return make_attempt


@pytest.fixture
def step():
    numbers = count(1)

    def make(operation="judge", kind="node", **fields):
        number = fields.pop("step", None) or next(numbers)
        return {
            "step": number,
            "parent": None,
            "seq": number,
            "end_seq": number + 1,
            "kind": kind,
            "operation": operation,
            "operation_version": "1",
            "status": "succeeded",
            "skip_reason": None,
            "input": None,
            "output": None,
            "error": None,
            "error_phase": None,
            "started_at": "2026-11-02T14:03:22.000000Z",
            "duration_ms": 311.0,
            "suspicious": None,
            "attempts": [],
            **fields,
        }

    return make


@pytest.fixture
def execution():
    def make(steps=(), **fields):
        return {
            "id": EXECUTION,
            "event_id": EVENT,
            "kind": "pipeline",
            "name": "support.triage",
            "version": "1",
            "code_version": "c0ffee",
            "delivery": 1,
            "parent_id": None,
            "origin": None,
            "trace_id": None,
            "status": "succeeded",
            "error": None,
            "started_at": "2026-11-02T14:03:22.000000Z",
            "finished_at": "2026-11-02T14:03:22.412000Z",
            "duration_ms": 412.0,
            "step_counts": {"total": len(steps), "succeeded": 0, "skipped": 0, "failed": 0},
            "tokens": {"input": 1163, "cached": 860, "output": 41, "reasoning": 0},
            "cost_usd": "0.00026",
            "credits": 0,
            "unknown": {"usage": 0, "cost": 0},
            "flags": {},
            "waits": [],
            "stops": [],
            "seq": 9,
            "input": {"text": "hi"},
            "output": {"outcome": "answered"},
            "children": [],
            "steps": list(steps),
            **fields,
        }

    return make


@pytest.fixture
def render():
    """What lines look like on a terminal without colours; `ansi` keeps the colours."""

    def make(lines, *, width=100, ansi=False):
        out = Console(
            file=io.StringIO(),
            width=width,
            force_terminal=ansi,
            color_system="standard" if ansi else None,
            markup=False,
            highlight=False,
            emoji=False,
        )
        for line in lines:
            out.print(line, soft_wrap=True)
        return out.file.getvalue()

    return make
