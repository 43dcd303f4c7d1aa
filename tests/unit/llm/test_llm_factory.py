"""Chat models by alias: shared, lazy, and clear about what is missing."""

import re
import subprocess
import sys

import pytest
from pydantic import BaseModel

from holdfast.errors import ModelError, SettingsError
from holdfast.llm import registry
from holdfast.llm.factory import Models
from holdfast.llm.registry import Entry, provider_class
from holdfast.ports import ModelConfig


class Verdict(BaseModel):
    spam: float


def configs(*made):
    return {config.alias: config for config in made}


SCRIPTED = ModelConfig(alias="fast", provider="scripted", model="rules")
OPENAI = ModelConfig(
    alias="smart",
    provider="openai",
    model="gpt-6-luna",
    api_key="sk-1",
    parameters={"temperature": 0.2},
)


async def test_built_once_per_alias_and_script():
    models = Models(configs(SCRIPTED, OPENAI))

    def one(_):
        return "1"

    def two(_):
        return "2"

    assert models.chat("fast", script=one) is models.chat("fast", script=one)
    assert models.chat("fast", script=one).model is not models.chat("fast", script=two).model
    # A real model does not care who asks.
    assert models.chat("smart", script=one) is models.chat("smart", script=two)
    await models.aclose()


async def test_the_handle_says_what_the_record_shows():
    models = Models(configs(SCRIPTED, OPENAI))
    smart = models.chat("smart")
    assert (smart.alias, smart.provider, smart.model_name) == ("smart", "openai", "gpt-6-luna")
    assert smart.parameters == {
        "max_tokens": 1024,
        "timeout_s": 120.0,
        "streaming": True,
        "temperature": 0.2,
    }
    assert "sk-1" not in repr(smart)
    fast = models.chat("fast", script=lambda _: "")
    assert (fast.provider, fast.model_name, fast.parameters) == ("scripted", "rules", {})
    await models.aclose()


async def test_structured_by_model_and_by_json_schema():
    models = Models(configs(SCRIPTED, OPENAI))
    smart = models.chat("smart")
    asked = smart.structured(Verdict)["response_format"]["json_schema"]
    assert (asked["name"], asked["strict"]) == ("Verdict", False)
    assert asked["schema"]["required"] == ["spam"]
    titled = smart.structured({"title": "What a name!", "type": "object"})
    assert titled["response_format"]["json_schema"]["name"] == "What_a_name_"
    assert smart.options(operation="judge") == {}
    fast = models.chat("fast", script=lambda _: "")
    assert fast.options(operation="judge", schema=Verdict) == {
        "operation": "judge",
        "schema_name": "Verdict",
        "json_schema": Verdict.model_json_schema(),
    }
    await models.aclose()


def test_an_unknown_alias_lists_the_known_ones():
    with pytest.raises(SettingsError, match=r"no model alias 'fsat' \(known are fast, smart\)"):
        Models(configs(SCRIPTED, OPENAI)).chat("fsat")


def test_scripted_without_rules_says_what_to_do():
    with pytest.raises(ModelError) as caught:
        Models(configs(SCRIPTED)).chat("fast", pipeline="support.triage")
    assert str(caught.value) == (
        "alias fast is scripted, but pipeline support.triage supplies no rules "
        "(pass Pipeline(scripted=…) or set OPENAI_API_KEY)"
    )
    assert caught.value.error_class == "permanent"


def test_a_missing_package_names_what_to_install(monkeypatch):
    absent = Entry(path="package_that_is_not_there.x:Provider", extra="openai")
    monkeypatch.setattr(registry, "PROVIDERS", {"gone": absent})
    with pytest.raises(SettingsError) as caught:
        provider_class("gone")
    assert "package_that_is_not_there" in str(caught.value)
    assert "pip install 'holdfast[openai]'" in str(caught.value)


@pytest.mark.parametrize("name", ["anthropic", "google", "ollama", "openai"])
def test_each_vendor_says_what_to_install(monkeypatch, name):
    monkeypatch.delitem(sys.modules, f"holdfast.llm.{name}", raising=False)
    package = {"google": "langchain_google_genai"}.get(name, f"langchain_{name}")
    for loaded in [m for m in sys.modules if m.partition(".")[0] == package]:
        monkeypatch.delitem(sys.modules, loaded)
    monkeypatch.setattr(sys, "meta_path", [Absent(package), *sys.meta_path])
    with pytest.raises(SettingsError, match=re.escape(f"pip install 'holdfast[{name}]'")):
        provider_class(name)


class Absent:
    """Hides a package, as if it were not installed."""

    def __init__(self, package):
        self.package = package

    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] == self.package:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)


def test_a_provider_that_is_none(monkeypatch):
    monkeypatch.setattr(registry, "PROVIDERS", {"odd": Entry(path="json:dumps")})
    with pytest.raises(SettingsError, match="json:dumps is not a Provider"):
        provider_class("odd")
    with pytest.raises(SettingsError, match="known are odd"):
        provider_class("even")


def test_other_packages_bring_providers(tmp_path, monkeypatch):
    (tmp_path / "their_models.py").write_text(
        "from holdfast.llm.scripted import ScriptedProvider\n"
        "class Theirs(ScriptedProvider):\n    name = 'theirs'\n"
    )
    info = tmp_path / "their_models-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: their-models\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(
        "[holdfast.providers]\ntheirs = their_models:Theirs\nopenai = their_models:Theirs\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    assert "theirs" in registry.names()
    assert provider_class("theirs").name == "theirs"
    assert provider_class("openai").name == "openai"  # nobody takes a built-in name


def test_nothing_heavy_is_imported_before_use():
    code = (
        "import sys, holdfast.llm, holdfast.llm.factory, holdfast.llm.aliases\n"
        "from holdfast.llm.aliases import read_aliases\n"
        "holdfast.llm.factory.Models(read_aliases({'a': 'openai:x'}, {'OPENAI_API_KEY': 'k'}))\n"
        "heavy = {'langchain_openai', 'openai', 'anthropic', 'google', 'ollama', "
        "'langchain_anthropic', 'langchain_google_genai', 'langchain_ollama', "
        "'langchain_core', 'genai_prices', 'pydantic'}\n"
        "print(sorted(heavy & set(sys.modules)))\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
