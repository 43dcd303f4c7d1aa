"""Agents in YAML: what is wrong has a line."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from holdfast.agents.build import declare
from holdfast.agents.files import read_agents, read_file, write_agent
from holdfast.errors import InvalidInput

HELPDESK = """\
# A comment.
name: helpdesk
description: Helps.
simple:
  settings:
    model: standard
    temperature: 3
    tools:
      - type: function
        path: tools:look
      - {type: function, path: nowhere}
"""

SECOND = """\
---
name: other
graph:
  settings: {graph: "my.graphs:flow"}
"""


PAGE = (Path(__file__).parents[3] / "docs" / "agents.md").read_text()


def test_the_file_of_the_page_is_an_agent():
    (text,) = re.findall(r"```yaml\n(.*?)```", PAGE, re.DOTALL)
    (one,) = read_agents(text, "helpdesk.yaml")
    declare(id="a1", name=one.name, version=1, config=one.config).check()


def refused(text: str) -> str:
    with pytest.raises(InvalidInput) as caught:
        read_agents(text, "a.yaml")
    return caught.value.message


def test_one_agent_a_document():
    one, two = read_agents(HELPDESK + SECOND, "a.yaml")

    assert (one.name, one.description, two.name, two.description) == (
        *("helpdesk", "Helps."),
        *("other", ""),
    )
    assert one.config["simple"]["settings"]["tools"][0] == {
        "type": "function",
        "path": "tools:look",
    }
    assert two.config == {"graph": {"settings": {"graph": "my.graphs:flow"}}}


@pytest.mark.parametrize(
    ("path", "place"),
    [
        ("config.simple.settings.temperature", "a.yaml:7:5"),
        ("simple.settings.tools.1.path", "a.yaml:11:26"),
        ("config.simple.settings.tools.1.function.path", "a.yaml:11:26"),  # a kind in between
        ("simple.settings.provider", "a.yaml:5:3"),  # missing: what is around it
        ("name", "a.yaml:2:1"),
        ("config", "a.yaml:2:1"),
    ],
)
def test_a_field_of_an_error_has_its_place(path, place):
    assert read_agents(HELPDESK, "a.yaml")[0].place(path) == place


def test_the_places_of_a_second_document_are_its_own():
    assert read_agents(HELPDESK + SECOND, "a.yaml")[1].place("graph.settings") == "a.yaml:15:3"


def test_one_wrong_field_is_told_in_one_line_with_its_place():
    (one,) = read_agents(HELPDESK, "a.yaml")
    wrong = {"field": "config.simple.settings.temperature", "expected": "at most 2", "got": "3"}

    told = one.located(InvalidInput("no", hint="see docs", fields=[wrong]))

    assert told.message == ("a.yaml:7:5: simple.settings.temperature: expected at most 2, got 3")
    assert told.hint == "see docs"


def test_of_several_each_has_its_place():
    (one,) = read_agents(HELPDESK, "a.yaml")
    fields = [
        {"field": f"config.simple.settings.{name}", "expected": "x", "got": "y"}
        for name in ("temperature", "model")
    ]

    told = one.located(InvalidInput("no", fields=fields))

    assert told.message == "agent helpdesk is refused: 2 faults"
    assert [field["field"] for field in told.fields] == [
        "a.yaml:7:5: simple.settings.temperature",
        "a.yaml:6:5: simple.settings.model",
    ]


def test_an_error_without_fields_stands_at_the_name():
    (one,) = read_agents(HELPDESK, "a.yaml")
    told = one.located(InvalidInput("it has changed"))
    assert told.message == "a.yaml:2:1: agent helpdesk: it has changed"


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("", "a.yaml:1:1: the file of agents is empty"),
        ("name: a\n", "a.yaml:1:1: expected one of simple or graph, not none"),
        ("- 1\n", "a.yaml:1:1: expected an agent"),
        ("name: A b\nsimple: {}\n", "a.yaml:1:7: this is no name for an agent"),
        ("simple: {}\n", "a.yaml:1:1: a name is missing"),
        ("name: a\nsimple: {}\nmodle: x\n", 'a.yaml:3:1: unknown key "modle"'),
        ("name: a\nsimple: {\n", "a.yaml:3:1: this is no YAML"),
        ("name: a\nname: b\nsimple: {}\n", 'a.yaml:2:1: the key "name" stands in line 1 already'),
        ("name: a\nsimple: {}\n---\nname: a\nsimple: {}\n", "a.yaml:4:7: a stands in line 1"),
        ("name: a\ndescription: [1]\nsimple: {}\n", "a.yaml:2:14: expected a text"),
        ("name: a\nsimple: {}\ngraph: {}\n", "not both"),
        ("name: a\nsimple: !!python/object:os.system {}\n", "means nothing here"),
    ],
)
def test_what_is_no_agent_is_refused_with_its_line(text, told):
    assert told in refused(text)


def test_all_faults_are_told_at_once():
    message = refused("name: A b\nmodle: x\nsimple: {}\n")
    assert "a.yaml:1:7" in message
    assert "a.yaml:2:1" in message


def test_a_file_that_cannot_be_read_is_named(tmp_path):
    (tmp_path / "b.yaml").write_bytes(b"\xff\xfe")
    for name in ("a.yaml", "b.yaml"):
        with pytest.raises(InvalidInput, match=f"{name} cannot be read"):
            read_file(tmp_path / name)


TEXTS = st.text(st.characters(codec="utf-8", exclude_categories=("Cc", "Cs")), max_size=30)
LEAVES = (
    st.none()
    | st.booleans()
    | st.integers()
    | TEXTS
    | st.sampled_from(
        [
            "1e3",
            "0x1f",
            "~",
            "null",
            "yes",
            "on",
            "2026-11-20",
            "a\nb\n",
            "  two\nlines",
            "1.",
            "- x",
        ]
    )
)
VALUES = st.recursive(
    LEAVES, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXTS, inner, max_size=3)
)


@given(st.dictionaries(TEXTS, VALUES, max_size=4), TEXTS)
def test_what_is_written_reads_as_the_same(settings, description):
    config = {"simple": {"settings": settings}}
    (one,) = read_agents(write_agent("a", description, config), "a.yaml")
    assert (one.name, one.description, one.config) == ("a", description, config)
