"""What is wrong with a card is told with its line and column, all of it at once."""

from __future__ import annotations

from textwrap import dedent

import pytest
from card_tools import HEAD, card, cards, faults

from holdfast import load_card, load_cards
from holdfast.errors import CardError, DeclarationError

DONE = "done: {complete: 1}\n"


def told(found: list[tuple[int, int, str]]) -> str:
    return "\n".join(f"{line}:{column}: {message}" for line, column, message in found)


def test_every_fault_is_told_with_its_place():
    found = faults(
        """
        first:
          execute: {action: text.uper, with: {text: a}}
          nxt: second
        second:
          execute: {action: text.upper, with: {txt: "${frist.x}"}}
          next: thrid
        """
    )
    # The unknown key is a fault of the shape: the rest can only be told once that is right.
    assert told(found) == '4:5: there is no key "nxt" here (did you mean next?)'
    found = faults(
        """
        first:
          execute: {action: text.uper, with: {text: a}}
          next: second
        second:
          execute: {action: text.upper, with: {txt: "${frist.x} ${input.txt}"}}
          timeout: 3
          next: thrid
        """
    )
    assert told(found) == dedent(
        """\
        3:23: the app has no action "text.uper" (did you mean text.upper?)
        6:41: action "text.upper" needs text
        6:42: action "text.upper" takes no "txt" (did you mean text?)
        6:48: ${frist.x}: there is no step "frist" (did you mean first?)
        6:59: ${input.txt}: input has no "txt" (did you mean text?)
        8:11: there is no step "thrid" (known: end, first, second)"""
    )


@pytest.mark.parametrize(
    ("steps", "line", "column", "message"),
    [
        ("a: {complete: 1, execute: {action: fail}}", 1, 6, "a step is one thing"),
        ("a: {next: b}", 1, 6, "say what it is"),
        ("a: {execute: }", 1, 7, 'there is nothing after "execute:"'),
        ("a: {complete: 1, timeout: }", 1, 20, 'there is nothing after "timeout:"'),
        ("a: {complete: 1, next: b}", 1, 6, '"complete" ends the run'),
        ("a: {wait: {seconds: 1}, retries: 2}", 1, 6, '"retries" has no meaning for wait'),
        ("a: {wait: {seconds: 1, event: x}}", 1, 13, "say one of: seconds, until, event"),
        ("a: {wait: {seconds: 1, subject: x}}", 1, 13, 'belong to "event"'),
        ("a: {wait: {until: tomorrow}}", 1, 21, "is no time with a zone"),
        ("a: {execute: {agent: helper}}", 1, 17, "there are no agents yet"),
        ("a: {execute: {action: fail, agent: x}}", 1, 16, "name one of"),
        ("a: {subprocess: {pipeline: other}}", 1, 30, 'there is no pipeline "other"'),
        ("a: {condition: [{if: 'true', then: end}]}", 1, 6, 'the last case must be "else"'),
        (
            "a: {condition: [{if: 'true', then: end}, {if: 'true', then: end}, {else: end}]}",
            1,
            6,
            '"elif"',
        ),
        ("a: {condition: [{elif: 'true'}, {else: end}]}", 1, 19, 'a case is "if"'),
        ("1a: {complete: 1}", 1, 3, "is no name for a step"),
        ("input: {complete: 1}", 1, 3, 'the name "input" is taken'),
        ("end: {complete: 1}", 1, 3, 'the name "end" is taken'),
        ("a: {complete: 1}\nb: {complete: 2}", 2, 3, 'step "b" is never reached'),
        ("a: {complete: 1}\na: {complete: 2}", 2, 3, 'the key "a" stands in line 8 already'),
        ("a: {parallel: [a2, a2]}\na2: {complete: 1}", 1, 22, '"a2" stands here twice'),
        (
            "a: {parallel: [b]}\nb: {execute: {action: fail, with: {message: x}}, next: a}",
            2,
            52,
            'runs as a part of "a"',
        ),
        ("a: {execute: {action: fail, with: {message: 3}}}", 1, 47, "valid string"),
        (
            "a: {execute: {model: {prompt: 'say ${input.text}'}}}",
            1,
            38,
            "a prompt is a Jinja template",
        ),
        ("a: {execute: {model: {prompt: 'say {{ evnt.text }}'}}}", 1, 34, '"evnt"'),
        ("a: {execute: {model: {prompt: 'say {{ event.text '}}}", 1, 34, "line 1 of the prompt"),
        ("a: {execute: {model: {prompt: '{{ event.txt }}'}}}", 1, 34, 'event has no "txt"'),
        (
            'a: {execute: {model: {prompt: "{% if event.tags %}\\nx{{ event.gs }}{% endif %}"}}}',
            1,
            34,
            'line 2 of the prompt: event has no "gs"',
        ),
        (
            "a: {execute: {model: {prompt: '{{ b }}'}}, next: b}\nb: {complete: 1}",
            1,
            34,
            '"b" cannot have run before "a"',
        ),
        (
            (
                "a: {execute: {model: {prompt: x, answer: {k: {type: string}}}}, next: b}\n"
                "b: {execute: {model: {prompt: '{{ a.kk }} {{ a.k.upper() }}'}}}"
            ),
            2,
            34,
            'a has no "kk"',
        ),
        ("a: {execute: {model: {prompt: x, answer: Verdict}}}", 1, 44, 'no schema "Verdict"'),
        (
            "a: {execute: {model: {prompt: x, answer: {k: {type: string, minimum: 1}}}}}",
            1,
            48,
            '"minimum" says nothing about type string',
        ),
        ("a: {complete: '${input.text'}", 1, 18, "this is no reference"),
        ("a: {complete: '${input.text.x}'}", 1, 18, 'input.text has no "x"'),
        ("a: {complete: '${variables.x}'}", 1, 18, 'variables has no "x"'),
        ("a: {complete: '${item}'}", 1, 18, "no map runs this step"),
        ("a: {complete: '${a}'}", 1, 18, '"a" cannot have run before "a"'),
        (
            "a: {execute: {action: fail, with: {message: '${b}'}}, next: b}\nb: {complete: 1}",
            1,
            48,
            '"b" cannot have run before "a"',
        ),
        (
            "a: {wait: {seconds: 1}, next: b}\nb: {complete: '${a}'}",
            2,
            18,
            '"a" has no result',
        ),
        (
            (
                "a: {map: {over: '${input.tags}', step: b}, next: c}\n"
                "b: {execute: {action: text.upper, with: {text: x}}}\nc: {complete: '${b}'}"
            ),
            3,
            18,
            '"b" runs in the map "a"',
        ),
        (
            "a: {map: {over: tags, step: b}}\nb: {execute: {action: fail, with: {message: x}}}",
            1,
            19,
            "is not one reference",
        ),
        (
            "a: {condition: [{if: '${input.text} == spam', then: end}, {else: end}]}",
            1,
            42,
            '"spam" is neither a text nor a reference',
        ),
        (
            "a: {condition: [{if: '${input.text} = 1', then: end}, {else: end}]}",
            1,
            39,
            "== compares",
        ),
        (
            (
                "a: {execute: {action: fail, with: {message: x}}, next: b}\n"
                "b: {execute: {action: fail, with: {message: x}}, next: a}"
            ),
            1,
            3,
            "nodes go round in a loop",
        ),
        (
            (
                "a: {execute: {action: fail, with: {message: x}}, next: b}\n"
                "b: {complete: 1}\n"
                "c: {complete: 1}"
            ),
            3,
            3,
            "never reached",
        ),
        (
            (
                "a: {execute: {action: fail, with: {message: x}}, next: b,"
                " loop: {back_to: b, while: 'true', at_most: 2}}\n"
                "b: {complete: 1}"
            ),
            1,
            77,
            "that is no way back",
        ),
    ],
)
def test_one_fault(steps, line, column, message):
    found = faults(steps)
    assert message in told(found)
    first = next(one for one in found if message in one[2])
    assert first[:2] == (line, column), told(found)
    assert len(found) == 1 or "a2" in steps or steps.startswith("1a"), told(found)


@pytest.mark.parametrize(
    ("text", "line", "column", "message"),
    [
        ("", 1, 1, "the card is empty"),
        ("[]", 1, 1, "a card is a mapping"),
        ("a: [", 1, 5, "this is no YAML"),
        ("name: a\nname: b", 2, 1, 'the key "name" stands in line 1 already'),
        (f"{HEAD}{DONE}steps: {{d: {{complete: 1}}}}", 7, 1, 'there is no key "done" here'),
        (HEAD.replace('"1"', "1") + "steps: {d: {complete: 1}}", 2, 10, "must be a text"),
        (HEAD.replace("test.card", "a b") + "steps: {d: {complete: 1}}", 1, 7, "is no name for"),
        (HEAD, 1, 1, '"steps" is missing'),
        (f"{HEAD}priority: 2000\nsteps: {{d: {{complete: 1}}}}", 7, 11, "less than or equal"),
        (f"{HEAD}budget: {{usd: 0}}\nsteps: {{d: {{complete: 1}}}}", 7, 15, "greater than 0"),
        (f"{HEAD}steps: {{d: {{complete: !!python/name:os.system x}}}}", 7, 23, "means nothing"),
        (f"{HEAD}steps: {{d: {{complete: !x y}}}}", 7, 23, "in quotes"),
        (f"{HEAD}steps: {{1: {{complete: 1}}}}", 7, 9, "a key must be a text"),
        (f"{HEAD}x: {'[' * 60}{']' * 60}", 7, 43, "nested deeper"),
        (f"{HEAD}x: {'y' * 300_000}", 1, 1, "at most 256 KB"),
        (HEAD.replace("string", "text", 1) + "steps: {d: {complete: 1}}", 4, 16, "'string'"),
        (
            HEAD.replace("{type: string}", "{type: string, default: 3}", 1)
            + "steps: {d: {complete: 1}}",
            4,
            33,
            "the default does not fit",
        ),
    ],
)
def test_one_fault_of_the_card(text, line, column, message):
    (found, *more) = cards(text).faults
    assert message in str(found)
    assert (found.line, found.column) == (line, column), found
    assert not more


def test_aliases_of_aliases_are_bounded():
    bomb = "a: &a [x, x, x, x, x, x, x, x, x, x]\n" + "".join(
        f"{name}: &{name} [{', '.join([f'*{before}'] * 10)}]\n"
        for before, name in zip("abcdefgh", "bcdefghi", strict=True)
    )
    (found,) = cards(bomb).faults
    assert "more than 20000 values" in found.message
    (found,) = cards("a: &a [*a]").faults
    assert "aliases" in found.message or "recursive" in found.message


async def test_plain_words_stay_texts(run):
    made = card("done:\n  complete: [no, on, 12:30, 2026-01-01, true, null, ~, 1e3, 0x1f, .5]")
    ran = await run(made, {"text": "a"})
    assert ran.output == [
        "no",
        "on",
        "12:30",
        "2026-01-01",
        True,
        None,
        None,
        1000.0,
        "0x1f",
        0.5,
    ]


def test_one_card_is_loaded_by_its_file(tmp_path):
    file = tmp_path / "one.yaml"
    file.write_text(f"{HEAD}steps: {{d: {{complete: 1}}}}")
    assert load_card(file).name == "test.card"
    with pytest.raises(DeclarationError, match="is a folder"):
        load_card(tmp_path)
    with pytest.raises(DeclarationError, match="cannot be read"):
        load_card(tmp_path / "gone.yaml")
    (tmp_path / "empty").mkdir()
    with pytest.raises(DeclarationError, match="has no cards"):
        load_cards(tmp_path / "empty")
    file.write_text(f"{HEAD}steps: {{d: {{complete: '${{x}}'}}}}")
    with pytest.raises(CardError, match=r"one.yaml:7:24: \$\{x\}: there is no step"):
        load_card(file)


def test_two_cards_of_one_name():
    one = f"{HEAD}steps: {{d: {{complete: 1}}}}"
    (found,) = cards(one, one).faults
    assert str(found) == '2.yaml:1:7: the card "test.card" is in 1.yaml already'


def test_cards_that_include_each_other():
    def including(name: str, other: str) -> str:
        head = HEAD.replace("test.card", name)
        steps = f"steps: {{d: {{subprocess: {{pipeline: {other}, with: {{text: a}}}}}}}}"
        return f"{head}{steps}"

    found = cards(including("a", "b"), including("b", "a")).faults
    assert any("a → b → a" in one.message for one in found)
    (found,) = cards(including("a", "a")).faults
    assert "a → a" in found.message


def test_a_card_that_includes_a_broken_one_says_so_and_others_work():
    broken = f"{HEAD}steps: {{d: {{complete: '${{x}}'}}}}"
    above = (
        HEAD.replace("test.card", "above")
        + "steps: {d: {subprocess: {pipeline: test.card, with: {text: a}}}}"
    )
    good = f"{HEAD.replace('test.card', 'good')}steps: {{d: {{complete: 1}}}}"
    made = cards(above, broken, good)
    assert [one.name for one in made.declarations()] == ["good"]
    assert [(one.file, one.line) for one in made.faults] == [("1.yaml", 7), ("2.yaml", 7)]
    with pytest.raises(CardError, match="1.yaml:7") as caught:
        made.proven()
    assert len(caught.value.fields) == 2
    with pytest.raises(CardError):
        made["above"]
    assert made["good"].name == "good"


def test_what_a_pipeline_needs_is_known_before_it_runs():
    inner = HEAD.replace("test.card", "inner") + "steps: {d: {complete: 1}}"
    outer = (
        HEAD.replace("test.card", "outer")
        + "steps: {d: {subprocess: {pipeline: inner, with: {texts: a}}}}"
    )
    found = cards(inner, outer).faults
    assert sorted(one.message for one in found) == [
        'pipeline "inner" needs text',
        'pipeline "inner" takes no "texts"',
    ]
