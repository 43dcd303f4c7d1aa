"""One running execution as its hub knows it: built from changes, turned into the record."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, cast

import orjson

from holdfast.domain.breakers import Postponed
from holdfast.domain.changes import (
    CACHED,
    NO_USAGE,
    AttemptFinished,
    AttemptStarted,
    AttemptValidated,
    Change,
    ContentChecked,
    Finished,
    StepFinished,
    StepMarked,
    StepStarted,
)
from holdfast.domain.checkpoints import saved_from_json
from holdfast.domain.events import Claimed
from holdfast.domain.executions import Attempt, Execution, Record, Step, Totals
from holdfast.domain.halts import Halt, Wait, answer_on_record
from holdfast.domain.ids import new_id
from holdfast.domain.payload import EVENT_ENTRY, LOST_ENTRY, Entry, Payload, text_hash
from holdfast.domain.recordings import Begun
from holdfast.domain.replays import REPLAYED
from holdfast.domain.savings import Saving, added_up, day_of
from holdfast.domain.status import HALTED, ExecutionStatus, StepStatus
from holdfast.errors import ContentRefused
from holdfast.llm.price_list import Tariff
from holdfast.llm.prices import Price
from holdfast.llm.usage import Usage

from .ledger import lines_of


@dataclass(frozen=True, slots=True, kw_only=True)
class Start:
    """What is known of an execution when it begins: its claim and the code that runs it."""

    claimed: Claimed
    lease_owner: str
    graph_version: str
    code_version: str
    kind: str = "pipeline"
    prompts: Mapping[str, str] = field(default_factory=dict[str, str])  # versions it uses
    begun: Begun | None = None  # it ran elsewhere; its event is stored together with its record


class Assessor:
    """What the hub adds to a change as it arrives: prices and warnings.

    Args:
        price: what a call cost, as `llm.prices.Prices.price` tells it.
        suspicious: reasons to distrust a text that a model reads; None: nobody looks at that.
        suspicious_answer: the same for what it says.
        tariff: credits of answers for which their node names none.
        checked: told of a content check that acted in a runner: its name, the action, and on what.
    """

    def __init__(
        self,
        *,
        price: Callable[..., Price],
        suspicious: Callable[[str], list[str]] | None,
        suspicious_answer: Callable[[str], list[str]] | None = None,
        tariff: Tariff | None = None,
        checked: Callable[[str, str, str], None] = lambda _check, _action, _on: None,
    ) -> None:
        self.checked = checked
        self.price = price
        self.suspicious = suspicious
        self.suspicious_answer = suspicious_answer
        self.tariff = tariff or Tariff()


class Running:
    """The live state of one execution.

    `seq` numbers its changes from 1 and never goes back; a step keeps the numbers of its start
    and its end, so that a reader can be brought up to date from any number.
    """

    def __init__(self, start: Start, assessor: Assessor) -> None:
        self.start = start
        self.id = start.claimed.execution_id
        self.event_id = start.claimed.event_id
        self.owner_id = start.claimed.owner_id
        self.halt = start.claimed.halt  # where it stood still before this part, if it did
        self.seq = self.halt.seq + 1 if self.halt else 0
        self.finished: Finished | None = None
        self.began = True  # False when no worker ever had it
        self.streamed: dict[int, str] = {}  # text so far of model calls under way, by step
        self._assessor = assessor
        self._steps: dict[int, dict[str, Any]] = {}
        self._attempts: dict[tuple[int, int], dict[str, Any]] = {}
        self._asked: dict[tuple[int, int], str | None] = {}  # models, by attempt
        self._entries: list[Entry] = []
        self._checked: dict[int, list[str]] = {}
        self._stops = list(self.halt.stops) if self.halt else []
        if self.halt is not None:
            self._steps = {one["step"]: _reopened(one) for one in self.halt.open}
            # Entries of earlier parts keep their places; this part does not point to them.
            self._entries = [EVENT_ENTRY] * min(1, self.halt.texts)
            self._entries += [LOST_ENTRY] * (self.halt.texts - 1)
            resumed = {"resumed_seq": self.seq, "resumed_at": start.claimed.started_at}
            answers = {wait: answer_on_record(one) for wait, one in start.claimed.answers.items()}
            self._stops[-1] = {**self._stops[-1], **resumed, "answers": answers}
        self._waits: tuple[Wait, ...] = ()
        self._savings: list[Saving] = []

    @property
    def ended(self) -> bool:
        """Whether it has told its end; the record may not be stored yet."""
        return self.finished is not None

    @property
    def goes_on(self) -> bool:
        """Whether it stood still before this part."""
        return self.halt is not None

    def apply(self, change: Change) -> int:
        """Take the next change and return its number.

        Raises:
            ValueError: it does not fit what came before.
        """
        if self.finished is not None:
            raise ValueError(f"execution {self.id} has finished; {change.k} came after")
        self.seq += 1
        self._place(change.first, cast("list[Entry]", change.texts))
        try:
            match change:
                case StepStarted():
                    self._step_started(change)
                case StepFinished():
                    self._step_finished(change)
                case ContentChecked():
                    self._assessor.checked(change.check, change.action, change.on)
                case StepMarked():
                    self._mark(change.step, change.reasons)
                case AttemptStarted():
                    self._attempt_started(change)
                case AttemptFinished():
                    self._attempt_finished(change)
                case AttemptValidated():
                    self._attempt_validated(change)
                case Finished():
                    if change.status in HALTED:
                        self._waits = tuple(self._wait(one) for one in change.waits)
                        self._stops.append(self._stop(change))
                    else:
                        self._close_open(StepStatus.CANCELLED, change.at, _END_LOST)
                    self.finished = change
        except KeyError as error:
            raise ValueError(f"{change.k} speaks of unknown step or attempt {error}") from error
        return self.seq

    def stream(self, step: int, text: str) -> None:
        """Take a piece of streamed text; it counts only while the call is under way."""
        self.streamed[step] = self.streamed.get(step, "") + text

    def break_off(self, status: ExecutionStatus, at: int, error: Mapping[str, Any] | None) -> None:
        """End the execution from outside, because its process died or never began.

        Steps under way failed with it; what they had recorded stays.
        """
        described = dict(error) if error else None
        self.seq += 1
        self._close_open(StepStatus.FAILED, at, described)
        self.finished = Finished(status=status, at=at, error=described)

    def execution(self) -> Execution:
        """The execution as it stands."""
        claimed, end, halt = self.start.claimed, self.finished, self.halt
        totals = totals_of(self.attempts())
        statuses = Counter(fields["status"] for fields in self._steps.values())
        if halt is not None:
            totals += halt.totals
            statuses.update({StepStatus(name): count for name, count in halt.counts.items()})
        began = halt.started_at if halt else claimed.started_at
        ended = end is not None and end.status not in HALTED
        return Execution(
            id=self.id,
            owner_id=self.owner_id,
            event_id=self.event_id,
            kind=self.start.kind,
            name=claimed.target,
            graph_version=self.start.graph_version,
            code_version=halt.code_version if halt else self.start.code_version,
            delivery=claimed.delivery,
            parent_id=claimed.parent_id,
            session_id=claimed.session_id,
            trace_id=_trace_id(claimed.traceparent),
            status=ExecutionStatus(end.status) if end else ExecutionStatus.RUNNING,
            input=0 if self._entries else None,
            output=end.output if end else None,
            error=end.error if end else None,
            started_at=began,
            finished_at=end.at if end and ended else None,
            duration_us=max(0, end.at - began) if end and ended else None,
            steps_total=sum(statuses.values()),
            steps_succeeded=statuses[StepStatus.SUCCEEDED],
            steps_skipped=statuses[StepStatus.SKIPPED],
            steps_failed=statuses[StepStatus.FAILED],
            totals=totals,
            flags=self._flags(),
            seq=self.seq,
            stops=self._stops or None,
            origin=claimed.origin,
        )

    def steps(self) -> tuple[Step, ...]:
        """Its steps so far, in order of starting."""
        return tuple(Step(**fields) for fields in self._steps.values())

    def attempts(self) -> tuple[Attempt, ...]:
        """Its attempts so far, in order of starting."""
        return tuple(Attempt(**fields) for fields in self._attempts.values())

    @property
    def entries(self) -> list[Entry]:
        """Its payload entries; those of earlier parts only hold their places."""
        return self._entries

    def payload(self) -> Payload:
        """Its texts so far."""
        return Payload(self._entries, event_data=orjson.loads(self.start.claimed.data))

    def record(self, *, counts_as_crash: bool = True) -> Record:
        """What is to be stored now that it has ended."""
        blobs: dict[str, str] = {}
        entries: list[Entry] = []
        for entry in self._entries[self.halt.texts if self.halt else 0 :]:
            if entry[0] == "s" and isinstance(entry[1], str):
                digest = text_hash(entry[1])
                blobs[digest] = entry[1]
                entry = ["b", digest]
            entries.append(entry)
        execution, end, attempts = self.execution(), self.finished, self.attempts()
        return Record(
            execution=execution,
            steps=self.steps(),
            attempts=attempts,
            usage=lines_of(attempts),
            entries=tuple(entries),
            blobs=tuple(blobs.items()),
            lease_owner=self.start.lease_owner,
            fence=self.start.claimed.fence,
            counts_as_crash=counts_as_crash,
            began=self.began,
            part=self.halt.part if self.halt else 0,
            reopened=tuple(one["step"] for one in self.halt.open) if self.halt else (),
            halt=self._halted(execution) if end and end.status in HALTED else None,
            waits=self._waits,
            saved=tuple(saved_from_json(one) for one in end.saved) if end else (),
            event=None if self.start.begun is None else self.start.begun.event(),
            postponed=Postponed(**end.postponed) if end and end.postponed else None,
            savings=tuple(added_up(self._savings)),
        )

    def _stop(self, change: Finished) -> dict[str, Any]:
        waits = [one.on_record() for one in self._waits]
        return {"seq": self.seq, "at": change.at, "status": change.status, "waits": waits}

    def _wait(self, written: Mapping[str, Any]) -> Wait:
        """A wait out of JSON; a child gets its event's id, the same as long as it is waited for."""
        wait = Wait.of(written)
        if wait.child is None:
            return wait
        event_id = self.start.claimed.children.get(wait.id) or new_id()
        return replace(wait, child=replace(wait.child, event_id=event_id))

    def _halted(self, execution: Execution) -> Halt:
        """Where the next part of the record begins."""
        tried = Counter(step for step, _ in self._attempts)
        before = {one["step"]: one["attempts"] for one in self.halt.open} if self.halt else {}
        running = {
            step: fields
            for step, fields in self._steps.items()
            if fields["status"] is StepStatus.RUNNING
        }
        ended = Counter(
            fields["status"].value for step, fields in self._steps.items() if step not in running
        )
        return Halt(
            part=self.halt.part + 1 if self.halt else 1,
            steps=execution.steps_total,
            texts=len(self._entries),
            seq=self.seq,
            started_at=execution.started_at,
            code_version=execution.code_version,
            counts=dict(ended + Counter(self.halt.counts if self.halt else {})),
            totals=execution.totals,
            flags=execution.flags,
            open=[
                {**fields, "attempts": tried[step] + before.get(step, 0)}
                for step, fields in running.items()
            ],
            stops=self._stops,
            prompts=self.start.prompts,
        )

    def _place(self, first: int, entries: list[Entry]) -> None:
        """Put entries where they belong: one that was lost before them leaves a mark."""
        known = self._entries
        known.extend([LOST_ENTRY] * (first - len(known)))
        for index, entry in enumerate(entries, first):
            if index == len(known):
                known.append(entry)
            elif known[index] is LOST_ENTRY:  # and never twice
                known[index] = entry

    def _close_open(self, status: StepStatus, at: int, error: dict[str, Any] | None) -> None:
        """End steps and attempts whose own end is not known."""
        for fields in (*self._steps.values(), *self._attempts.values()):
            if fields["status"] is StepStatus.RUNNING:
                fields["status"] = status
                fields["error"] = error
                fields["duration_us"] = max(0, at - fields["started_at"])
                fields["end_seq"] = self.seq
                self.seq += 1

    def _step_started(self, change: StepStarted) -> None:
        self._steps[change.step] = {
            "step": change.step,
            "parent": change.parent,
            "seq": self.seq,
            "end_seq": None,
            "kind": change.kind,
            "operation": change.operation,
            "operation_version": change.version,
            "status": StepStatus.RUNNING,
            "skip_reason": None,
            "input": change.input,
            "output": None,
            "error": None,
            "error_phase": None,
            "started_at": change.at,
            "duration_us": None,
            "suspicious": None,
        }

    def _step_finished(self, change: StepFinished) -> None:
        fields = self._steps[change.step]
        fields["end_seq"] = self.seq
        fields["status"] = StepStatus(change.status)
        fields["skip_reason"] = change.skip_reason
        fields["output"] = change.output
        fields["error"] = change.error
        fields["error_phase"] = change.error_phase
        fields["duration_us"] = change.duration_us
        self.streamed.pop(change.step, None)
        if change.error is not None and change.error.get("code") == ContentRefused.code:
            self._mark(change.step, [str(change.error["message"])])

    def _mark(self, step: int, reasons: list[str]) -> None:
        """Tell why a step looks suspicious."""
        if reasons:
            fields = self._steps[step]
            fields["suspicious"] = sorted({*(fields["suspicious"] or []), *reasons})

    def _attempt_started(self, change: AttemptStarted) -> None:
        self.streamed.pop(change.step, None)  # a new try starts its text anew
        self._mark(change.step, self._suspicious(change.user))
        # A try of a node that asks nobody has nothing to bill, even if it never ends.
        asks = change.provider is not None or change.messages is not None
        self._asked[change.step, change.n] = change.model
        prompt = change.prompt or {}
        self._attempts[change.step, change.n] = {
            "step": change.step,
            "n": change.n,
            "call": change.call,
            "seq": self.seq,
            "end_seq": None,
            "status": StepStatus.RUNNING,
            "provider": change.provider,
            "model": change.model,
            "parameters": change.parameters,
            "prompt_system": change.system,
            "prompt_name": prompt.get("name") or None,
            "prompt_label": prompt.get("label"),
            "prompt_version": prompt.get("hash"),
            "prompt_user": change.user,
            "messages": change.messages,
            "raw_response": None,
            "started_at": change.at,
            "duration_us": None,
            "first_token_us": None,
            "request_id": None,
            "finish_reason": None,
            "http_status": None,
            "validation": None,
            "validation_us": None,
            "validation_errors": None,
            "tokens_input": None,
            "tokens_cached": None,
            "tokens_cache_write": None,
            "tokens_output": None,
            "tokens_reasoning": None,
            "usage": "unknown" if asks else NO_USAGE,
            "cost_pico": None if asks else 0,
            "price_source": None,
            "credits": 0,
            "error": None,
            "error_class": None,
            "alias": change.alias,
        }

    def _attempt_finished(self, change: AttemptFinished) -> None:
        fields = self._attempts[change.step, change.n]
        fields["end_seq"] = self.seq
        fields["status"] = StepStatus(change.status)
        fields["raw_response"] = change.answer
        if self._assessor.suspicious_answer is not None and change.answer is not None:
            said = _said(Payload(self._entries).get(change.answer))
            self._mark(change.step, self._assessor.suspicious_answer(said))
        fields["model"] = change.model or fields["model"]
        for name in _ATTEMPT_FACTS:
            fields[name] = getattr(change, name)
        asked = self._asked.get((change.step, change.n))
        if asked is not None and asked != fields["model"]:
            # The answer names it more exactly; what was asked for is what another run asks for.
            fields["parameters"] = {**fields["parameters"], "model": asked}
        if change.usage in (NO_USAGE, REPLAYED, CACHED):
            fields["cost_pico"] = 0
            return
        if change.http_status is not None and change.http_status >= 400:
            # The provider refused the call: it has nothing to bill.
            fields["usage"], fields["cost_pico"] = "unbilled", 0
            return
        usage = Usage(
            tokens_input=change.tokens_input,
            tokens_cached=change.tokens_cached,
            tokens_cache_write=change.tokens_cache_write,
            tokens_cache_write_1h=change.tokens_cache_write_1h,
            tokens_output=change.tokens_output,
            tokens_reasoning=change.tokens_reasoning,
            tokens_input_audio=change.tokens_input_audio,
            tokens_output_audio=change.tokens_output_audio,
            tokens_input_image=change.tokens_input_image,
            tokens_output_image=change.tokens_output_image,
            usage=change.usage,
        )
        price = self._assessor.price(
            fields["provider"] or "",
            fields["model"] or "",
            usage,
            change.at,
            alias=fields["alias"],
        )
        fields["cost_pico"], fields["price_source"] = price.cost_pico, price.source
        fields["price_date"], fields["saved_pico"] = price.date, price.saved_pico
        if change.status == StepStatus.SUCCEEDED:
            fields["credits"] = self._tariff(change.step, change.n)
        if usage.tokens_cached or usage.tokens_cache_write:
            self._savings.append(self._saving(change.step, fields, usage, change.at))

    def _saving(self, step: int, fields: Mapping[str, Any], usage: Usage, at: int) -> Saving:
        """What a call saved by what its provider had kept, and what it paid to have it kept."""
        provider, model = fields["provider"] or "", fields["model"] or ""
        kept = replace(usage, tokens_cache_write=0, tokens_cache_write_1h=0)
        costs = [
            self._assessor.price(provider, model, one, at, alias=fields["alias"]).cost_pico
            for one in (usage, kept, replace(kept, tokens_cached=0))
        ]
        unpriced = None in costs
        whole, kept_only, plain = (cost or 0 for cost in costs)
        target = self.start.claimed.target
        return Saving(
            day=day_of(at),
            owner_id=self.owner_id,
            prompt=fields["prompt_name"] or f"{target}:{self._steps[step]['operation']}",
            pipeline=target,
            provider=provider,
            model=model,
            hits=int(bool(usage.tokens_cached)),
            writes=int(bool(usage.tokens_cache_write)),
            tokens_read=usage.tokens_cached or 0,
            tokens_written=usage.tokens_cache_write or 0,
            saved_pico=0 if unpriced else plain - kept_only,
            write_pico=0 if unpriced else whole - kept_only,
            unpriced=int(unpriced),
        )

    def _attempt_validated(self, change: AttemptValidated) -> None:
        fields = self._attempts[change.step, change.n]
        fields["validation"] = change.outcome
        fields["validation_us"] = change.duration_us
        fields["validation_errors"] = change.errors or None
        fields["credits"] = 0
        if fields["usage"] != REPLAYED and change.outcome != "invalid":
            fields["credits"] = change.credits or self._tariff(change.step, change.n)

    def _tariff(self, step: int, n: int) -> int:
        """Credits of an accepted answer for which its node names none."""
        name, operation = self.start.claimed.target, self._steps[step]["operation"]
        return self._assessor.tariff.credits(name, operation, self._attempts[step, n]["alias"])

    def _suspicious(self, index: int | None) -> list[str]:
        if index is None or self._assessor.suspicious is None:
            return []
        if index not in self._checked:
            text = Payload(self._entries).get(index)
            self._checked[index] = self._assessor.suspicious(text) if isinstance(text, str) else []
        return self._checked[index]

    def _flags(self) -> dict[str, Any]:
        flags: dict[str, Any] = dict(self.halt.flags) if self.halt else {}
        if self.halt is not None and self.halt.code_version != self.start.code_version:
            changed = [self.halt.code_version, self.start.code_version]
            flags["code_changed"] = [*flags.get("code_changed", []), changed]
        reasons = {r for fields in self._steps.values() for r in fields["suspicious"] or ()}
        reasons |= set(flags.get("suspicious", ()))
        if reasons:
            flags["suspicious"] = sorted(reasons)
        if self.finished is not None and self.finished.faults:
            flags["recording_faults"] = self.finished.faults
        if self.finished is not None and self.finished.redacted:
            before: dict[str, int] = flags.get("redacted", {})
            flags["redacted"] = dict(Counter(before) + Counter(self.finished.redacted))
        if self.finished is not None and self.finished.postponed:
            flags["postponed"] = self.finished.postponed["breaker"]
        if any(fields["usage"] == "estimated" for fields in self._attempts.values()):
            flags["tokens_estimated"] = True
        tried = (*self._steps.values(), *self._attempts.values())
        if any(fields["status"] is StepStatus.ABANDONED for fields in tried):
            flags["abandoned"] = True
        return flags


def _said(answer: Any) -> str:
    """The texts of an answer and of the calls of tools in it, one below the other."""
    if not isinstance(answer, Mapping):
        return answer if isinstance(answer, str) else ""
    fields = cast("Mapping[str, Any]", answer)
    texts: list[str] = []
    left: list[Any] = [fields.get("tool_calls"), fields.get("content")]
    while left:
        one = left.pop()
        if isinstance(one, str):
            texts.append(one)
        elif isinstance(one, Mapping):
            left += cast("Mapping[str, Any]", one).values()
        elif isinstance(one, list):
            left += cast("list[Any]", one)
    return "\n".join(texts)


def _reopened(fields: Mapping[str, Any]) -> dict[str, Any]:
    """A step that had not ended when its execution halted."""
    step = {name: value for name, value in fields.items() if name != "attempts"}
    return {**step, "status": StepStatus(step["status"])}


_END_LOST = {"code": "end_not_recorded", "message": "how this ended did not reach the record"}

_ATTEMPT_FACTS = (
    "duration_us",
    "first_token_us",
    "request_id",
    "finish_reason",
    "http_status",
    "tokens_input",
    "tokens_cached",
    "tokens_cache_write",
    "tokens_output",
    "tokens_reasoning",
    "tokens_input_audio",
    "tokens_output_audio",
    "tokens_input_image",
    "tokens_output_image",
    "usage",
    "error",
    "error_class",
)


def totals_of(attempts: tuple[Attempt, ...]) -> Totals:
    """Sums over attempts; unknown parts are counted, never taken for zero."""
    attempts = tuple(one for one in attempts if one.usage != REPLAYED)  # nobody was asked
    ended = [one for one in attempts if one.status is not StepStatus.RUNNING]
    return Totals(
        tokens_input=sum(one.tokens_input or 0 for one in attempts),
        tokens_output=sum(one.tokens_output or 0 for one in attempts),
        tokens_cached=sum(one.tokens_cached or 0 for one in attempts),
        tokens_reasoning=sum(one.tokens_reasoning or 0 for one in attempts),
        cost_pico=sum(one.cost_pico or 0 for one in attempts),
        credits=sum(one.credits for one in attempts),
        usage_unknown=sum(one.usage == "unknown" for one in ended),
        cost_unknown=sum(one.cost_pico is None for one in ended),
    )


def _trace_id(traceparent: str | None) -> str | None:
    return traceparent.split("-")[1] if traceparent else None
