"""What an answer used and says about itself, read from LangChain's messages.

Nothing here invents a number: a provider that reported nothing leaves `unknown`, never 0.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

if TYPE_CHECKING:
    from langchain_core.messages import BaseMessage
    from langchain_core.outputs import LLMResult

_TIERS = ("", "flex_", "priority_")  # OpenAI's integration names details by service tier


@dataclass(frozen=True, slots=True, kw_only=True)
class Usage:
    """Tokens by class; None means nobody said."""

    tokens_input: int | None = None  # all input, cached included
    tokens_cached: int | None = None  # of the input: read from a cache
    tokens_cache_write: int | None = None  # of the input: written to a cache
    tokens_cache_write_1h: int | None = None  # of those: to be kept for an hour, at its own price
    tokens_output: int | None = None  # all output, reasoning included
    tokens_reasoning: int | None = None  # of the output
    tokens_input_audio: int | None = None  # of the input
    tokens_output_audio: int | None = None  # of the output
    tokens_input_image: int | None = None  # of the input
    tokens_output_image: int | None = None  # of the output
    usage: str = "unknown"  # reported by the provider, estimated, or unknown


@dataclass(frozen=True, slots=True, kw_only=True)
class AnswerFacts:
    """What an answer says about the call that made it."""

    request_id: str | None = None  # the provider's, for its support
    finish_reason: str | None = None
    model: str | None = None  # as the provider named it
    provider: str | None = None


UNKNOWN = Usage()


def usage_of(answer: BaseMessage | LLMResult | None) -> Usage:
    """What a model call used.

    Args:
        answer: the message, or the result a callback gets; None when the call failed.
    """
    if answer is None:
        return UNKNOWN
    message = _message(answer)
    reported = _mapping(getattr(message, "usage_metadata", None))
    if reported:
        return _from_langchain(reported, _metadata(message))
    output = _mapping(getattr(answer, "llm_output", None)) or _metadata(message)
    return _from_openai(_mapping(output.get("token_usage") or output.get("usage")))


def answer_facts(answer: BaseMessage | LLMResult | None) -> AnswerFacts:
    """Request id, finish reason, model and provider of an answer, as far as it names them."""
    message = _message(answer)
    if message is None:
        return AnswerFacts()
    metadata = _metadata(message)
    headers = _mapping(metadata.get("headers"))
    return AnswerFacts(
        request_id=_text(
            headers.get("x-request-id")
            or headers.get("request-id")
            or metadata.get("request_id")
            or metadata.get("id")
            or _provider_id(message)
        ),
        finish_reason=_text(
            metadata.get("finish_reason")
            or metadata.get("stop_reason")
            or metadata.get("done_reason")
            or _mapping(metadata.get("incomplete_details")).get("reason")
            or metadata.get("status")
        ),
        model=_text(metadata.get("model_name") or metadata.get("model")),
        provider=_text(metadata.get("model_provider")),
    )


def _message(answer: BaseMessage | LLMResult | None) -> Any:
    generations = getattr(answer, "generations", None)
    if generations is None:
        return answer
    for batch in generations:
        for generation in batch:
            return getattr(generation, "message", None)
    return None


def _from_langchain(reported: Mapping[str, Any], metadata: Mapping[str, Any]) -> Usage:
    tokens_input = _count(reported.get("input_tokens"))
    tokens_output = _count(reported.get("output_tokens"))
    inside = _mapping(reported.get("input_token_details"))
    outside = _mapping(reported.get("output_token_details"))
    written, for_an_hour = _written(inside)
    return _checked(
        tokens_input,
        _first(inside, "cache_read"),
        written,
        tokens_output,
        _first(outside, "reasoning"),
        "estimated" if metadata.get("usage") == "estimated" else "reported",
        for_an_hour=for_an_hour,
        modal=_modal(inside, outside),
    )


def _modal(inside: Mapping[str, Any], outside: Mapping[str, Any]) -> dict[str, int | None]:
    """Tokens that stand for sound or pictures, as far as they are told apart."""
    return {
        "tokens_input_audio": _first(inside, "audio"),
        "tokens_output_audio": _first(outside, "audio"),
        "tokens_input_image": _first(inside, "image"),
        "tokens_output_image": _first(outside, "image"),
    }


def _written(inside: Mapping[str, Any]) -> tuple[int | None, int | None]:
    """Tokens written to a cache, and those of them for an hour.

    Anthropic's integration names them by lifetime, and then leaves their sum at 0.
    """
    written = _first(inside, "cache_creation")
    short = _count(inside.get("ephemeral_5m_input_tokens"))
    long = _count(inside.get("ephemeral_1h_input_tokens"))
    if short is not None or long is not None:
        written = max(written or 0, (short or 0) + (long or 0))
    return written, long


def _from_openai(reported: Mapping[str, Any]) -> Usage:
    """Usage as integrations leave it that know only OpenAI's older names."""
    inside = _mapping(reported.get("prompt_tokens_details"))
    outside = _mapping(reported.get("completion_tokens_details"))
    return _checked(
        _count(reported.get("prompt_tokens")),
        _count(inside.get("cached_tokens")),
        None,
        _count(reported.get("completion_tokens")),
        _count(outside.get("reasoning_tokens")),
        "reported",
        modal={
            "tokens_input_audio": _count(inside.get("audio_tokens")),
            "tokens_output_audio": _count(outside.get("audio_tokens")),
        },
    )


def _checked(
    tokens_input: int | None,
    cached: int | None,
    written: int | None,
    tokens_output: int | None,
    reasoning: int | None,
    usage: str,
    *,
    for_an_hour: int | None = None,
    modal: Mapping[str, int | None],
) -> Usage:
    parts = (cached or 0) + (written or 0)
    # LangChain fills a missing count with 0, but no call has an empty prompt.
    if tokens_input == 0 and parts == 0:
        tokens_input = None
    # More cached than there was input: this provider counts the cached ones apart.
    elif tokens_input is not None and parts > tokens_input:
        tokens_input += parts
    if tokens_output is not None and reasoning is not None and reasoning > tokens_output:
        tokens_output += reasoning
    if tokens_input is None or tokens_output is None:
        usage = "unknown"
    return Usage(
        tokens_input=tokens_input,
        tokens_cached=cached,
        tokens_cache_write=written,
        tokens_cache_write_1h=for_an_hour,
        # A 0 beside a missing input is as made up as the input was.
        tokens_output=None if tokens_input is None and tokens_output == 0 else tokens_output,
        tokens_reasoning=reasoning,
        usage=usage,
        **modal,
    )


def _first(details: Mapping[str, Any], name: str) -> int | None:
    if not details:
        return None
    for tier in _TIERS:
        found = _count(details.get(tier + name))
        if found is not None:
            return found
    return None


def _count(value: Any) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def _text(value: Any) -> str | None:
    return str(value) if value else None


def _mapping(value: Any) -> Mapping[str, Any]:
    if type(value) is dict:  # what nearly all are; asking `Mapping` costs ten times as much
        return cast("Mapping[str, Any]", value)
    return cast("Mapping[str, Any]", value) if isinstance(value, Mapping) else {}


def _metadata(message: Any) -> Mapping[str, Any]:
    return _mapping(getattr(message, "response_metadata", None))


def _provider_id(message: Any) -> str | None:
    """The message's id, unless LangChain made it up from the run's."""
    found: object = getattr(message, "id", None)
    if isinstance(found, str) and not found.startswith(("run-", "lc_")):
        return found
    return None
