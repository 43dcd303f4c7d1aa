"""Graphs as text and as Mermaid."""

from __future__ import annotations

from holdfast.cli.graphs import draw_graph, in_order, mermaid

START, END = "__start__", "__end__"


def graph(nodes, edges):
    return {
        "nodes": [{"kind": "node", **node} for node in nodes],
        "edges": [dict(zip(("from", "to", "label"), edge, strict=False)) for edge in edges],
    }


TRIAGE = graph(
    [
        {"name": START, "kind": "start"},
        {"name": "spam", "kind": "model", "alias": "fast", "answer": "Spam", "group": "judge"},
        {"name": "judge", "kind": "parallel", "on_failure": "continue"},
        {"name": "close"},
        {"name": "draft", "kind": "model", "alias": "standard", "answer": None},
        {"name": "judge.route", "kind": "router"},
        {"name": END, "kind": "end"},
    ],
    [
        (START, "judge"),
        ("judge", "judge.route"),
        ("judge.route", "close", "is_spam"),
        ("judge.route", "draft", "otherwise"),
        ("close", END),
        ("draft", END),
    ],
)


def test_the_graph_reads_from_top_to_bottom(render):
    assert render(draw_graph(TRIAGE)).splitlines() == [
        "○ start                                                → judge",
        "‖ judge        parallel · goes on when a branch fails  → judge.route",
        "  └─ spam  model · fast · Spam",
        "◆ judge.route  router",
        "  ├─ is_spam   → close",
        "  └─ otherwise → draft",
        "▪ close        node                                    → end",
        "● draft        model · standard                        → end",
    ]


def test_every_node_comes_after_those_that_lead_to_it():
    diamond = graph(
        [{"name": name} for name in (START, "d", "c", "b", "a", END)],
        [(START, "a"), ("a", "b"), ("a", "c"), ("b", "d"), ("c", "d"), ("d", END)],
    )
    order = in_order(diamond)

    assert sorted(order) == sorted([START, "a", "b", "c", "d", END])
    assert all(order.index(e["from"]) < order.index(e["to"]) for e in diamond["edges"])


def test_loops_and_strays_are_drawn_too(render):
    looping = graph(
        [{"name": name} for name in (START, "think", "act", "stray", END)],
        [(START, "think"), ("think", "act"), ("think", END), ("act", "think")],
    )
    drawn = render(draw_graph(looping))

    assert "act    node  → think" in drawn
    assert "stray" in drawn


def test_mermaid_cannot_be_broken_out_of():
    hostile = 'x"]\n  click n0 "https://evil.example"\n%%{init}%%'
    drawn = mermaid(
        graph([{"name": START, "kind": "start"}, {"name": hostile}], [(START, hostile, hostile)])
    )

    assert len(drawn.splitlines()) == 4
    assert drawn.count('"') == 6  # those around the two names and the label
    assert "%%" not in drawn


def test_mermaid_knows_shapes_groups_and_labels():
    drawn = mermaid(TRIAGE)

    assert drawn.startswith("flowchart TD\n")
    assert 'n5{{"judge.route<br/><small>router</small>"}}' in drawn
    assert 'subgraph gn2["branches of judge"]\n    n1["spam' in drawn
    assert 'n5 -->|"is_spam"| n3' in drawn


CONTROLLED = graph(
    [
        {"name": START, "kind": "start"},
        {"name": "draft", "policy": {"timeout": 30, "retries": 2, "on_failure": "cheap"}},
        {"name": "cheap", "stands_in_for": "draft"},
        {"name": "notify", "policy": {"on_failure": "continue"}},
        {"name": "each", "kind": "map", "at_once": 4},
        {"name": "spell", "group": "each"},
        {"name": "draft.loop", "kind": "loop"},
        {"name": END, "kind": "end"},
    ],
    [
        (START, "draft"),
        ("draft", "draft.loop"),
        ("draft.loop", "draft", "too_short, at most 5 times"),
        ("draft.loop", "each", "otherwise"),
        ("each", "notify"),
        ("notify", END),
    ],
)


def test_loops_maps_and_policies_are_told(render):
    assert render(draw_graph(CONTROLLED)).splitlines() == [
        "○ start                                → draft",
        "▪ draft       node · 30 s · 2 retries  → draft.loop",
        "  └─ cheap  node · stands in when it fails",
        "↻ draft.loop  loop",
        "  ├─ too_short, at most 5 times → draft",
        "  └─ otherwise                  → each",
        "≡ each        map · 4 at once          → notify",
        "  └─ spell  node",
        "▪ notify      node · may fail          → end",
    ]
    drawn = mermaid(CONTROLLED)
    assert "n1 -.->|fails| n2" in drawn
    assert 'n6{{"draft.loop' in drawn
