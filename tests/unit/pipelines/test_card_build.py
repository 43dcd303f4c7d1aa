"""Every kind of step a card can have runs as the pipeline it declares."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from card_tools import HEAD, add, card, cards, fail, upper

from holdfast import END, Pipeline, State
from holdfast.engine.serializer import StrictSerializer
from holdfast.errors import (
    BranchesFailed,
    InvalidInput,
    LoopExceeded,
    MissingValue,
    NoResult,
)
from holdfast.pipelines.cards.actions import action
from holdfast.pipelines.pipeline import Pipeline as SamePipeline

EVENT = {"text": "abc", "count": 2, "tags": ["x", "yy"]}


async def no_pause(seconds: float) -> None: ...


async def test_actions_follow_each_other(run):
    made = card(
        """
        shout:
          execute: {action: text.upper, with: {text: "${input.text}!"}}
          next: more
        more:
          execute: {action: number.add, with: {a: "${input.count}", b: "${variables.step}"}}
          next: done
        done:
          complete: {text: "${shout}", sum: "${more}", said: "${shout} ${more}"}
        """,
        more="variables: {step: 40}\n",
    )
    ran = await run(made, EVENT)
    assert ran.output == {"text": "ABC!", "sum": 42, "said": "ABC! 42"}
    assert [(s.operation, s.kind, s.version) for s in ran.steps.values()] == [
        ("shout", "node", "1"),
        ("more", "node", "1"),
        ("done", "node", "1"),
    ]


async def test_a_condition_decides_and_is_on_record(run):
    made = card(
        """
        decide:
          condition:
            - if: ${input.count} > 5
              then: many
            - elif: '"x" in ${input.tags} && !(${input.text} == "abc")'
              then: end
            - else: few
        many:
          complete: many
        few:
          complete: few
        """
    )
    ran = await run(made, EVENT)
    assert ran.output == "few"
    decision = ran.recorded_output("decide.route")
    assert decision == {"target": "few", "rule": None, "fallback": True}
    ran = await run(made, {**EVENT, "count": 6})
    assert ran.recorded_output("decide.route")["rule"] == "${input.count} > 5"
    ran = await run(made, {**EVENT, "text": "z"})
    assert (ran.recorded_output("decide.route")["target"], ran.output) == (END, None)


async def test_a_condition_whose_value_is_missing_fails_and_names_it(run):
    made = card(
        """
        look:
          execute: {action: things.any, with: {}}
          condition:
            - if: ${look.size} == 'big'
              then: end
            - else: other
        other:
          complete: other
        """,
        uses=[anything],
    )
    ran = await run(made, EVENT)
    assert isinstance(ran.error, MissingValue)
    assert "look has no size" in str(ran.error)
    assert ran.ended("look.route").status == "failed"


@action("things.any")
async def anything() -> dict[str, object]:
    return {"a": 1}


async def test_a_step_in_the_branch_not_taken_is_named_when_it_is_missed(run):
    made = card(
        """
        first:
          condition:
            - if: ${input.count} > 5
              then: shout
            - else: last
        shout:
          execute: {action: text.upper, with: {text: a}}
          next: last
        last:
          complete: ${shout}
        """
    )
    ran = await run(made, EVENT)
    assert isinstance(ran.error, NoResult)
    assert '"shout" has no result' in str(ran.error)


PARALLEL = """
both:
  parallel: [one, two, three]
  on_failure: {}
  next: done
one:
  execute: {{action: text.upper, with: {{text: a}}}}
two:
  execute: {{action: fail, with: {{message: "no ${{input.text}}"}}}}
three:
  execute: {{action: text.upper, with: {{text: c}}}}
done:
  complete: {{one: "${{both.one}}", three: "${{three}}"}}
"""


async def test_a_failing_branch_leaves_the_others_on_record(run):
    ran = await run(card(PARALLEL.format("abort")), EVENT)
    assert isinstance(ran.error, BranchesFailed)
    assert (ran.error.failed, ran.error.succeeded) == (["two"], ["one", "three"])
    assert {name: ran.ended(name).status for name in ("one", "two", "three")} == {
        "one": "succeeded",
        "two": "failed",
        "three": "succeeded",
    }
    assert ran.recorded_output("one") == "A"


async def test_a_group_may_go_on_without_a_branch(run):
    ran = await run(card(PARALLEL.format("continue")), EVENT)
    assert ran.output == {"one": "A", "three": "C"}
    assert [one.node for one in ran.failures] == ["two"]


async def test_one_kind_many_times(run):
    steps = "".join(
        f"s{n}:\n  execute: {{action: number.add, with: {{a: {n}}}}}\n"
        + (f"  next: s{n + 1}\n" if n < 4 else "")
        for n in range(5)
    )
    ran = await run(card(steps), EVENT)
    assert ran.results == {f"s{n}": n + 1 for n in range(5)}


async def test_models(run):
    asked = []

    def rules(request):
        asked.append(request.user)
        if request.operation == "judge":
            return {"kind": "spam", "score": 0.9} if len(asked) > 1 else {"kind": "odd"}
        return "Dear friend"

    made = card(
        """
        judge:
          execute:
            model:
              alias: fast
              prompt: "Judge: {{ event.text }}"
              answer:
                kind: {type: string, enum: [spam, ham]}
                score: {type: number, minimum: 0, maximum: 1}
              credits: 2
          condition:
            - if: ${judge.kind} == 'spam' and ${judge.score} > 0.5
              then: draft
            - else: end
        draft:
          execute: {model: {prompt: "It is {{ judge.kind }}."}}
        """,
        script=rules,
    )
    ran = await run(made, EVENT)
    assert ran.output == "Dear friend"
    assert asked[0] == "Judge: abc"
    assert asked[-1] == "It is spam."
    assert [v.outcome for v in ran.validations("judge")] == ["invalid", "valid"]
    assert [v.credits for v in ran.validations("judge")] == [0, 2]


async def test_maps(run):
    made = card(
        """
        each:
          map: {over: "${input.tags}", step: shout, at_once: 2}
          next: done
        shout:
          execute: {action: text.upper, with: {text: "${index}${item}"}}
        done:
          complete: ${each}
        """
    )
    assert (await run(made, EVENT)).output == ["0X", "1YY"]


LOOP = """
grow:
  execute: {action: number.add, with: {a: "${input.count}", b: 1}}
  loop: {back_to: grow, while: "${grow} < 5 and ${input.text} != 'stop'", at_most: 3}
  next: done
done:
  complete: ${grow}
"""


async def test_loops_are_bounded(run):
    ran = await run(card(LOOP), EVENT)
    assert isinstance(ran.error, LoopExceeded)
    ran = await run(card(LOOP), {**EVENT, "count": 9})
    assert ran.output == 10


async def test_a_step_that_stands_in(run):
    made = card(
        """
        try_it:
          execute: {action: fail, with: {message: nope}}
          retries: 0
          on_failure: instead
          next: done
        instead:
          execute: {action: text.upper, with: {text: "${input.text}"}}
        done:
          complete: "${try_it}"
        """
    )
    ran = await run(made, EVENT)
    assert ran.output == "ABC"
    assert ran.ended("try_it").error["fallback"] == "instead"


async def test_retries_are_attempts(run):
    calls = []

    @action("flaky")
    async def flaky(text: str) -> str:
        calls.append(text)
        if len(calls) < 3:
            raise TimeoutError("away")
        return text

    made = card(
        """
        ask:
          execute: {action: flaky, with: {text: hi}}
          retries: 2
          timeout: 5
          backoff: {first: 0.1, jitter: 0}
        """,
        uses=[flaky],
    )
    ran = await run(made, EVENT, sleep=no_pause)
    assert ran.output == "hi"
    assert [a.status for a in ran.attempts("ask")] == ["failed", "failed", "succeeded"]


async def test_a_parameter_that_does_not_fit_in_a_run_is_named(run):
    made = card('add:\n  execute: {action: number.add, with: {a: "${input.text}"}}')
    ran = await run(made, EVENT)
    assert isinstance(ran.error, InvalidInput)
    assert 'step "add": action "number.add": a: ' in str(ran.error)


async def test_cards_in_cards_and_pipelines_in_cards(run):
    inner = """
        name: test.inner
        version: "1"
        event: {word: {type: string}}
        steps:
          shout:
            execute: {action: text.upper, with: {text: "${input.word}"}}
        """
    outer = """
        name: test.outer
        version: "1"
        event: {word: {type: string}}
        steps:
          inner:
            subprocess: {pipeline: test.inner, with: {word: "a${input.word}"}}
            next: python
          python:
            execute: {pipeline: test.python, with: {word: "${inner}"}}
        """
    made = cards(outer, inner, uses=[upper, python_pipeline()])
    assert made.faults == []
    ran = await run(made["test.outer"], {"word": "b"})
    assert ran.output == ["AB"]
    assert set(ran.steps) == {"inner", "shout", "python", "wrap"}


def python_pipeline() -> SamePipeline:
    from pydantic import BaseModel

    class Word(BaseModel):
        word: str

    made = Pipeline("test.python", version="1", event=Word)
    made.start(made.node("wrap", lambda state: [state.event.word]))
    return made


def test_waits_and_checkpoints_are_the_same_nodes():
    made = card(
        """
        pause:
          wait: {seconds: 3}
          next: until
        until:
          wait: {until: "2026-12-24T18:00:00Z"}
          next: paid
        paid:
          wait: {event: order.paid, subject: "${input.text}", timeout: 60}
          next: approve
        approve:
          human_checkpoint:
            question: "Pay {{ paid.amount }}?"
            answer: {yes: {type: boolean}}
            timeout: 3600
          condition:
            - if: ${approve.yes}
              then: end
            - else: no
        no:
          complete: refused
        """
    )
    nodes = {one["name"]: one["kind"] for one in made.describe()["nodes"]}
    assert nodes == {
        "__start__": "start",
        "pause": "wait",
        "until": "wait",
        "paid": "wait",
        "approve": "human",
        "no": "node",
        "approve.route": "router",
        "__end__": "end",
    }
    assert made.may_halt
    assert made.awaited() == {"order.paid"}
    made.check_answer("approve", {"yes": True})
    with pytest.raises(InvalidInput, match=r"answer\.yess"):
        made.check_answer("approve", {"yes": True, "yess": True})
    state = State(made.validate(EVENT), {})
    wiring = made._wiring.nodes
    assert wiring["pause"].asks(state) == {"wake_in": 3_000_000}
    wake = datetime(2026, 12, 24, 18, tzinfo=UTC).timestamp() * 1e6
    assert wiring["until"].asks(state) == {"wake_at": wake}
    assert wiring["paid"].asks(state)["subject"] == "abc"


def test_answers_of_a_card_are_told_apart_in_checkpoints():
    fields = "{x: {type: object, properties: {y: {type: string}}}}"
    asking = f"human_checkpoint: {{question: Well, answer: {fields}}}"
    made = card(f"a_b:\n  {asking}\n  next: ab\nab:\n  {asking}\n  next: a__b\na__b:\n  {asking}")
    kept = [one for one in made.kept() if one.__module__.startswith("holdfast.cards")]
    assert len({(one.__module__, one.__qualname__) for one in kept}) == len(kept) == 7
    serializer = StrictSerializer(made.kept(), "test")
    for name in ("a_b", "a__b"):
        written = made._wiring.nodes[name].answer.model_validate({"x": {"y": "z"}})
        read = serializer.loads_typed(serializer.dumps_typed(written))
        assert (type(read), read) == (type(written), written)


WHOLE = """
measure:
  map: {over: "${input.tags}", step: one, at_once: 3}
  on_failure: continue
  next: both
one:
  execute: {action: text.upper, with: {text: "${item}"}}
  retries: 1
both:
  parallel: [left, right]
  next: write
left:
  execute: {action: text.upper, with: {text: l}}
  timeout: 5
right:
  execute: {action: fail, with: {message: r}}
  on_failure: spare
spare:
  execute: {action: text.upper, with: {text: s}}
write:
  execute: {model: {prompt: "{{ both.left }}", system: Be kind., alias: fast, tries: 2, credits: 1}}
  loop: {back_to: write, while: "${write} != ''", at_most: 3, exceeded: continue}
  next: other
other:
  subprocess: {pipeline: test.python, with: {word: a}}
  timeout: 9
  next: sleep
sleep:
  wait: {seconds: 2}
  next: paid
paid:
  wait: {event: order.paid, timeout: 5}
  next: sure
sure:
  human_checkpoint: {question: "Sure of {{ write }}?", timeout: 60}
  condition:
    - if: ${sure} == 1
      then: last
    - elif: ${sure} == 2
      then: end
    - else: last
last:
  complete: ${write}
"""


def twin(event: type) -> Pipeline:
    """The pipeline that a Python author would have written for `WHOLE`."""

    def rule(text: str):
        def holds(state: State) -> bool:
            return False

        holds.__name__ = text
        return holds

    async def run(state: State) -> str:
        return ""

    p = Pipeline("test.card", version="1", event=event)
    one = p.node("one", run, retries=1)
    p.map("measure", one, over=lambda s: s.event.tags, at_once=3, on_failure="continue")
    p.node("left", run, timeout=5)
    p.node("right", run, on_failure="spare")
    p.parallel("both", ["left", "right"])
    p.node("spare", run)
    p.model("write", prompt="{{ both.left }}", system="Be kind.", alias="fast", tries=2, credits=1)
    p.include("other", python_pipeline(), input=lambda s: {"word": "a"}, timeout=9)
    p.wait("sleep", seconds=2)
    p.wait_for("paid", event="order.paid", timeout=5)
    p.ask("sure", question="Sure of {{ write }}?", timeout=60)
    p.node("last", run)
    p.start("measure")
    p.chain("measure", "both", "write", "other", "sleep", "paid", "sure")
    p.loop("write", back_to="write", while_=rule("${write} != ''"), at_most=3, exceeded="continue")
    rules = [("last", rule("${sure} == 1")), (END, rule("${sure} == 2"))]
    p.route("sure", rules, otherwise="last")
    return p


def test_every_kind_of_step_is_the_same_as_in_python():
    made = card(WHOLE, uses=[upper, fail, python_pipeline()])
    python = twin(made._event)
    python.check()
    assert made.describe() == python.describe()
    assert set(made.graph().get_graph().edges) == set(python.graph().get_graph().edges)
    twins = python._wiring.nodes
    for name, node in made._wiring.nodes.items():
        assert type(node) is type(twins[name]), name
        assert node.policy == twins[name].policy, name
        assert node.metadata == twins[name].metadata, name
        for part in ("tries", "credits", "alias", "at_once", "seconds_us", "timeout_us"):
            assert getattr(node, part, None) == getattr(twins[name], part, None), (name, part)


def test_policies_reach_the_node():
    made = card(
        """
        add:
          execute: {action: number.add, with: {a: 1}}
          timeout: 3
          total_timeout: 9
          retries: 2
          backoff: {first: 1, factor: 3, most: 10, jitter: 0}
          on_failure: continue
          concurrency: 4
          cache: 60
        """
    )
    policy = made._wiring.nodes["add"].policy
    assert (policy.timeout, policy.total_timeout, policy.retries) == (3, 9, 2)
    assert (policy.backoff.first, policy.backoff.factor, policy.backoff.most) == (1, 3, 10)
    assert (policy.on_failure, policy.concurrency, policy.cache.ttl) == ("continue", 4, 60)


def test_options_of_the_pipeline():
    made = card(
        "done:\n  complete: 1",
        more="description: x\ndeadline: 5\npriority: -3\nmax_running: 2\nretention: 1.5\n"
        "durable: true\n",
    )
    assert (made.description, made.deadline, made.priority, made.max_running) == ("x", 5, -3, 2)
    assert made.retention.total_seconds() == 36 * 3600
    assert made.durable
    assert made.checkpointed


def test_the_input_is_held_against_the_declared_fields():
    made = card(
        "done:\n  complete: 1",
        head=HEAD.replace("count:", "size: {type: string, enum: [s, m]}\n  count:"),
    )
    assert made.validate({"text": "a", "size": "m"}).count == 2
    with pytest.raises(InvalidInput) as caught:
        made.validate({"text": 3, "size": "x", "more": 1})
    assert {one["field"] for one in caught.value.fields} == {"data.text", "data.size", "data.more"}
    assert made.schema()["properties"]["size"]["enum"] == ["s", "m"]


def test_the_code_version_covers_the_card_and_its_actions(tmp_path, monkeypatch):
    def version(body: str, comment: str) -> str:
        file = tmp_path / "versioned_actions.py"
        file.write_text(
            "from holdfast import action\n\n\n@action('count')\n"
            f"def count(text: str) -> int:\n    return {body}\n"
        )
        import importlib
        import sys

        monkeypatch.syspath_prepend(tmp_path)
        sys.modules.pop("versioned_actions", None)
        importlib.invalidate_caches()
        module = importlib.import_module("versioned_actions")
        text = "one:\n  execute: {action: count, with: {text: a}}" + comment
        found = card(text, uses=[module]).code_version
        sys.modules.pop("versioned_actions")
        return found

    first = version("1", "")
    assert version("1", "") == first
    assert version("22", "") != first
    assert version("1", "  # other") != first


def test_names_of_actions_are_taken_once():
    from holdfast.errors import DeclarationError

    @action("text.upper")
    def other(text: str) -> str:
        return text

    with pytest.raises(DeclarationError, match="text.upper"):
        cards(HEAD + "steps: {done: {complete: 1}}", uses=[upper, other])
    with pytest.raises(DeclarationError, match="has no type"):
        action("x")(lambda a: a)  # pyright: ignore[reportUnknownLambdaType]
    assert add.parameters["b"].required is False
    assert fail.is_async
