"""Nodes that run other pipelines as child executions: what is refused where they are declared."""

from __future__ import annotations

from textwrap import dedent
from typing import Any

import pytest
from pydantic import BaseModel

from holdfast.domain.halts import ChildRun, Wait, WaitKind
from holdfast.errors import ChildFailed, DeclarationError, WaitExpired
from holdfast.pipelines.pipeline import Pipeline
from holdfast.pipelines.registry import Registry


class Note(BaseModel):
    text: str = ""


def pipeline(name: str) -> Pipeline:
    made = Pipeline(name, version="1", event=Note)
    made.start(made.node("work", lambda state: state.event.text))
    return made


def parent(other: Pipeline | str, name: str = "test.parent", **policy: Any) -> Pipeline:
    made = Pipeline(name, version="1", event=Note)
    made.start(made.child("sub", other, input=lambda s: s.event, **policy))
    return made


@pytest.mark.parametrize(
    ("option", "value"),
    [("concurrency", 2), ("cache", 60), ("total_timeout", 5), ("retry_on", ValueError)],
)
def test_options_without_a_sense_for_a_child_are_refused(option: str, value: Any) -> None:
    with pytest.raises(DeclarationError, match=f'node "sub": a child execution takes no {option}='):
        parent(pipeline("test.child"), **{option: value})


def test_a_priority_has_bounds() -> None:
    with pytest.raises(DeclarationError, match="priority=5000"):
        parent(pipeline("test.child"), priority=5000)


@pytest.mark.parametrize("singleton", [True, lambda event: event.text])
def test_a_singleton_is_no_child(singleton: Any) -> None:
    single = Pipeline("test.single", version="1", event=Note, singleton=singleton)
    single.start(single.node("work", lambda state: state.event.text))
    with pytest.raises(
        DeclarationError, match=r"test\.single is a singleton and cannot be a child"
    ):
        Registry([single, parent(single)])


def test_a_pipeline_with_children_has_checkpoints_and_shows_them() -> None:
    made = parent(pipeline("test.child"), retries=2, timeout=60)
    assert made.may_halt
    (node,) = [one for one in made.describe()["nodes"] if one["name"] == "sub"]
    assert (node["kind"], node["pipeline"]) == ("child", "test.child")
    assert node["policy"] == {"retries": 2, "timeout": 60}


@pytest.mark.parametrize("kind", ["map", "parallel", "include"])
def test_what_waits_is_not_tried_again_from_its_beginning(kind: str) -> None:
    made = parent(pipeline("test.child"))
    other = Pipeline("test.outer", version="1", event=Note)
    if kind == "include":
        node: Any = other.include("all", made, input=lambda s: s.event, retries=1)
    else:
        sub = other.child("sub", "test.child", input=lambda s: s.event)
        node = (
            other.map("all", sub, over=lambda s: [1], retries=1)
            if kind == "map"
            else other.parallel("all", [sub], retries=1)
        )
    other.start(node)
    with pytest.raises(DeclarationError, match='node "all": retries=1 would try again what waits'):
        other.check()


def test_a_name_that_no_app_declares_is_found_when_the_apps_are_loaded() -> None:
    with pytest.raises(DeclarationError, match='there is no pipeline "test.gone" to run as a chil'):
        Registry([parent("test.gone")])


def test_a_pipeline_may_start_itself_by_name() -> None:
    assert len(Registry([parent("test.self", "test.self")])) == 1


def test_an_app_without_its_child_is_left_out_with_those_that_need_it(
    tmp_path: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = """
        from pydantic import BaseModel
        from holdfast import Pipeline

        class Event(BaseModel):
            text: str = ""

        one = Pipeline("{name}", version="1", event=Event)
        one.start({node})
    """
    monkeypatch.syspath_prepend(tmp_path)
    apps = {
        "children_first": ("c.first", 'one.child("sub", "c.second", input=lambda s: s.event)'),
        "children_second": ("c.second", 'one.child("sub", "c.gone", input=lambda s: s.event)'),
        "children_third": ("c.third", 'one.node("work", lambda s: 1)'),
    }
    for module, (name, node) in apps.items():
        (tmp_path / f"{module}.py").write_text(dedent(source).format(name=name, node=node))
    loaded = Registry.load(list(apps))
    assert [one.name for one in loaded] == ["c.third"]
    told = {one.app: str(one.error) for one in loaded.failures}
    assert 'there is no pipeline "c.gone"' in told["children_second"]
    assert 'there is no pipeline "c.second"' in told["children_first"]


def test_a_wait_for_a_child_survives_json() -> None:
    wait = Wait(
        id="w",
        kind=WaitKind.CHILD,
        name="sub",
        child=ChildRun(pipeline="test.child", data="{}", event_id="e", step=2),
    )
    kept = wait.on_record()
    assert kept["child"]["data"] is None
    again = Wait.of(kept)
    assert again.child is not None
    assert (again.child.event_id, again.child.step) == ("e", 2)


FAILED = {"code": "step_failed", "message": "no"}
WHO = {"event_id": "e", "execution_id": "x", "status": "failed"}


@pytest.mark.parametrize(
    ("came", "retried"),
    [
        ({"child": WHO, "error": FAILED}, True),
        ({"child": {**WHO, "status": "dead"}, "error": FAILED}, True),
        ({"expired": True}, True),
        ({"child": {**WHO, "status": "cancelled"}, "error": FAILED}, False),
        ({"child": None, "error": {"code": "too_deep", "message": "no"}}, False),
        ({"child": WHO, "error": {"code": "output_too_large", "message": "no"}}, False),
    ],
)
async def test_only_what_another_try_may_mend_is_tried_again(
    monkeypatch: pytest.MonkeyPatch, came: Any, retried: bool
) -> None:
    """The interrupt is answered here as LangGraph answers it when the node runs again."""
    from holdfast.pipelines import waiting

    asked: list[Any] = []

    def interrupt(value: Any) -> Any:
        asked.append(value[waiting.ASKED]["child"])
        return came

    monkeypatch.setattr(waiting, "interrupt", interrupt)
    made = parent(pipeline("test.child"), retries=1)
    Registry([made, pipeline("test.child")])
    node: Any = made._wiring.nodes["sub"]
    state: Any = type("S", (), {"event": Note(text="hi")})()
    with pytest.raises((ChildFailed, WaitExpired)):
        await node.run(state, {})
    assert len(asked) == 1 + retried
    assert asked[0]["after_us"] == 0
    assert asked[0]["eager"], "there is a try left"
    if retried:
        assert asked[1]["after_us"] > 0
        assert not asked[1]["eager"]
