"""Configurations: what may be said, and what is refused, each by its place."""

from __future__ import annotations

import copy
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from holdfast.agents.build import declare
from holdfast.agents.config import AgentConfig, read_config
from holdfast.agents.secrets import names_secret, resolve_secrets
from holdfast.domain.budgets import Unit
from holdfast.errors import InvalidInput, SettingsError
from holdfast.hub.budgets import Declared
from holdfast.llm.aliases import Source, own_alias, place_of
from holdfast.pipelines.registry import Registry

from .conftest import AGENT_ID

SECRET = "sk-1234567890-very-secret"

WHOLE: dict[str, Any] = {
    "simple": {
        "settings": {
            "provider": "openai",
            "model_id": "gpt-6",
            "temperature": 0.3,
            "parameters": {"max_tokens": 500},
            "system_prompt": "You help.",
            "answer_language": "user",
            "markdown": False,
            "memory": {
                "depth": 50,
                "token_budget": 3000,
                "compaction": {"from_messages": 40, "keep": 10, "model": "fast"},
                "long_term": True,
            },
            "limits": {"turn_s": 30, "steps": 5, "tool_calls": 3, "budget_usd": "0.05"},
            "tools": [
                {"type": "function", "path": "shop.tools:order", "parallel": False},
                {"type": "web_request", "settings": {"hosts": ["example.org", "*.gov"]}},
                {"type": "ask_human"},
            ],
            "knowledge": [{"collection": "manuals", "description": "how things work"}],
            "critique": {"rounds": 2, "model": "expert"},
            "concurrency": 10,
            "idle_s": 60,
            "integrations": [{"type": "telegram", "settings": {"token": "env:BOT_TOKEN"}}],
            "secrets": {"CRM_KEY": "env:CRM_KEY", "CERT": "file:/run/secrets/cert"},
        }
    }
}


def refused(config: Any) -> dict[str, str]:
    """What is expected in place of what was given, by field."""
    with pytest.raises(InvalidInput) as caught:
        read_config(config)
    assert SECRET not in repr(caught.value)
    assert SECRET not in str(caught.value.fields)
    assert SECRET not in str(caught.value)
    return {one["field"]: one["expected"] for one in caught.value.fields}


def with_(path: str, value: Any, config: dict[str, Any] = WHOLE) -> dict[str, Any]:
    changed = copy.deepcopy(config)
    here: Any = changed
    *above, last = path.split(".")
    for part in above:
        here = here[int(part) if isinstance(here, list) else part]
    here[int(last) if isinstance(here, list) else last] = value
    return changed


def small(**settings: Any) -> dict[str, Any]:
    return {"simple": {"settings": {"model": "fast", **settings}}}


def test_all_that_may_be_said_is_taken_and_given_back_as_it_was() -> None:
    config = read_config(WHOLE)
    assert config.kind == "simple"
    assert config.plain() == WHOLE
    settings = config.simple.settings if config.simple else None
    assert settings is not None
    assert settings.alias == "agent"
    assert settings.aliases == {"fast", "expert"}
    assert settings.changes == {"max_tokens": 500, "temperature": 0.3}
    assert settings.memory.compaction.rule().keep == 10
    declared = declare(id="0190c1d2-0000-7000-8000-000000000001", name="x", version=3, config=WHOLE)
    assert (declared.deadline, declared.version, declared.kind) == (30, "3", "agent")
    assert declared.budget is not None
    assert declared.may_halt


def test_a_hub_knows_what_a_turn_may_spend_while_agents_come_and_go() -> None:
    registry = Registry([])
    declared = Declared(registry)
    assert AGENT_ID not in declared
    agents = Registry([declare(id=AGENT_ID, name="x", version=1, config=WHOLE)])
    found = Declared(agents)
    assert found.get(AGENT_ID) == {Unit.USD: 50_000_000_000}
    free = declare(id=AGENT_ID, name="x", version=2, config=small())
    assert AGENT_ID not in Declared(Registry([free]))
    assert not declared


def test_the_smallest_has_the_promised_defaults() -> None:
    settings: Any = read_config(small()).settings
    assert settings.memory.token_budget == 2000
    assert settings.memory.enabled
    compaction = settings.memory.compaction
    assert (compaction.from_messages, compaction.keep, compaction.block) == (30, 20, 10)
    limits = settings.limits
    assert (limits.turn_s, limits.steps, limits.tool_calls) == (120, 25, 20)
    assert settings.concurrency == 256
    assert read_config(small()).plain() == small(), "defaults are not written into it"


def test_a_graph_is_named_by_its_path() -> None:
    config = read_config({"graph": {"settings": {"graph": "shop.bot:graph"}}})
    assert config.kind == "graph"
    assert refused({"graph": {"settings": {"graph": "shop.bot"}}}).keys() == {
        "graph.settings.graph"
    }


@pytest.mark.parametrize(
    ("config", "field"),
    [
        ({}, "config"),
        ([], "config"),
        (None, "config"),
        ({**WHOLE, "graph": {"settings": {"graph": "a:b"}}}, "config"),
        ({"simple": {}}, "simple.settings"),
        ({"simple": {"settings": {}}}, "simple.settings"),
        (with_("simple.settings.modle", "x"), "simple.settings.modle"),
        (with_("simple.settings.model", "fast"), "simple.settings"),
        (small(provider="openai"), "simple.settings"),
        (small(prompt="help/desk", system_prompt="x"), "simple.settings"),
        (small(prompt="help desk"), "simple.settings.prompt"),
        (small(prompt="help@latest"), "simple.settings.prompt"),
        (with_("simple.settings.temperature", 2.1), "simple.settings.temperature"),
        (with_("simple.settings.temperature", "0.5"), "simple.settings.temperature"),
        (with_("simple.settings.parameters", {"temperature": 1}), "simple.settings"),
        (with_("simple.settings.limits.steps", 0), "simple.settings.limits.steps"),
        (with_("simple.settings.limits.steps", True), "simple.settings.limits.steps"),
        (with_("simple.settings.limits.turn_s", -1), "simple.settings.limits.turn_s"),
        (with_("simple.settings.limits.budget_usd", "free"), "simple.settings.limits.budget_usd"),
        (with_("simple.settings.limits.budget_usd", "0"), "simple.settings.limits.budget_usd"),
        (with_("simple.settings.limits.budget_usd", 0.05), "simple.settings.limits.budget_usd"),
        (
            with_("simple.settings.memory.compaction.keep", 40),
            "simple.settings.memory.compaction",
        ),
        (with_("simple.settings.memory.token_budget", 0), "simple.settings.memory.token_budget"),
        (with_("simple.settings.tools.0.path", "no path"), "simple.settings.tools.0.path"),
        (with_("simple.settings.tools.0", {"type": "function"}), "simple.settings.tools.0.path"),
        (with_("simple.settings.tools.0", {"type": "shell"}), "simple.settings.tools.0.type"),
        (with_("simple.settings.tools.0", {"path": "a:b"}), "simple.settings.tools.0.type"),
        (
            with_("simple.settings.tools.1.settings.host", "x"),
            "simple.settings.tools.1.settings.host",
        ),
        (
            with_("simple.settings.tools.1.settings.hosts", ["http://x"]),
            "simple.settings.tools.1.settings.hosts.0",
        ),
        (with_("simple.settings.tools.2", {"type": "web_request"}), "simple.settings"),
        (
            with_("simple.settings.knowledge.0.collection", "a b"),
            "simple.settings.knowledge.0.collection",
        ),
        (with_("simple.settings.critique.rounds", 6), "simple.settings.critique.rounds"),
        (with_("simple.settings.concurrency", 0), "simple.settings.concurrency"),
        (with_("simple.settings.answer_language", "x\ny"), "simple.settings.answer_language"),
        (with_("simple.settings.integrations.0.kind", "x"), "simple.settings.integrations.0.kind"),
        (small(system_prompt="x" * 100_001), "simple.settings.system_prompt"),
        (small(parameters={"stop": ["x" * 300_000]}), "config"),
    ],
)
def test_what_cannot_be_meant_is_refused_by_its_place(config: Any, field: str) -> None:
    assert field in refused(config)


@pytest.mark.parametrize(
    "config",
    [
        with_("simple.settings.integrations.0.settings.token", SECRET),
        with_("simple.settings.integrations.0.settings", {"deep": [{"apiKey": SECRET}]}),
        with_("simple.settings.integrations.0.settings", {"url": f"https://me:{SECRET}@h/x"}),
        with_("simple.settings.secrets.CRM_KEY", SECRET),
        with_("simple.settings.secrets", {"ordinary": SECRET}),
        with_("simple.settings.api_key", SECRET),
        with_("simple.settings.parameters", {"password": SECRET}),
        with_("simple.settings.tools.0", {"type": "function", "path": "a:b", "token": SECRET}),
        with_("simple.settings.integrations", [{"type": 1, "settings": {"token": SECRET}}]),
    ],
)
def test_a_secret_itself_is_refused_and_never_repeated(config: Any) -> None:
    assert refused(config)


@pytest.mark.parametrize(
    ("name", "reference"),
    [
        ("HOLDFAST_DATABASE_URL", "env:X"),
        ("X", "env:HOLDFAST_DATABASE_URL"),
        ("LD_PRELOAD", "file:/tmp/x"),
        ("PYTHONPATH", "env:X"),
        ("no name", "env:X"),
        ("X", "file:relative"),
        ("X", ""),
    ],
)
def test_a_process_gets_neither_the_hubs_settings_nor_other_code(name: str, reference: str) -> None:
    assert f"simple.settings.secrets.{name}" in refused(small(secrets={name: reference}))


@pytest.mark.parametrize("name", ["token", "botToken", "api_key", "apiKey", "key", "DB_PASSWORD"])
def test_names_of_secrets(name: str) -> None:
    assert names_secret(name)


@pytest.mark.parametrize("name", ["max_tokens", "monkey", "keyboard", "tokenizer", "keep"])
def test_names_that_are_none(name: str) -> None:
    assert not names_secret(name)


def test_secrets_are_resolved_by_whoever_has_the_environment(tmp_path: Any) -> None:
    file = tmp_path / "cert"
    file.write_text("pem\n")
    given_ = {"A": "env:FROM", "B": f"file:{file}"}
    assert resolve_secrets(given_, {"FROM": "x"}) == {"A": "x", "B": "pem"}
    with pytest.raises(SettingsError, match=r"secrets\.A.*FROM is not set"):
        resolve_secrets({"A": "env:FROM"}, {})


def test_a_config_shows_references_and_no_values() -> None:
    config = read_config(WHOLE)
    assert "env:BOT_TOKEN" in repr(config)
    assert "env:BOT_TOKEN" in str(config.plain())


def test_an_agents_own_model_is_made_like_an_alias() -> None:
    settings: Any = read_config(WHOLE).settings
    where = place_of(Source("agent desk"), "agent")
    made = own_alias("openai", "gpt-6", {"temperature": 0.3}, {"OPENAI_API_KEY": SECRET}, where)
    assert (made.alias, made.provider, made.model) == ("agent", "openai", "gpt-6")
    assert made.api_key == SECRET
    assert SECRET not in repr(made)
    assert settings.alias == made.alias
    with pytest.raises(SettingsError, match="unknown provider 'nobody'"):
        own_alias("nobody", "m", {}, {}, where)
    with pytest.raises(SettingsError, match="no parameter 'wings'"):
        own_alias("openai", "m", {"wings": 2}, {"OPENAI_API_KEY": "x"}, where)


# -- whatever comes --------------------------------------------------------------------------------

PLACES = [
    "simple",
    "simple.settings",
    "simple.settings.memory",
    "simple.settings.memory.compaction",
    "simple.settings.limits",
    "simple.settings.tools.0",
    "simple.settings.tools.1.settings",
    "simple.settings.tools.2",
    "simple.settings.knowledge.0",
    "simple.settings.critique",
    "simple.settings.integrations.0",
]


@given(st.sampled_from(PLACES), st.text("abcdefgh_", min_size=9, max_size=12), st.integers(0, 99))
def test_an_unknown_field_is_refused_wherever_it_stands(place: str, name: str, value: int) -> None:
    assert refused(with_(f"{place}.{name}", value)).get(f"{place}.{name}") == "no such field"


@given(
    st.sampled_from(["token", "secret", "password", "api_key", "authorization"]),
    st.text("abcXYZ123-", min_size=8).filter(lambda text: not text.startswith("env:")),
    st.lists(st.sampled_from(["a", "b"]), max_size=4),
)
def test_no_plain_secret_gets_in_however_deep(name: str, secret: str, path: list[str]) -> None:
    settings: dict[str, Any] = {name: secret}
    for part in path:
        settings = {part: [settings]}
    config = with_("simple.settings.integrations.0.settings", settings)
    with pytest.raises(InvalidInput) as caught:
        read_config(config)
    assert secret not in str(caught.value) + str(caught.value.fields)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=20),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3)
    ),
    max_leaves=8,
)


@given(st.sampled_from([*PLACES, "simple.settings.tools", "simple.settings.secrets"]), JSON)
def test_anything_is_either_taken_or_refused_with_a_place(place: str, value: Any) -> None:
    config = with_(place, value)
    try:
        read = read_config(config)
    except InvalidInput:
        fields = refused(config)
        assert fields
        assert all(fields)
    else:
        assert isinstance(read, AgentConfig)
        assert read_config(read.plain()) == read
