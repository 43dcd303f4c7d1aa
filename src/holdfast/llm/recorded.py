"""A chat model that stands where none can be made: what it is asked is answered from a record."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from langchain_core.language_models import BaseChatModel
from langchain_core.language_models.base import LangSmithParams
from langchain_core.messages import AIMessage
from langchain_core.outputs import ChatResult
from langchain_core.runnables import Runnable
from langchain_core.utils.function_calling import convert_to_openai_tool
from pydantic import Field

from holdfast.errors import ModelError, SettingsError
from holdfast.ports import ModelConfig

from .base import Provider
from .factory import ChatModel
from .registry import provider_class

SCHEMA_PARAMETERS = frozenset(
    {"response_format", "json_schema", "schema_name", "tools", "tool_choice"}
)
"""What says which answer is wanted, or which calls, by provider."""


def recorded_chat(
    alias: str, provider: str | None, model: str | None, parameters: Mapping[str, Any]
) -> ChatModel:
    """A chat model that tells of itself what was recorded, and can answer nothing by itself.

    Args:
        alias: by which it is asked for.
        provider: that was asked when the execution was recorded.
        model: of that provider.
        parameters: of the recorded call; those that name the wanted answer are the caller's.
    """
    kept = {name: value for name, value in parameters.items() if name not in SCHEMA_PARAMETERS}
    return ChatModel(
        alias=alias,
        provider=provider or "unknown",
        model_name=model or "unknown",
        parameters=kept,
        model=RecordedChat(provider=provider or "", model_name=model or "", parameters=kept),
        _provider=_provider(provider),
    )


class RecordedChat(BaseChatModel):
    """Looks like the model that was recorded; its answers are supplied from outside."""

    provider: str
    model_name: str
    parameters: dict[str, Any] = Field(default_factory=dict)

    @property
    def _llm_type(self) -> str:
        return "recorded"

    def _get_invocation_params(
        self, stop: list[str] | None = None, **kwargs: Any
    ) -> dict[str, Any]:
        return {**self.parameters, **kwargs} | ({"stop": stop} if stop else {})

    def _get_ls_params(self, stop: list[str] | None = None, **kwargs: Any) -> LangSmithParams:
        del stop, kwargs
        return LangSmithParams(
            ls_provider=self.provider, ls_model_name=self.model_name, ls_model_type="chat"
        )

    def bind_tools(self, tools: Sequence[Any], **kwargs: Any) -> Runnable[Any, AIMessage]:
        """See `BaseChatModel`."""
        return self.bind(tools=[convert_to_openai_tool(tool) for tool in tools], **kwargs)

    def _generate(self, *args: Any, **kwargs: Any) -> ChatResult:
        del args, kwargs
        raise ModelError(
            f"{self.model_name} was recorded and cannot be asked here", error_class="permanent"
        )


class _Unknown(Provider):
    """Stands for a provider that this installation does not have."""

    name: ClassVar[str] = "unknown"

    def make(self, config: ModelConfig, script: Any) -> BaseChatModel:
        """See `Provider.make`."""
        del script
        raise ModelError(f"alias {config.alias} cannot be asked here", error_class="permanent")

    def structured(self, name: str, schema: Mapping[str, Any]) -> dict[str, Any]:
        """See `Provider.structured`."""
        return {"schema_name": name, "json_schema": dict(schema)}


def _provider(name: str | None) -> Provider:
    try:
        return provider_class(name or "")()
    except SettingsError:  # its package is not installed, or it was no provider of ours
        return _Unknown()
