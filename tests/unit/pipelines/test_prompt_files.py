"""Prompts out of files: what is read, what is refused and where, who is left out for it."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from textwrap import dedent
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel

from holdfast import Pipeline, stored
from holdfast.domain.prompts import MARK, Draft, differences
from holdfast.errors import DeclarationError, PromptFileError
from holdfast.pipelines.prompt_files import PromptFiles, read_draft
from holdfast.pipelines.registry import Registry

WHOLE = """\
---
description: Says what a letter is.
definitions:
  tone: kind
  examples: [one, two]
variables:
  event.body: the letter
---

Judge in a {{ tone }} voice, like {{ examples | join(" and ") }}.

--- dynamic ---
{{ event.body }} by {{ tone }}
"""


def test_a_file_becomes_a_prompt() -> None:
    draft = read_draft("mail/judge", WHOLE, "judge.md")
    assert draft.static == 'Judge in a {{ tone }} voice, like {{ examples | join(" and ") }}.'
    assert draft.dynamic == "{{ event.body }} by {{ tone }}"
    assert draft.definitions == {"tone": "kind", "examples": ["one", "two"]}
    assert draft.variables == {"event.body": "the letter"}
    assert draft.description == "Says what a letter is."


def test_a_file_without_a_mark_is_all_dynamic() -> None:
    draft = read_draft("a", "\ufeffSay {{ event.body }}\r\nor nothing\r\n", "a.md")
    assert (draft.static, draft.dynamic) == ("", "Say {{ event.body }}\nor nothing")


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("---\nx: 1\n", r"^a\.md:1: the front matter has no end"),
        ("---\ndescripton: x\n---\nb", r'^a\.md:2: there is no key "descripton"'),
        ("---\n\ndescription: [x\n---\nb", r"^a\.md:\d+: this is no YAML"),
        ("---\ndescription: 1\n---\nb", r"^a\.md:2: it must be a text"),
        (
            "---\ndescription: a\ndescription: b\n---\nb",
            r"^a\.md:3: the key \"description\" stands",
        ),
        ("---\ndefinitions:\n  event: 1\n---\nb", r"^a\.md:3: 'event' is no name for a def"),
        ("---\ndefinitions:\n  a: 1e999\n---\nb", r"^a\.md:3: a holds a number that is none"),
        ("---\ndefinitions: x\n---\nb", r"^a\.md:2: definitions must be a mapping"),
        ("---\nvariables:\n  x: y\n---\n{{ z }}", r"^a\.md:3: the prompt does not use x"),
        ("---\nlabels: [production]\n---\nb", r'^a\.md:2: there is no key "labels"'),
        ("static\n--- dynamic ---\nb\n--- dynamic ---\nc", r"^a\.md:4: the line .* line 2 already"),
        ("static\n--- dynamic ---\n\n", r"^a\.md:3: there is no dynamic part"),
        ("", r"^a\.md:1: there is no dynamic part"),
        ("a\n\n{{ event.x }}\n--- dynamic ---\nb", r"^a\.md:3: the static part uses event\.x,"),
        ("---\n---\n\n{{ x }}\n--- dynamic ---\nb", r"^a\.md:4: the static part uses x,"),
        ("{{ [1, 2] | random }}\n--- dynamic ---\nb", r"^a\.md:1: the static part uses random"),
        ("{{ lipsum() }}\n--- dynamic ---\nb", r"^a\.md:1: the static part uses lipsum"),
        ("a\n--- dynamic ---\n\nok\n{% if %}", r"^a\.md:5: Expected an expression"),
        ("a\n{{ }\n--- dynamic ---\nb", r"^a\.md:2: "),
        ("a\x00b", r"^a\.md:1: a NUL"),
        ("a\n\ud800", r"^a\.md:2: a NUL or a lone surrogate"),
        ("x" * (256 * 1024 + 1), r"^a\.md:1: a prompt has at most 256 KB"),
    ],
)
def test_what_is_wrong_is_told_with_its_line(text: str, told: str) -> None:
    with pytest.raises(PromptFileError, match=told):
        read_draft("a", text, "a.md")


@pytest.mark.parametrize("name", ["", "a b", "/a", "a/", "../a", "a//b", "a/versions", "ä"])
def test_names_that_no_address_can_have_are_refused(name: str) -> None:
    with pytest.raises(PromptFileError, match="no name for a prompt"):
        read_draft(name, "b", "a.md")
    with pytest.raises(DeclarationError, match="no name for a prompt"):
        stored(name)


@pytest.mark.parametrize("label", ["", "file", "latest", "edited", "a b", "x" * 64])
def test_labels_that_cannot_be_asked_for_are_refused(label: str) -> None:
    with pytest.raises(DeclarationError, match="no label"):
        stored("a", label=label)


words = st.text(st.characters(blacklist_categories=["Cs"], blacklist_characters="\0{}#%"))
values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**63 - 1)
    | words
    | st.floats(allow_nan=False, allow_infinity=False),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(words, inner, max_size=3),
    max_leaves=5,
)


def whole(text: str) -> bool:
    return bool(text.strip()) and MARK not in text


@given(
    static=words,
    dynamic=words.filter(whole),
    definitions=st.dictionaries(st.from_regex(r"d_[a-z]{1,5}", fullmatch=True), values, max_size=3),
    description=words,
)
def test_what_is_written_is_read_again(
    static: str, dynamic: str, definitions: dict[str, Any], description: str
) -> None:
    """A version that was pulled and is pushed again is the same version."""
    text = (f"{static}\n{MARK}\n" if whole(static) else "") + dynamic
    if text.startswith("---"):
        text = f"---\n---\n{text}"
    first = read_draft("a", text, "a.md")
    draft = Draft(
        name="a",
        static=first.static,
        dynamic=first.dynamic,
        definitions=definitions,
        description=description,
    )
    again = read_draft("a", draft.source, "a.md")
    assert again == draft
    assert again.hash == draft.hash


@given(st.text(max_size=300))
def test_any_text_is_a_prompt_or_refused_with_a_line(text: str) -> None:
    told = None
    try:
        assert read_draft("a", text, "a.md").dynamic.strip()
    except PromptFileError as error:
        told = error.message
    if told is not None:
        assert told.startswith("a.md:")
        assert 1 <= int(told.split(":")[1]) <= len(re.split("\r\n?|\n", text))


def test_only_what_a_model_sees_makes_another_version() -> None:
    one = Draft(name="a", static="s", dynamic="d", definitions={"x": 1, "y": 2})
    same = Draft(name="b", static="s", dynamic="d", definitions={"y": 2, "x": 1}, description="z")
    assert one.hash == same.hash
    others = [
        Draft(name="a", static="sd", dynamic=""),
        Draft(name="a", static="", dynamic="sd"),
        Draft(name="a", static="s", dynamic="d"),
        Draft(name="a", static="s", dynamic="d", definitions={"x": "1", "y": 2}),
    ]
    assert len({one.hash, *(other.hash for other in others)}) == 5
    told = differences(one, Draft(name="a", static="s\nt", dynamic="d", definitions={"x": 1}))
    assert [(change.what, change.lines()[-1]) for change in told] == [
        ("static", "+t"),
        ("definitions", " }"),
    ]


APP = """
    from pydantic import BaseModel
    from holdfast import Pipeline, stored

    class Letter(BaseModel):
        body: str = ""

    good = Pipeline("{app}.good", version="1", event=Letter)
    good.start(good.model("say", prompt="{{{{ event.body }}}}"))

    using = Pipeline("{app}.using", version="1", event=Letter)
    using.start(using.model("judge", prompt=stored("{name}"), alias="fast"))
"""


@pytest.fixture
def app(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(tmp_path)

    def make(app: str, name: str = "mail/judge", **files: str) -> str:
        folder = tmp_path / app
        (folder / "prompts" / "mail").mkdir(parents=True)
        (folder / "__init__.py").touch()
        (folder / "app.py").write_text(dedent(APP).format(app=app, name=name))
        for path, text in files.items():
            (folder / "prompts" / path.replace("__", "/")).with_suffix(".md").write_text(text)
        monkeypatch.delitem(sys.modules, f"{app}.app", raising=False)
        return f"{app}.app"

    return make


def names(registry: Registry) -> list[str]:
    return sorted(one.name for one in registry)


def test_a_wrong_name_leaves_out_who_uses_it_and_tells_the_near_ones(app: Any) -> None:
    registry = Registry.load([app("wrong_name", "mail/jugde", mail__judge="{{ event.body }}")])
    assert names(registry) == ["wrong_name.good"]
    (failure,) = registry.failures
    assert "there is no prompt mail/jugde" in failure.error.message
    assert failure.error.hint == "did you mean mail/judge?"


def test_a_broken_file_leaves_out_only_who_uses_it(app: Any) -> None:
    broken = app("broken_file", mail__judge="a\n{% if %}")
    unused = app("unused_broken", "mail/fine", mail__fine="ok", mail__other="{% if %}")
    registry = Registry.load([broken, unused])
    assert names(registry) == ["broken_file.good", "unused_broken.good", "unused_broken.using"]
    (failure,) = registry.failures
    assert "judge.md:2: " in failure.error.message
    assert "broken_file.using is left out" in failure.error.message


def test_a_prompt_that_its_pipeline_cannot_render_is_refused(app: Any) -> None:
    registry = Registry.load([app("unfit", mail__judge="{{ evnt.body }}")])
    assert registry.failures[0].error.message.startswith(
        'app unfit.app: pipeline unfit.using: node "judge": prompt mail/judge: the prompt uses '
        '"evnt", which is no node'
    )


def test_one_name_in_two_folders_is_used_by_nobody(app: Any) -> None:
    apps = [app("twice_a", mail__judge="a"), app("twice_b", mail__judge="b")]
    registry = Registry.load(apps)
    assert names(registry) == ["twice_a.good", "twice_b.good"]
    assert len(registry.failures) == 2
    assert all("stands in" in one.error.message for one in registry.failures)


def test_folders_of_the_settings_hold_prompts_too(app: Any, tmp_path: Path) -> None:
    extra = tmp_path / "extra"
    (extra / "mail").mkdir(parents=True)
    (extra / "mail" / "judge.j2").write_text("{{ event.body }}")
    registry = Registry.load([app("from_settings")], prompts=[extra])
    assert (names(registry), registry.failures) == (
        ["from_settings.good", "from_settings.using"],
        [],
    )
    assert [one.draft.name for one in registry.prompts] == ["mail/judge"]


def test_two_endings_of_one_name_are_a_clash(tmp_path: Path) -> None:
    (tmp_path / "a.md").write_text("one")
    (tmp_path / "a.j2").write_text("two")
    with pytest.raises(PromptFileError, match=r"a\.md:1: prompt a stands in .*a\.j2 already"):
        PromptFiles([tmp_path]).get("a", "here")


class Letter(BaseModel):
    body: str = ""


def test_a_stored_prompt_brings_its_own_system_message() -> None:
    pipeline = Pipeline("test.two", version="1", event=Letter)
    with pytest.raises(DeclarationError, match="brings its own system message"):
        pipeline.model("judge", prompt=stored("mail/judge"), system="Be brief.")


def test_a_definition_may_not_hide_a_node(app: Any) -> None:
    text = "---\ndefinitions: {judge: 1}\n---\n{{ judge }}"
    registry = Registry.load([app("hiding", mail__judge=text)])
    assert 'defines "judge", which is a node' in registry.failures[0].error.message
