"""What the settings may say about models, and what is refused."""

import pytest

from holdfast.errors import DeclarationError, SettingsError
from holdfast.llm.aliases import ModelChange, read_aliases, resolve_secret
from holdfast.llm.chain import in_order
from holdfast.ports import ModelConfig


def test_without_a_key_all_levels_are_scripted():
    aliases = read_aliases(None, {"OPENAI_API_KEY": ""})
    assert {(a.alias, a.provider, a.model) for a in aliases.values()} == {
        (level, "scripted", "rules") for level in ("fast", "standard", "expert")
    }


def test_with_a_key_the_levels_are_openais():
    aliases = read_aliases(None, {"OPENAI_API_KEY": "sk-1"})
    assert [a.provider for a in aliases.values()] == ["openai"] * 3
    assert len({a.model for a in aliases.values()}) == 3
    assert {a.api_key for a in aliases.values()} == {"sk-1"}
    assert {a.base_url for a in aliases.values()} == {None}
    assert all(a.parameters["max_tokens"] >= 4096 for a in aliases.values())


def test_a_compatible_server_needs_no_key():
    aliases = read_aliases(None, {"OPENAI_BASE_URL": "http://localhost:8000/v1/"})
    assert {(a.provider, a.base_url, a.api_key) for a in aliases.values()} == {
        ("openai", "http://localhost:8000/v1", None)
    }


def test_both_forms_of_an_alias():
    aliases = read_aliases(
        {
            "fast": "openai:gpt-4.1-mini",
            "local": {
                "model": "openai:qwen3:8b",
                "base_url": "http://localhost:11434/v1",
                "api_key": "env:VLLM_KEY",
                "parameters": {"temperature": 0.2, "max_tokens": 800},
            },
        },
        {"OPENAI_API_KEY": "sk-1", "VLLM_KEY": "secret"},
    )
    assert aliases["fast"].model == "gpt-4.1-mini"
    local = aliases["local"]
    assert (local.provider, local.model, local.api_key) == ("openai", "qwen3:8b", "secret")
    assert local.base_url == "http://localhost:11434/v1"
    assert local.parameters == {"temperature": 0.2, "max_tokens": 800}
    assert aliases["standard"].provider == "openai"
    assert "secret" not in repr(local)


def test_openais_key_never_goes_to_another_server():
    aliases = read_aliases(
        {"local": {"model": "openai:qwen", "base_url": "http://elsewhere.example/v1"}},
        {"OPENAI_API_KEY": "sk-1"},
    )
    assert aliases["local"].api_key is None


def test_a_secret_out_of_a_file(tmp_path):
    path = tmp_path / "key"
    path.write_text("from-file\n")
    assert resolve_secret(f"file:{path}", {}, where="x") == "from-file"


@pytest.mark.parametrize(
    ("spec", "said"),
    [
        ("openai", "no model named"),
        ("opnai:gpt", "unknown provider 'opnai'"),
        (3, "expected 'provider:model'"),
        ({}, "model is missing"),
        ({"model": 3}, "model must be text"),
        ({"model": "openai:x", "modle": 1}, "unknown field 'modle'"),
        ({"model": "openai:x", "parameters": {"temprature": 1}}, "no parameter 'temprature'"),
        ({"model": "openai:x", "parameters": {"max_tokens": 0}}, "max_tokens"),
        ({"model": "openai:x", "parameters": {"max_tokens": True}}, "max_tokens"),
        ({"model": "openai:x", "parameters": {"temperature": "hot"}}, "temperature"),
        ({"model": "openai:x", "parameters": []}, "parameters must be an object"),
        ({"model": "openai:x", "base_url": "localhost:8000"}, "http or https URL"),
        ({"model": "openai:x", "base_url": "http://me:pw@host/v1"}, "holds a password"),
        ({"model": "openai:x", "base_url": 5}, "http or https URL"),
        ({"model": "openai:x", "context_cache": {"ttl_s": 60}}, "write false, true"),
        ({"model": "anthropic:x", "context_cache": {"ttl_s": 7}}, "of (300, 3600)"),
        ({"model": "anthropic:x", "context_cache": {"ttl": 300}}, "has no context_cache"),
        ({"model": "google:x", "context_cache": True}, "from 60 to"),
        ({"model": "google:x", "context_cache": {"ttl_s": True}}, "has no context_cache"),
        ({"model": "google:x", "context_cache": {"ttl_s": 59}}, "has no context_cache"),
        ({"model": "ollama:x", "context_cache": True}, "ollama has no context_cache"),
        ({"model": "openai:x", "api_key": "env:MISSING"}, "MISSING is not set"),
        ({"model": "openai:x", "api_key": "file:/no/such/file"}, "/no/such/file cannot be read"),
        ({"model": "openai:x", "api_key": 7}, "api_key must be text"),
        ({"model": "openai:x"}, "openai needs a key"),
        ({"model": "scripted", "parameters": {"temperature": 1}}, "no parameter 'temperature'"),
    ],
)
def test_what_is_refused_names_the_alias(spec, said):
    with pytest.raises(SettingsError) as caught:
        read_aliases({"mine": spec}, {})
    assert "alias 'mine'" in str(caught.value)
    assert said in str(caught.value)


@pytest.mark.parametrize("literal", ["sk-live-abc", "env:", "plain", "http:sk-live-abc"])
def test_a_literal_key_is_refused_and_not_repeated(literal):
    with pytest.raises(SettingsError) as caught:
        read_aliases({"mine": {"model": "openai:x", "api_key": literal}}, {})
    assert "must be a reference" in str(caught.value)
    assert "sk-live" not in str(caught.value)
    assert "plain" not in str(caught.value)


def test_an_impossible_alias_name():
    with pytest.raises(SettingsError, match="not a name"):
        read_aliases({"a b": "scripted"}, {})


@pytest.mark.parametrize(
    ("provider", "key", "url"),
    [
        ("anthropic", "ANTHROPIC_API_KEY", "ANTHROPIC_BASE_URL"),
        ("google", "GOOGLE_API_KEY", "GOOGLE_GEMINI_BASE_URL"),
        ("openai", "OPENAI_API_KEY", "OPENAI_BASE_URL"),
    ],
)
def test_a_vendors_key_and_server_come_from_its_own_variables(provider, key, url):
    spec = {"own": f"{provider}:model", "other": {"model": f"{provider}:m", "base_url": "http://x"}}
    aliases = read_aliases(spec, {key: "secret", url: "http://proxy/"})
    assert (aliases["own"].api_key, aliases["own"].base_url) == ("secret", "http://proxy")
    assert (aliases["other"].api_key, aliases["other"].base_url) == (None, "http://x")
    with pytest.raises(SettingsError, match=f"{provider} needs a key"):
        read_aliases({"own": f"{provider}:model"}, {})


def test_ollama_needs_no_key():
    alias = read_aliases({"own": "ollama:qwen3:8b"}, {})["own"]
    assert (alias.provider, alias.model, alias.api_key, alias.base_url) == (
        "ollama",
        "qwen3:8b",
        None,
        None,
    )


def test_a_parameter_of_another_vendor_is_refused():
    spec = {"model": "ollama:qwen3", "parameters": {"reasoning_effort": "low"}}
    with pytest.raises(SettingsError, match="ollama has no parameter 'reasoning_effort'"):
        read_aliases({"own": spec}, {})


@pytest.mark.parametrize(
    ("model", "value", "read"),
    [
        ("anthropic:x", None, (None, None)),
        ("ollama:x", False, (False, None)),
        ("openai:x", True, (True, None)),
        ("anthropic:x", {"ttl_s": 3600}, (True, 3600)),
        ("google:x", {"ttl_s": 900}, (True, 900)),
    ],
)
def test_how_long_beginnings_of_prompts_are_kept(model, value, read):
    spec = {"model": model, "base_url": "http://127.0.0.1:9", "context_cache": value}
    made = read_aliases({"mine": spec}, {})["mine"]
    assert (made.context_cache, made.cache_ttl_s) == read


KEY = {"OPENAI_API_KEY": "sk-1"}


def test_what_is_done_around_calls():
    spec = {
        "model": "openai:x",
        "fallbacks": ["b"],
        "limits": {"requests_per_minute": 60, "tokens_per_minute": 1000, "in_flight": 4},
        "retries": 2,
        "backoff": {"first": 0.1, "most": 2},
        "time_limit_s": 30,
        "response_cache_s": 600,
    }
    alias = read_aliases({"a": spec, "b": "scripted"}, KEY)["a"]
    assert {name: getattr(alias, name) for name in spec if name != "model"} == {
        **{name: value for name, value in spec.items() if name != "model"},
        "fallbacks": ("b",),
    }


@pytest.mark.parametrize(
    ("field", "value", "said"),
    [
        ("fallbacks", ["nobody"], "no alias 'nobody'"),
        ("fallbacks", [3], "list of aliases"),
        ("limits", {"rpm": 3}, "unknown field 'rpm'"),
        ("limits", {"in_flight": 0}, "above 0"),
        ("limits", 3, "expected an object"),
        ("retries", -1, "from 0 to 10"),
        ("retries", 1.5, "from 0 to 10"),
        ("retries", True, "from 0 to 10"),
        ("backoff", {"frist": 1}, "unknown field 'frist'"),
        ("backoff", {"jitter": 2}, "at most 1"),
        ("time_limit_s", 0, "above 0"),
        ("time_limit_s", "long", "must be a number"),
        ("response_cache_s", -1, "must be a number"),
    ],
)
def test_what_cannot_be_meant_names_alias_and_field(field, value, said):
    with pytest.raises(SettingsError, match=said) as caught:
        read_aliases({"mine": {"model": "openai:x", field: value}}, KEY)
    assert f"alias 'mine', {field}" in str(caught.value)


@pytest.mark.parametrize(
    ("fallbacks", "circle"),
    [
        ({"a": ["a"]}, "a → a"),
        ({"a": ["b"], "b": ["a"]}, "a → b → a"),
        ({"a": ["b"], "b": ["c"], "c": ["d", "b"], "d": []}, "b → c → b"),
    ],
)
def test_fallbacks_that_lead_back_are_refused(fallbacks, circle):
    aliases = {name: {"model": "openai:x", "fallbacks": of} for name, of in fallbacks.items()}
    with pytest.raises(SettingsError, match=circle):
        read_aliases(aliases, KEY)


def test_two_ways_to_one_stand_in_are_no_circle():
    spec = {"a": ["b", "c"], "b": ["d"], "c": ["d"], "d": []}
    aliases = {name: {"model": "openai:x", "fallbacks": of} for name, of in spec.items()}
    configs = read_aliases(aliases, KEY)
    assert in_order("a", configs) == ["b", "d", "c"]
    assert in_order("d", configs) == []


CONFIG = ModelConfig(alias="fast", provider="openai", model="x", parameters={"temperature": 0})


def test_a_pipeline_changes_an_alias_for_itself():
    change = ModelChange.of({"retries": 3, "parameters": {"max_tokens": 9}}, "pipeline p")
    changed = change.applied(CONFIG)
    assert (changed.retries, changed.model) == (3, "x")
    assert changed.parameters == {"temperature": 0, "max_tokens": 9}
    own = change.with_parameters({"temperature": 1, "max_tokens": 8}).applied(CONFIG)
    assert own.parameters == {"temperature": 1, "max_tokens": 8}
    assert ModelChange.of("expert", "pipeline p").alias == "expert"
    assert change == ModelChange.of({"parameters": {"max_tokens": 9}, "retries": 3}, "pipeline p")


@pytest.mark.parametrize(
    "spec",
    [3, {"base_url": "http://x"}, {"api_key": "env:X"}, {"limits": {}}, {"retries": "many"},
     {"alias": 3}, {"parameters": 3}, {"parameters": {"stop": object()}}],
)  # fmt: skip
def test_where_calls_go_is_not_the_pipelines_to_say(spec):
    with pytest.raises(DeclarationError, match="pipeline p"):
        ModelChange.of(spec, "pipeline p")


def test_a_parameter_that_the_provider_does_not_have_is_refused():
    change = ModelChange.of({"parameters": {"top_k": 3}}, "pipeline p")
    with pytest.raises(SettingsError, match="pipeline p, parameters, top_k: openai has no"):
        change.applied(CONFIG)
