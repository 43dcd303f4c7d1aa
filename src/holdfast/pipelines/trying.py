"""How a node is run under its policy: tried, timed, kept, and replaced when it fails for good."""

from __future__ import annotations

import asyncio
from itertools import count
from typing import TYPE_CHECKING, Any

from langchain_core.runnables import RunnableConfig
from langgraph.errors import GraphBubbleUp

from holdfast.domain.status import StepStatus
from holdfast.errors import BudgetExceeded, ReplayMismatch, StepTimeout
from holdfast.llm.calls import cut_off_calls
from holdfast.recording import StepHandle, step_of

from .caching import Kept, kept_result
from .context import current_run, left_in_thread, no_thread_yet, waits
from .passing import passed_over
from .policy import CONTINUE
from .state import Failure, State, having

if TYPE_CHECKING:
    from .nodes import Node


class Skip(Exception):
    """Raised in a node to say that there is nothing to do; its step is recorded as skipped.

    The node's result is then None.
    """

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


async def carry_out(node: Node[Any], state: State, config: RunnableConfig) -> dict[str, Any]:
    """Run a node as its policy says.

    Returns:
        What it leaves behind, by node name: its result, None when it was skipped, or a `Failure`
        when it failed and the run may go on.

    Raises:
        StepTimeout: its time was over, and the policy is to abort.
        Exception: what the node, or what stood in for it, raised.
    """
    step = step_of(config)
    if (left := passed_over(node, state, step)) is not None:
        return left
    try:
        if node.policy.plain:
            return await node.leave(state, config)
        return await _under_policy(node, state, config, step)
    except Skip as skip:
        step.skip(skip.reason)
        return {node.name: None}
    except (GraphBubbleUp, BudgetExceeded, ReplayMismatch):
        # An interrupt is no failure; no policy mends a spent budget or a record without an answer.
        raise
    except Exception as error:
        failure = Failure.of(node.name, error)
        if node.policy.on_failure == CONTINUE:
            step.fail(error)
            return {node.name: failure}
        if node.stand_in is None:
            raise
        step.fail(error, stand_in=node.stand_in.name)
        left = await node.stand_in.alone(having(state, {node.name: failure}), config)
        outcome = left[node.stand_in.name]
        return {**left, node.name: failure if isinstance(outcome, Failure) else outcome}


async def _under_policy(
    node: Node[Any], state: State, config: RunnableConfig, step: StepHandle
) -> dict[str, Any]:
    # A replay asks no cache: what it had then is on record.
    if node.policy.cache is None or current_run().plan is not None:
        return await _in_time(node, state, config, step)
    kept: Kept = await kept_result(node, state)
    if kept.execution_id is not None:
        step.skip(f"cached from execution {kept.execution_id}")
        return {node.name: kept.result}
    left = await _in_time(node, state, config, step)
    await kept.keep(left[node.name])
    return left


async def _in_time(
    node: Node[Any], state: State, config: RunnableConfig, step: StepHandle
) -> dict[str, Any]:
    total = node.policy.total_timeout
    limit = asyncio.timeout(total)
    try:
        async with limit:
            return await _tries(node, state, config, step, limit)
    except TimeoutError as error:
        if total is None or not limit.expired() or isinstance(error, StepTimeout):
            raise
        raise _timeout(node, total, "all its tries") from error


async def _tries(
    node: Node[Any],
    state: State,
    config: RunnableConfig,
    step: StepHandle,
    limit: asyncio.Timeout,
) -> dict[str, Any]:
    policy, (sleep, chance) = node.policy, waits()
    for retry in count(1):
        try:
            async with node.slot():  # a try's time begins when it has one
                return await _one_try(node, state, config, step, limit)
        except (Skip, GraphBubbleUp, BudgetExceeded):
            raise
        except Exception as error:
            if left_in_thread():  # never two of it at once
                raise
            pause = policy.pause_before(retry, error, chance())
            ends = limit.when()
            if pause is None or (
                ends is not None and pause >= ends - asyncio.get_running_loop().time()
            ):
                raise
        await sleep(pause)
    raise AssertionError  # count() has no end


async def _one_try(
    node: Node[Any],
    state: State,
    config: RunnableConfig,
    step: StepHandle,
    limit: asyncio.Timeout,
) -> dict[str, Any]:
    policy = node.policy
    if policy.records_tries:
        step.start_try()
    no_thread_yet()
    own = asyncio.timeout(policy.timeout)
    try:
        with cut_off_calls() as cut:
            async with own:
                try:
                    left = await node.leave(state, config)
                finally:
                    cut.timed_out = own.expired() or limit.expired()
    except Skip:
        step.finish_try(StepStatus.SKIPPED)
        raise
    except GraphBubbleUp:
        raise
    except asyncio.CancelledError:
        if limit.expired():
            late = _timeout(node, policy.total_timeout or 0, "all its tries")
            step.finish_try(_given_up(), late)
        raise
    except Exception as error:
        if own.expired() and policy.timeout is not None and not isinstance(error, StepTimeout):
            late = _timeout(node, policy.timeout, "one try")
            step.finish_try(_given_up(), late)
            raise late from error
        step.finish_try(StepStatus.FAILED, error)
        raise
    step.finish_try(StepStatus.SUCCEEDED)
    return left


def _given_up() -> StepStatus:
    return StepStatus.ABANDONED if left_in_thread() else StepStatus.FAILED


def _timeout(node: Node[Any], seconds: float, of: str) -> StepTimeout:
    running_on = left_in_thread()
    return StepTimeout(
        f'pipeline {node.pipeline}: node "{node.name}" did not finish within {seconds:g} s, '
        f"its time for {of}"
        + ("; its code still runs in a thread, its result is discarded" if running_on else ""),
        hint="make it async, so that it can be stopped" if running_on else "",
    )
