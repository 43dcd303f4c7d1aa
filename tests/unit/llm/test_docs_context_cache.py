"""The settings of docs/context-cache.md are read as they stand."""

from __future__ import annotations

import json
import re
from pathlib import Path

from holdfast.llm.aliases import read_aliases
from holdfast.llm.registry import PROVIDERS

TEXT = (Path(__file__).parents[3] / "docs" / "context-cache.md").read_text()
KEYS = {f"{name}_API_KEY": "k" for name in ("ANTHROPIC", "GOOGLE", "OPENAI")}


def test_the_settings_are_read():
    (example,) = re.findall(r"HOLDFAST_MODELS='(.*?)'", TEXT, re.DOTALL)
    read = read_aliases(json.loads(example), KEYS)
    assert {
        name: (read[name].context_cache, read[name].cache_ttl_s) for name in json.loads(example)
    } == {
        "fast": (True, 3600),
        "parser": (True, 900),
        "gateway": (True, None),
        "plain": (False, None),
    }


def test_the_lifetimes_are_those_that_are_taken():
    assert PROVIDERS["anthropic"].cache_ttls_s == (300, 3600)
    assert "300 or 3600 for Anthropic, from 60 on for Gemini" in TEXT
    assert PROVIDERS["google"].cache_ttls_s[0] == 60


def test_openais_fields_go_to_openai_alone_unless_the_alias_says_so():
    from holdfast.llm.openai import OpenAIProvider

    own = {"model": "openai:gpt-4.1-mini"}
    other = {**own, "base_url": "http://127.0.0.1:9/v1"}
    specs = {"own": own, "other": other, "said": {**other, "context_cache": True}}
    provider = OpenAIProvider()
    on = {
        name: provider.context_cache(config, None, None) is not None
        for name, config in read_aliases(specs, KEYS).items()
        if name in specs
    }
    assert on == {"own": True, "other": False, "said": True}
