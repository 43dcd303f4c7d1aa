"""The error tree: every failure a caller can meet has a stable code, a message and what to do next.

HoldfastError
├── InvalidInput            invalid_input         the caller sent something we refuse
│   ├── UnknownPipeline     unknown_pipeline      no loaded app declares that name
│   ├── IdempotencyConflict idempotency_conflict  the key was used with another body
│   ├── MalformedBody       malformed_body        a request's body cannot be read as JSON
│   ├── BodyTooLarge        body_too_large        a request's body is over the limit
│   └── UnsupportedMedia    unsupported_media     a request's body is of a type we do not read
├── NotFound                not_found             no such thing, or not yours
├── IllegalMove             illegal_move          the status does not allow the verb
│   ├── AlreadyAnswered     already_answered      somebody else's answer was taken first
│   ├── VersionGone         version_gone          it began under a version that is not loaded
│   ├── NotReplayable       not_replayable        there is nothing here that could run it again
│   ├── NobodyWaits         nobody_waits          an event that only answers waits found none
│   ├── NameTaken           name_taken            another one of the owner's has that name
│   ├── VersionMoved        version_moved         it was changed by somebody else meanwhile
│   └── SingletonBusy       singleton_busy        its pipeline runs one such event at a time
├── DeclarationError        bad_declaration       a pipeline is wired wrongly; names the node
│   ├── CardError           bad_card              a card cannot be read; names line and column
│   └── PromptFileError     bad_prompt_file       a prompt's file cannot be used; names the line
├── ExpressionError         bad_expression        a card's expression cannot be worked out
│   └── MissingValue        missing_value         a card's reference leads nowhere; names it
├── BudgetExceeded          budget_exceeded       an execution has used up what it may spend
├── AppError                app_failed            an app module could not be loaded
├── NoResult                no_result             a node's result was asked for that is not there
├── StepTimeout             step_timeout          a step did not finish in the time its policy gives
├── LoopExceeded            loop_exceeded         a loop would go round more often than its bound
├── PromptError             bad_prompt            a prompt cannot be rendered with what the run has
├── BranchesFailed          branches_failed       branches of a parallel group failed; names them
├── OutsideRun              outside_run           the current run was asked for where none is
├── SettingsError           bad_setting           a setting is wrong; names it
├── StoreError              store_failed          the database refused or is away
│   ├── StoreRefused        store_refused         this command can never be stored
│   ├── StoreLocked         store_locked          another hub holds the SQLite file
│   └── StoreOutdated       store_outdated        the schema is older or newer than the code
├── ModelError              model_failed          a model call failed; carries its class
│   └── AnswerInvalid       answer_invalid        no try produced a valid structured answer
├── ToolFailed              tool_failed           a tool did not do what it was called for
├── BreakerOpen             breaker_open          calls to something outside are not made now
├── LeaseLost               lease_lost            another execution has the event by now
├── CheckpointError         bad_checkpoint        a checkpoint cannot keep a value
├── WaitExpired             wait_expired          the time to wait is over
├── ChildFailed             child_failed          a child execution brought no result; names it
├── RunnerLost              runner_lost           the process that ran the work died
├── PortError               port_failed           the hub could not answer a running step
├── ProviderAway            provider_away         its breaker is open: it was not asked
├── ProviderFailed          provider_failed       a provider the hub asked for a caller failed
├── HubSilent               hub_silent            another hub did not answer over the bus
├── NotAuthenticated        not_authenticated     a request shows no key that is accepted
├── Forbidden               forbidden             the key lacks the scope that is needed
├── WrongHost               wrong_host            a request was addressed to another host
├── HubFault                hub_fault             the hub met a fault of its own
├── NotReady                not_ready             the hub lives but cannot work now
└── HubUnreachable          hub_unreachable       no hub answers at that address

Lower rooms know nothing of HTTP: `api` maps these classes to status codes.
"""

from __future__ import annotations

from typing import Any, ClassVar, cast


class HoldfastError(Exception):
    """Base of all errors raised on purpose.

    Attributes:
        code: stable snake_case identifier, safe to match on.
        message: what is wrong, in one sentence that names the thing.
        hint: what to do next, or an empty string.
        fields: offending fields, each `{"field", "expected", "got"}`; empty when not about input.
    """

    code: ClassVar[str] = "holdfast_error"

    def __init__(
        self, message: str, *, hint: str = "", fields: list[dict[str, Any]] | None = None
    ) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint
        self.fields = fields or []

    def __str__(self) -> str:
        return f"{self.message} ({self.hint})" if self.hint else self.message


class InvalidInput(HoldfastError):
    """The caller sent something we refuse; `fields` names each place."""

    code = "invalid_input"


class UnknownPipeline(InvalidInput):
    """No loaded app declares a pipeline of that name."""

    code = "unknown_pipeline"


class IdempotencyConflict(InvalidInput):
    """The idempotency key was used before with another body."""

    code = "idempotency_conflict"


class MalformedBody(InvalidInput):
    """The body of a request is not what its content type says."""

    code = "malformed_body"


class BodyTooLarge(InvalidInput):
    """The body of a request is larger than the hub takes."""

    code = "body_too_large"


class UnsupportedMedia(InvalidInput):
    """The body of a request is of a type the hub does not read."""

    code = "unsupported_media"


class NotFound(HoldfastError):
    """No such thing, or it belongs to somebody else; the two are not told apart."""

    code = "not_found"


class IllegalMove(HoldfastError):
    """The thing's status does not allow what was asked."""

    code = "illegal_move"


class AlreadyAnswered(IllegalMove):
    """The wait has its answer; a second one is not taken."""

    code = "already_answered"


class VersionGone(IllegalMove):
    """The execution is pinned to a version of its pipeline that is not loaded."""

    code = "version_gone"


class NotReplayable(IllegalMove):
    """The execution was run by other code than Holdfast's pipelines, so nothing can repeat it."""

    code = "not_replayable"


class NobodyWaits(IllegalMove):
    """An event of a type that runs nothing and is only waited for, while nothing waits."""

    code = "nobody_waits"


class NameTaken(IllegalMove):
    """Another thing of its kind and owner has that name."""

    code = "name_taken"


class VersionMoved(IllegalMove):
    """What was to be changed has another version by now than the caller expects."""

    code = "version_moved"


class SingletonBusy(IllegalMove):
    """Another event of the pipeline with the same singleton key has not ended."""

    code = "singleton_busy"


class DeclarationError(HoldfastError):
    """A pipeline is declared wrongly; the message names pipeline and node."""

    code = "bad_declaration"


class CardError(DeclarationError):
    """A card cannot be read or declares something wrong; `fields` names each place."""

    code = "bad_card"


class PromptFileError(DeclarationError):
    """The text of a prompt is not one; the message names file and line, or the missing prompt."""

    code = "bad_prompt_file"


class ExpressionError(HoldfastError):
    """A card's expression cannot be worked out with what the run has."""

    code = "bad_expression"


class MissingValue(ExpressionError, LookupError):
    """A card's reference leads to a value that is not there."""

    code = "missing_value"


class BudgetExceeded(HoldfastError):
    """An execution has spent what its pipeline allows it."""

    code = "budget_exceeded"


class AppError(HoldfastError):
    """An app module could not be imported or declares something unusable."""

    code = "app_failed"


class NoResult(HoldfastError, AttributeError, KeyError):
    """A node's result was asked for, but the node did not run or failed."""

    code = "no_result"


class StepTimeout(HoldfastError, TimeoutError):
    """A step, or one try of it, did not finish in the time its policy gives."""

    code = "step_timeout"


class LoopExceeded(HoldfastError):
    """A loop would have to go round more often than its bound allows."""

    code = "loop_exceeded"


class PromptError(HoldfastError):
    """A prompt cannot be rendered with what the run has so far."""

    code = "bad_prompt"


class BranchesFailed(HoldfastError):
    """Branches of a parallel group failed; the cause is a group of their own errors.

    Attributes:
        failed: names of the branches that failed.
        succeeded: names of those that did not.
    """

    code = "branches_failed"

    def __init__(self, message: str, *, failed: list[str], succeeded: list[str]) -> None:
        super().__init__(message)
        self.failed = failed
        self.succeeded = succeeded

    @property
    def errors(self) -> list[Exception]:
        """What the failed ones raised."""
        cause = cast("ExceptionGroup[Exception] | None", self.__cause__)
        return [] if cause is None else list(cause.exceptions)


class OutsideRun(HoldfastError):
    """The current run was asked for where nothing runs."""

    code = "outside_run"


class SettingsError(HoldfastError):
    """A setting has a wrong value; the message names the variable."""

    code = "bad_setting"


class StoreError(HoldfastError):
    """The database refused a statement or cannot be reached."""

    code = "store_failed"


class StoreRefused(StoreError):
    """The database took everything but this command; trying it again will not help."""

    code = "store_refused"


class StoreLocked(StoreError):
    """Another hub holds the lock of this SQLite file."""

    code = "store_locked"


class StoreOutdated(StoreError):
    """The schema does not match the code; run `holdfast db upgrade`."""

    code = "store_outdated"


class ModelError(HoldfastError):
    """A model call failed.

    Attributes:
        error_class: `temporary`, `rate_limit`, `permanent`, `budget` or `unknown`.
        http_status: the provider's status, when there was an answer.
    """

    code = "model_failed"

    def __init__(
        self,
        message: str,
        *,
        error_class: str = "unknown",
        http_status: int | None = None,
        hint: str = "",
    ) -> None:
        super().__init__(message, hint=hint)
        self.error_class = error_class
        self.http_status = http_status


class ContentRefused(ModelError):
    """A content check refused what a model was to read, or what it said; never repeats it."""

    code = "content_refused"

    def __init__(self, message: str, *, hint: str = "") -> None:
        super().__init__(message, error_class="permanent", hint=hint)


class AnswerInvalid(ModelError):
    """No try within the limit produced an answer that fits the schema."""

    code = "answer_invalid"


class ToolFailed(HoldfastError):
    """An agent's tool did not do what it was called for; the model is told why."""

    code = "tool_failed"


class BreakerOpen(HoldfastError):
    """Calls to something outside keep failing and are not made for a while.

    An execution that ends with it has not failed for good: its event runs again when the breaker
    has closed, and the delivery does not count.

    Attributes:
        breaker: its name.
        until: microseconds since the epoch at which one call may be tried; None: nobody knows.
        by_hub: a hub has told that it is open; otherwise only the pipeline says so.
    """

    code = "breaker_open"

    def __init__(
        self, message: str, *, breaker: str, until: int | None = None, by_hub: bool = False
    ) -> None:
        super().__init__(message, hint=f"see: holdfast breakers list; it waits for {breaker}")
        self.breaker = breaker
        self.until = until
        self.by_hub = by_hub


class LeaseLost(HoldfastError):
    """The lease under which something was to be written is no longer held."""

    code = "lease_lost"


class CheckpointError(HoldfastError):
    """A value is of a type that checkpoints do not keep, or was not written by this pipeline."""

    code = "bad_checkpoint"


class WaitExpired(HoldfastError):
    """The time of a wait was over before what it waited for."""

    code = "wait_expired"


class ChildFailed(HoldfastError):
    """A child execution ended without a result, or could not be started.

    Attributes:
        pipeline: that it ran.
        execution_id: its newest one; None when it never began.
        status: how its event ended: `failed`, `dead`, `cancelled`; None when there never was one.
        error: what ended it, as its record tells.
    """

    code = "child_failed"

    def __init__(
        self,
        message: str,
        *,
        pipeline: str,
        execution_id: str | None = None,
        status: str | None = None,
        error: dict[str, Any] | None = None,
        hint: str = "",
    ) -> None:
        super().__init__(message, hint=hint)
        self.pipeline = pipeline
        self.execution_id = execution_id
        self.status = status
        self.error = error or {}


class ReplayMismatch(HoldfastError):
    """A replay asks for an answer that the record does not have; nobody was asked instead."""

    code = "replay_mismatch"


class RunnerLost(HoldfastError):
    """The process that ran the work died."""

    code = "runner_lost"


class PortError(HoldfastError):
    """The hub could not answer what a running step asked, or not in time."""

    code = "port_failed"


class ProviderAway(HoldfastError):
    """A provider that a door needs kept failing: its breaker is open, and it was not asked."""

    code = "provider_away"


class ProviderFailed(HoldfastError):
    """A model's provider failed where the hub asked it for a caller.

    What the provider said is in the hub's log alone: it may repeat what nobody else is to see.
    """

    code = "provider_failed"


class HubSilent(HoldfastError):
    """Another hub was asked over the bus and gave no answer."""

    code = "hub_silent"


class NotAuthenticated(HoldfastError):
    """A request shows no API key, or one that is not accepted; why not is not told."""

    code = "not_authenticated"


class Forbidden(HoldfastError):
    """The caller is known, but may not do this; the message names what is missing."""

    code = "forbidden"


class WrongHost(HoldfastError):
    """A request was addressed to a host that the hub is not."""

    code = "wrong_host"


class HubFault(HoldfastError):
    """The hub met a fault of its own; its log has the details."""

    code = "hub_fault"


class NotReady(HoldfastError):
    """The hub lives but cannot work now; the message says why."""

    code = "not_ready"


class HubUnreachable(HoldfastError):
    """No hub answers at the address."""

    code = "hub_unreachable"
