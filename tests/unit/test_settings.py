"""Settings are read once, checked, and documented."""

from __future__ import annotations

import re
from importlib import import_module
from pathlib import Path

import pytest

from holdfast.errors import SettingsError
from holdfast.settings import PREFIX, Settings, load

ROOT = Path(__file__).parents[2]
NAMES = {PREFIX + name.upper() for name in Settings.model_fields if name != "environment"}


def test_defaults_need_nothing() -> None:
    settings = load(environ={})
    assert settings.url == "http://127.0.0.1:8001"
    assert settings.store_url == f"sqlite:///{Path.cwd()}/.holdfast/holdfast.db"
    assert {config.provider for config in settings.model_configs().values()} == {"scripted"}


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("HOLDFAST_PORT", "eighty", "HOLDFAST_PORT: Input should be a valid integer"),
        ("HOLDFAST_PORT", "70000", "HOLDFAST_PORT"),
        ("HOLDFAST_HOST", "example.org", "HOLDFAST_HOST: must be an IP address or localhost"),
        ("HOLDFAST_RUNNERS", "0", "HOLDFAST_RUNNERS"),
        ("HOLDFAST_MODELS", "{fast", "HOLDFAST_MODELS: not JSON"),
        ("HOLDFAST_LOG_LEVEL", "loud", "HOLDFAST_LOG_LEVEL"),
        ("MANAGER_PORT", "x", "HOLDFAST_PORT"),
    ],
)
def test_a_wrong_value_is_refused_with_its_name(name: str, value: str, said: str) -> None:
    with pytest.raises(SettingsError, match=re.escape(said)):
        load(environ={name: value})


def test_an_unknown_variable_is_refused_with_the_nearest_name() -> None:
    with pytest.raises(SettingsError, match="HOLDFAST_DATABSE_URL.*HOLDFAST_DATABASE_URL"):
        load(environ={"HOLDFAST_DATABSE_URL": "postgresql://x/y"})
    load(environ={"HOLDFAST_TEST_POSTGRES_URL": "belongs to the tests"})


def test_the_prefixed_name_wins_over_the_plain_one() -> None:
    environ = {"MANAGER_PORT": "9000", "HOLDFAST_PORT": "9001", "DATABASE_URL": "postgresql://a/b"}
    settings = load(environ=environ)
    assert (settings.port, settings.store_url) == (9001, "postgresql://a/b")


def test_secrets_are_not_shown() -> None:
    settings = load(
        environ={"DATABASE_URL": "postgresql://u:hunter2@h/n", "OPENAI_API_KEY": "sk-x"}
    )
    assert "hunter2" not in repr(settings)
    assert "sk-x" not in repr(settings)
    assert "sk-x" not in repr(settings.model_configs())


def test_an_api_key_is_neither_shown_nor_inherited() -> None:
    settings = load(environ={"HOLDFAST_KEY": "hf_secret"})
    assert settings.key == "hf_secret"
    assert "hf_secret" not in repr(settings)
    assert "hf_secret" not in settings.runner_environment().values()


@pytest.mark.parametrize(
    ("environ", "exposed"),
    [
        ({}, False),
        ({"HOLDFAST_HOST": "localhost"}, False),
        ({"HOLDFAST_HOST": "127.0.0.9"}, False),
        ({"HOLDFAST_HOST": "::1"}, False),
        ({"HOLDFAST_HOST": "0.0.0.0"}, True),
        ({"HOLDFAST_HOST": "::"}, True),
        ({"HOLDFAST_HOST": "10.0.0.1"}, True),
        ({"HOLDFAST_ALLOWED_HOSTS": "hub.example.org"}, True),
    ],
)
def test_what_other_machines_can_reach_is_exposed(environ: dict[str, str], exposed: bool) -> None:
    assert load(environ=environ).exposed is exposed


def test_a_hub_that_listens_everywhere_is_reached_over_loopback() -> None:
    assert load(environ={"HOLDFAST_HOST": "0.0.0.0"}).url == "http://127.0.0.1:8001"
    assert load(environ={"HOLDFAST_HOST": "::"}).url == "http://[::1]:8001"


def test_a_runner_inherits_no_setting_and_no_key_that_no_alias_uses() -> None:
    environ = {
        "PATH": "/bin",
        "HOLDFAST_HOME": "/x",
        "DATABASE_URL": "postgresql://a/b",
        "OPENAI_API_KEY": "sk-used",
        "MY_OWN": "1",
    }
    used = load(environ=environ).runner_environment()
    assert used == {"PATH": "/bin", "MY_OWN": "1", "OPENAI_API_KEY": "sk-used"}
    scripted = '{"fast": "scripted", "standard": "scripted", "expert": "scripted"}'
    unused = load(environ={**environ, "HOLDFAST_MODELS": scripted}).runner_environment()
    assert unused == {"PATH": "/bin", "MY_OWN": "1"}
    passed = load(environ={**environ, "HOLDFAST_RUNNER_ENV": "DATABASE_URL, HOLDFAST_HOME"})
    assert {"DATABASE_URL", "HOLDFAST_HOME"} <= passed.runner_environment().keys()


def test_a_zygote_imports_what_the_runners_of_this_hub_need() -> None:
    assert load(environ={}).preload() == ("holdfast.llm.scripted", "holdfast.agents.build")
    environ = {"OPENAI_API_KEY": "sk-x", "DATABASE_URL": "postgresql://a/b"}
    made = load(environ={**environ, "HOLDFAST_ROLES": "api,worker"})
    assert made.preload() == ("holdfast.llm.openai",)
    for module in (*load(environ={}).preload(), *made.preload()):
        import_module(module)


@pytest.mark.parametrize("page", ["docs/settings.md", ".env.example"])
def test_every_setting_is_documented_and_no_other(page: str) -> None:
    text = (ROOT / page).read_text()
    named = set(re.findall(r"HOLDFAST_[A-Z_]*[A-Z]", text))
    assert named >= NAMES
    assert {name for name in named if not name.startswith("HOLDFAST_TEST_")} == NAMES


def test_documented_defaults_are_the_real_ones() -> None:
    text = (ROOT / "docs/settings.md").read_text()
    for name in ("port", "runners", "runner_slots", "deadline", "stop_grace", "log_level", "host"):
        default = Settings.model_fields[name].default
        shown = f"{default:g}" if isinstance(default, float) else str(default)
        assert re.search(rf"`{PREFIX}{name.upper()}`[^|]*\| `{re.escape(shown)}` \|", text), name


def test_no_vendors_key_reaches_a_runner_unless_an_alias_uses_it():
    keys = ("ANTHROPIC_API_KEY", "GEMINI_API_KEY", "GOOGLE_API_KEY", "OLLAMA_API_KEY")
    environ = {name: f"secret of {name}" for name in (*keys, "ANTHROPIC_AUTH_TOKEN")}
    assert load(environ=environ).runner_environment() == {}
    used = load(environ={**environ, "HOLDFAST_MODELS": '{"own": "google:gemini-3.8-flash"}'})
    assert used.runner_environment() == {"GOOGLE_API_KEY": "secret of GOOGLE_API_KEY"}


ALIASES = """\
fast: openai:gpt-4.1-mini
steady:
  model: openai:gpt-4.1
  retries: 2
  fallbacks: [fast]
  limits: {in_flight: 4}
"""


def test_aliases_may_stand_in_a_file_and_the_variable_wins(tmp_path: Path) -> None:
    file = tmp_path / "models.yaml"
    file.write_text(ALIASES)
    environ = {"HOLDFAST_MODELS_FILE": str(file), "OPENAI_API_KEY": "k"}
    steady = load(environ=environ).model_configs()["steady"]
    assert (steady.retries, steady.fallbacks, steady.limits) == (2, ("fast",), {"in_flight": 4})
    environ["HOLDFAST_MODELS"] = '{"fast": "openai:other"}'
    both = load(environ=environ).model_configs()
    assert (both["fast"].model, both["steady"].model) == ("other", "gpt-4.1")


@pytest.mark.parametrize(
    ("old", "new", "told"),
    [
        ("retries: 2", "retrys: 2", ":4: alias 'steady', retrys: unknown field"),
        ("in_flight: 4", "in_fligth: 4", ":6: alias 'steady', limits, in_fligth: unknown field"),
        ("[fast]", "[slow]", ":5: alias 'steady', fallbacks: there is no alias 'slow'"),
        ("[fast]", "[steady]", ":5: alias 'steady', fallbacks: they lead back"),
        ("gpt-4.1\n", "gpt-4.1\n  retries: 2\n", "the key"),
        ("fast: openai:", "fast: opnai:", ":1: alias 'fast': unknown provider"),
        (ALIASES, "- a list", ":1: expected aliases"),
        (ALIASES, "a: [", "no YAML"),
    ],
)
def test_what_is_wrong_in_the_file_is_told_with_its_line(
    tmp_path: Path, old: str, new: str, told: str
) -> None:
    file = tmp_path / "models.yaml"
    assert old in ALIASES
    file.write_text(ALIASES.replace(old, new))
    settings = load(environ={"HOLDFAST_MODELS_FILE": str(file), "OPENAI_API_KEY": "k"})
    with pytest.raises(SettingsError) as caught:
        settings.model_configs()
    assert str(file) in str(caught.value)
    assert told in str(caught.value)


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    settings = load(environ={"HOLDFAST_MODELS_FILE": str(tmp_path / "none.yaml")})
    with pytest.raises(SettingsError, match=r"none\.yaml cannot be read"):
        settings.model_configs()
