"""The outside form of the nouns: JSON objects with ISO times, dollars as decimal text."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from holdfast.agents.declaration import AgentDeclaration
from holdfast.domain.agents import AGENT
from holdfast.domain.events import Event
from holdfast.domain.executions import Attempt, Execution, Step, Totals, usd
from holdfast.domain.ids import MICROS
from holdfast.domain.payload import Payload
from holdfast.domain.status import ExecutionStatus
from holdfast.pipelines.registry import Registry
from holdfast.store.queries import Family

View = dict[str, Any]

_TIMES = ("started_at", "finished_at", "duration_ms")
_SUMS = ("tokens", "cost_usd", "credits", "unknown")

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def iso(us: int | None) -> str | None:
    """RFC 3339 in UTC with microseconds."""
    if us is None:
        return None
    stamp = datetime.fromtimestamp(us // MICROS, UTC).replace(microsecond=us % MICROS)
    return stamp.isoformat(timespec="microseconds").replace("+00:00", "Z")


def microseconds(time: datetime | None) -> int | None:
    """Exact microseconds since the epoch of a time with a zone; the inverse of `iso`."""
    return None if time is None else (time - EPOCH) // timedelta(microseconds=1)


def milliseconds(us: int | None) -> float | None:
    """Milliseconds out of microseconds."""
    return None if us is None else us / 1000


def money(pico: int | None) -> str | None:
    """Dollars as plain decimal text, exact; None is unknown."""
    amount = usd(pico)
    if amount is None:
        return None
    text = f"{amount:f}"
    return text.rstrip("0").rstrip(".") if "." in text else text


def event_view(event: Event, *, with_data: bool = True) -> View:
    """An event; lists leave its data out."""
    view: View = {
        "id": event.id,
        "type": event.type,
        "source": event.source,
        "subject": event.subject,
        "time": iso(event.occurred_at),
        "target": event.target,
        "target_kind": event.target_kind,
        "priority": event.priority,
        "session_id": event.session_id,
        "idempotency_key": event.idempotency_key,
        "status": event.status.value,
        "deliveries": event.deliveries,
        "crashes": event.crashes,
        "errors": event.errors,
        "available_at": iso(event.available_at),
        "cancel_requested": event.cancel_requested_at is not None,
        "execution_id": event.execution_id,
        "parent_id": event.parent_id,
        "origin": event.origin,
        "received_at": iso(event.received_at),
        "finished_at": iso(event.finished_at),
        "last_error": event.last_error,
        "discarded": event.discarded and {**event.discarded, "at": iso(event.discarded["at"])},
        "postponed_for": event.postponed_for,
    }
    if with_data:
        view["data"] = event.data
    return view


def execution_view(execution: Execution) -> View:
    """An execution as lists show it: no texts."""
    return {
        "id": execution.id,
        "event_id": execution.event_id,
        "kind": execution.kind,
        "name": execution.name,
        "version": execution.graph_version,
        "code_version": execution.code_version,
        "delivery": execution.delivery,
        "parent_id": execution.parent_id,
        "origin": execution.origin,
        "session_id": execution.session_id,
        "trace_id": execution.trace_id,
        "status": execution.status.value,
        "error": execution.error,
        "started_at": iso(execution.started_at),
        "finished_at": iso(execution.finished_at),
        "duration_ms": milliseconds(execution.duration_us),
        "step_counts": {
            "total": execution.steps_total,
            "succeeded": execution.steps_succeeded,
            "skipped": execution.steps_skipped,
            "failed": execution.steps_failed,
        },
        **totals_view(execution.totals),
        "flags": execution.flags,
        "seq": execution.seq,
        "waits": waits_view(execution),
        "stops": execution.stops or [],
    }


def waits_view(execution: Execution) -> list[View]:
    """What an execution waits for now."""
    if execution.status is not ExecutionStatus.WAITING or not execution.stops:
        return []
    shown = ("id", "kind", "name", "question", "schema", "awaits", "subject")
    return [
        {name: wait[name] for name in shown} | {"child": _child_view(wait.get("child"))}
        for wait in execution.stops[-1]["waits"]
    ]


def _child_view(child: View | None) -> View | None:
    """The child execution a wait is for; None where it is for something else."""
    if child is None:
        return None
    return {name: child[name] for name in ("pipeline", "event_id", "step")}


def totals_view(totals: Totals) -> View:
    """Tokens, dollars and credits; `unknown` counts the attempts the sums cannot include."""
    return {
        "tokens": {
            "input": totals.tokens_input,
            "cached": totals.tokens_cached,
            "output": totals.tokens_output,
            "reasoning": totals.tokens_reasoning,
        },
        "cost_usd": money(totals.cost_pico),
        "credits": totals.credits,
        "unknown": {"usage": totals.usage_unknown, "cost": totals.cost_unknown},
    }


def record_view(
    execution: Execution,
    steps: tuple[Step, ...],
    attempts: tuple[Attempt, ...],
    payload: Payload,
    family: Family,
) -> View:
    """An execution whole: every step with its attempts and texts, and the children it started."""
    tries: dict[int, list[View]] = {}
    for attempt in attempts:
        tries.setdefault(attempt.step, []).append(attempt_view(attempt, payload))
    return {
        **execution_view(execution),
        "input": payload.get(execution.input),
        "output": payload.get(execution.output),
        "children": children_view(execution, family),
        "with_children": {
            "executions": 1 + family.rested + len(family.running),
            "estimated": family.estimated > 0 or "tokens_estimated" in execution.flags,
            **totals_view(execution.totals + family.totals),
        },
        "steps": [
            {**step_view(step, payload), "attempts": tries.get(step.step, [])} for step in steps
        ],
    }


def children_view(execution: Execution, family: Family) -> list[View]:
    """The child executions of one, each with the step that started it."""
    steps = {
        wait["child"]["event_id"]: wait["child"]["step"]
        for stop in execution.stops or ()
        for wait in stop["waits"]
        if wait.get("child") is not None
    }
    shown = ("id", "event_id", "name", "version", "status", "error", "flags", *_TIMES, *_SUMS)
    return [
        {"step": steps.get(one.event_id)} | {name: view[name] for name in shown}
        for one in family.children
        for view in (execution_view(one),)
    ]


def step_view(step: Step, payload: Payload) -> View:
    """A step with its input and output."""
    return {
        "step": step.step,
        "parent": step.parent,
        "seq": step.seq,
        "end_seq": step.end_seq,
        "kind": step.kind,
        "operation": step.operation,
        "operation_version": step.operation_version,
        "status": step.status.value,
        "skip_reason": step.skip_reason,
        "input": payload.get(step.input),
        "output": payload.get(step.output),
        "error": step.error,
        "error_phase": step.error_phase,
        "started_at": iso(step.started_at),
        "duration_ms": milliseconds(step.duration_us),
        "suspicious": step.suspicious,
    }


def attempt_view(attempt: Attempt, payload: Payload) -> View:
    """An attempt with its prompts, parameters and raw response."""
    return {
        "n": attempt.n,
        "call": attempt.call,
        "seq": attempt.seq,
        "end_seq": attempt.end_seq,
        "status": attempt.status.value,
        "alias": attempt.alias,
        "provider": attempt.provider,
        "model": attempt.model,
        "parameters": {
            key: payload.get(value["$"]) if _points(value) else value
            for key, value in attempt.parameters.items()
        },
        "prompt": {
            "name": attempt.prompt_name,
            "label": attempt.prompt_label,
            "version": attempt.prompt_version,
        }
        if attempt.prompt_version
        else None,
        "prompt_system": payload.get(attempt.prompt_system),
        "prompt_user": payload.get(attempt.prompt_user),
        "messages": payload.get(attempt.messages),
        "raw_response": payload.get(attempt.raw_response),
        "started_at": iso(attempt.started_at),
        "duration_ms": milliseconds(attempt.duration_us),
        "first_token_ms": milliseconds(attempt.first_token_us),
        "request_id": attempt.request_id,
        "finish_reason": attempt.finish_reason,
        "http_status": attempt.http_status,
        "validation": {
            "outcome": attempt.validation,
            "duration_ms": milliseconds(attempt.validation_us),
            "errors": attempt.validation_errors or [],
        }
        if attempt.validation
        else None,
        "tokens": {
            "input": attempt.tokens_input,
            "cached": attempt.tokens_cached,
            "cache_write": attempt.tokens_cache_write,
            "output": attempt.tokens_output,
            "reasoning": attempt.tokens_reasoning,
            "input_audio": attempt.tokens_input_audio,
            "output_audio": attempt.tokens_output_audio,
            "input_image": attempt.tokens_input_image,
            "output_image": attempt.tokens_output_image,
            "usage": attempt.usage,
        },
        "cost_usd": money(attempt.cost_pico),
        "price_source": attempt.price_source,
        "price_date": attempt.price_date,
        "saved_usd": money(attempt.saved_pico),
        "credits": attempt.credits,
        "error": attempt.error,
        "error_class": attempt.error_class,
    }


def _points(value: Any) -> bool:
    return isinstance(value, dict) and value.keys() == {"$"} and isinstance(value["$"], int)


def agent_name(registry: Registry, kind: str, name: str) -> View | None:
    """The agent that an event is for or an execution is of; None for anything else."""
    if kind != AGENT:
        return None
    known = registry.get(name) if name in registry else None
    title = known.title if isinstance(known, AgentDeclaration) else None
    return {"id": name, "name": title}
