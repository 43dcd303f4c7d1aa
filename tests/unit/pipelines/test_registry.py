"""Apps are found by dotted path; a broken one disables only itself."""

from __future__ import annotations

import sys
from importlib.metadata import EntryPoint
from pathlib import Path
from textwrap import dedent

import pytest

from holdfast.errors import UnknownPipeline
from holdfast.pipelines import registry
from holdfast.pipelines.registry import Registry

GOOD = """
    from pydantic import BaseModel
    from holdfast import Pipeline

    class Event(BaseModel):
        text: str

    one = Pipeline("shop.{name}", version="2", event=Event)

    @one.node
    async def work(state):
        return state.event.text

    one.start(work)
    again = one
"""


@pytest.fixture
def app(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Writes an app module and forgets it afterwards."""
    monkeypatch.syspath_prepend(tmp_path)
    made: list[str] = []

    def write(module: str, source: str) -> str:
        (tmp_path / f"{module}.py").write_text(dedent(source))
        made.append(module)
        return module

    yield write
    for module in made:
        sys.modules.pop(module, None)


def test_all_declarations_of_a_module_each_once(app):
    loaded = Registry.load([app("app_good", GOOD.format(name="orders"))])
    assert [item.name for item in loaded] == ["shop.orders"]
    assert loaded.failures == []
    assert loaded.get("shop.orders").version == "2"
    versions = loaded.versions()["shop.orders"]
    assert versions.version == "2"
    assert len(versions.code_version) == 12


def test_one_attribute(app):
    module = app("app_attribute", GOOD.format(name="orders"))
    assert "shop.orders" in Registry.load([f"{module}:one"])


def test_a_bare_langgraph_graph_is_named_after_its_place(app):
    module = app(
        "app_graph",
        """
        from langgraph.graph import START, MessagesState, StateGraph

        builder = StateGraph(MessagesState)
        builder.add_node("echo", lambda state: state)
        builder.add_edge(START, "echo")
        graph = builder.compile()
        """,
    )
    loaded = Registry.load([f"{module}:graph"])
    assert loaded.failures == []
    assert loaded.get("app_graph.graph").version == "1"


def test_an_installed_package_offers_an_app(app, monkeypatch):
    module = app("app_offered", GOOD.format(name="offered"))
    point = EntryPoint(name="shop", value=module, group=registry.ENTRY_POINTS)
    monkeypatch.setattr(registry, "entry_points", lambda group: [point])
    registry.offered.cache_clear()
    try:
        assert "shop.offered" in Registry.load([])
    finally:
        registry.offered.cache_clear()


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("1 / 0", "app app_bad cannot be imported: ZeroDivisionError: division by zero"),
        ("import no_such_thing", "app app_bad cannot be imported: ModuleNotFoundError"),
        ("raise SystemExit(1)", "app app_bad cannot be imported: SystemExit"),
        ("x = 1", "app app_bad declares no pipeline"),
        (GOOD.format(name="bad") + "\n    one.node('lost', work)", 'node "lost" is never reached'),
    ],
)
def test_a_broken_app_disables_only_itself(app, source, message):
    loaded = Registry.load([app("app_bad", source), app("app_well", GOOD.format(name="well"))])
    assert [item.name for item in loaded] == ["shop.well"]
    (failure,) = loaded.failures
    assert failure.app == "app_bad"
    assert message in str(failure.error)
    assert failure.error.code == "app_failed"


def test_the_traceback_leads_to_the_apps_own_line(app):
    loaded = Registry.load([app("app_trace", "x = 1\ny = x / 0")])
    assert "y = x / 0" in loaded.failures[0].traceback


def test_a_missing_attribute(app):
    module = app("app_missing", GOOD.format(name="orders"))
    (failure,) = Registry.load([f"{module}:two"]).failures
    assert "app app_missing:two declares no pipeline" in str(failure.error)


MODELS = """
    from pydantic import BaseModel
    from holdfast import Pipeline

    class Event(BaseModel):
        text: str

    def made(name, alias="fast", **models):
        made = Pipeline(name, version="1", event=Event, models=models)
        made.start(made.model("say", prompt="{{ event.text }}", alias=alias))
        return made

    good = made("shop.good", "mine", mine={"alias": "standard", "fallbacks": ["fast"]})
    typo = made("shop.typo", "mine", mine={"alias": "standart"})
    stands_in = made("shop.stands", fast={"fallbacks": ["nobody"]})
    unused = made("shop.unused", other="gone")
    node = made("shop.node", "quick")
    around = Pipeline("shop.around", version="1", event=Event)
    around.start(around.include("inner", typo, input=lambda state: state.event))
"""


def test_a_pipeline_that_asks_for_a_model_nobody_has_is_left_out(app):
    module = app("app_models", MODELS)
    loaded = Registry.load([module], aliases={"fast", "standard"})
    assert [item.name for item in loaded] == ["shop.good"]
    told = [failure.error.message for failure in loaded.failures]
    assert len(told) == 5
    for name, alias in (("typo", "standart"), ("stands", "nobody"), ("unused", "gone")):
        where = f"pipeline shop.{name}: models, "
        assert any(where in one and alias in one for one in told), told
    said = "pipeline shop.node: node \"say\": there is no model alias 'quick'"
    assert any(said in one for one in told), told
    assert any("shop.around is left out" in one for one in told), told
    assert "known are fast, standard" in str(loaded.failures[0].error.hint)
    assert len(Registry.load([module])) == 6, "where nobody knows the aliases nobody looks"


def test_one_name_in_two_apps_is_refused_for_both(app):
    one = app("app_one", GOOD.format(name="same"))
    two = app("app_two", GOOD.format(name="same"))
    loaded = Registry.load([one, two, app("app_three", GOOD.format(name="other"))])
    assert [item.name for item in loaded] == ["shop.other"]
    assert [failure.app for failure in loaded.failures] == ["app_one", "app_two"]
    for failure in loaded.failures:
        assert "shop.same is declared more than once, in app_one and app_two" in str(failure.error)


def test_one_pipeline_seen_through_two_apps_is_no_clash(app):
    one = app("app_origin", GOOD.format(name="origin"))
    two = app("app_import", "from app_origin import one")
    loaded = Registry.load([one, two])
    assert "shop.origin" in loaded
    assert loaded.failures == []


def test_an_unknown_name_gets_the_nearest(app):
    loaded = Registry.load([app("app_near", GOOD.format(name="orders"))])
    with pytest.raises(UnknownPipeline) as caught:
        loaded.get("shop.order")
    assert str(caught.value) == "there is no pipeline 'shop.order' (did you mean shop.orders?)"
    assert caught.value.fields[0]["field"] == "type"


def test_the_code_version_follows_the_source(app, tmp_path):
    module = app("app_code", GOOD.format(name="code"))
    before = Registry.load([module]).versions()["shop.code"].code_version
    del sys.modules[module]
    app("app_code", GOOD.format(name="code") + "\n    # another line\n")
    assert Registry.load([module]).versions()["shop.code"].code_version != before
