"""Evol-Instruct played through: every operator, every rule, every way to fail in every round, and whole families."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from selfinstruct.errors import ConfigError, PromptError, Refused
from selfinstruct.recipes.evol_instruct import CODE, GENERAL, OPERATOR_SETS, Options
from selfinstruct.records import Instance, Job, Outcome, Seed, Turn
from selfinstruct.run.state import RunState
from tests.support.recipes import evolution, planned, settled

laws = settings(deadline=None, max_examples=60)

TASK = "Name three rivers of Europe."
ADDS = "For each of them, name the largest town that it flows through."
"""Twelve words: as many as every operator may add."""
CHILD = f"{TASK} {ADDS}"
SISTER = "Rank the canals of Venice by the number of gondolas that pass."
ANSWER = "The Rhine, the Elbe and the Danube."

# -- one round, by each operator
# ----------------------------------------------------------------------------------------------------------------------

OPERATORS = (*GENERAL, *CODE)
LIMITS = {name: [10, 20] for name in GENERAL[:4]} | {
    "code_constraints": [5, 15], "code_rarer": [3, 15], "code_reasoning": [5, 20], "code_complexity": [5, 15],
}  # fmt: skip
FORMS = [("completion", False), ("chat", False), ("chat", True)]


def said(text: str, *, structured: bool) -> str:
    """An evolved task as a model answers it."""
    return json.dumps({"task": text}) if structured else f"#Rewritten Task#\n{text}\n"


def judged(equal: bool, *, structured: bool = False) -> str:
    return json.dumps({"equal": equal}) if structured else ("Equal" if equal else "Not equal")


def ends(asked: Any) -> str:
    """The end of what was asked: where the model goes on."""
    return str(asked.text).rstrip()[-40:]


@pytest.mark.parametrize(("dialect", "structured"), FORMS)
@pytest.mark.parametrize("operator", OPERATORS)
def test_an_operator_evolves_a_task_which_is_judged_and_answered(operator: str, dialect: str, structured: bool) -> None:
    seed = Seed(id="first/2.1", instruction=TASK, instances=(Instance(input="Only in the west.", output="…"),))
    state = evolution(seed, dialect=dialect, structured=structured, operators=operator, rounds=1)
    task, breadth, plain = f"{TASK}\nOnly in the west.", operator == "in_breadth", dialect == "completion"
    child = SISTER if breadth else f"{task} {ADDS}"
    job = planned(state)

    evolved, [answering], asked = settled(state, job, said(child, structured=structured))
    assert evolved.sample is not None, evolved.verdicts
    assert evolved.sample.instruction == child
    meta = {"operator": operator, "round": 1, "depth": 1, "root": "first/2.1", "parent": "first/2.1",
            "evolved_from": task} | ({"added_words": LIMITS[operator]} if operator in LIMITS else {})  # fmt: skip
    assert evolved.sample.meta == meta
    assert [verdict.filter for verdict in evolved.verdicts] == ["elimination", *(["rouge"] if breadth else [])]
    assert task in asked.asked[0].text
    assert asked.asked[0].schema == (TASK_SCHEMA if structured else None)
    assert asked.asked[0].role == "writer"
    for number in LIMITS.get(operator, ()):
        assert f"{number} " in asked.asked[0].text
    if operator == "complicate_input":
        assert job.payload["steps"][0]["data_format"] in asked.asked[0].text

    judging = [] if breadth else [judged(False, structured=structured)]
    answered, follow_ups, answers = settled(state, answering, *judging, f" {ANSWER}\n")
    assert follow_ups == []
    assert answered.sample is not None, answered.verdicts
    assert answered.sample.instances == (Instance(output=ANSWER),)
    assert answered.sample.meta == meta | ({} if breadth else {"judgement": "not_equal"})
    assert (answered.sample.instruction, answered.sample.parent) == (child, "1.1")
    if not breadth:
        judge = answers.asked[0]
        assert judge.role == "judge"
        assert task in judge.text.partition(child)[0]
        assert judge.schema == (EQUAL_SCHEMA if structured else None)
        assert (judge.sampling.temperature, judge.sampling.max_tokens) == (0, 32)
        assert judge.sampling.stop == (("\n",) if plain else ())
    last = answers.asked[-1]
    assert (last.schema, last.role) == (None, "writer")
    for one, stops in ((asked.asked[0], ("\nTask:", "\n\n")), (last, ("\nTask:",))):
        assert (one.sampling.temperature, one.sampling.top_p) == (1.0, 0.9)
        assert one.sampling.max_tokens == (512 if plain else 2048)
        assert one.sampling.stop == (stops if plain else ())
    if plain:
        assert ends(asked.asked[0]).endswith("\nSister task:" if breadth else "\nHarder task:")
        assert ends(last).endswith(f"{child[-30:]}\nAnswer:")
    else:
        assert last.prompt == (Turn(role="user", content=child),)
        assert isinstance(asked.asked[0].prompt, tuple)
        assert [turn.role for turn in asked.asked[0].prompt] == ["system", "user"]


def test_a_task_of_several_paragraphs_may_become_one_of_several() -> None:
    state = evolution("Shorten the letter.\n\nDear Ada, the tide is in.", dialect="completion", operators="deepen")
    _, _, asked = settled(state, planned(state), " Shorten it.")
    assert asked.asked[0].sampling.stop == ("\nTask:",)


TASK_SCHEMA = {
    "type": "object", "properties": {"task": {"type": "string"}}, "required": ["task"], "additionalProperties": False,
}  # fmt: skip
EQUAL_SCHEMA = {
    "type": "object", "properties": {"equal": {"type": "boolean"}}, "required": ["equal"],
    "additionalProperties": False,
}  # fmt: skip


@pytest.mark.parametrize("answer", ['{"task": null}', '{"task": ""}', '{"task": "  "}', '{"other": "x"}'])
def test_a_structured_answer_without_a_task_cannot_be_read(answer: str) -> None:
    state = evolution(TASK, structured=True, operators="deepen")
    outcome, _, _ = settled(state, planned(state), answer)
    assert (outcome.verdicts[-1].reason, outcome.draft.meta["answer"]) == ("unparseable", answer)
    assert outcome.draft.meta["operator"] == "deepen"


def test_a_structured_answer_that_is_no_json_is_taken_as_written() -> None:
    state = evolution(TASK, structured=True, operators="deepen")
    outcome, _, _ = settled(state, planned(state), f"Task: {CHILD}")
    assert outcome.draft.instruction == CHILD


# -- every way to fail, in every round
# ----------------------------------------------------------------------------------------------------------------------

CONTENT = Refused("content_filter", "not that")
ROUNDS = 4
STEPS = [
    "Give their lengths too, in kilometres, and put the longest one first.",
    "Leave out all those that reach the sea in the north of it.",
    "Write it as a table, with one row for every river that you chose.",
    "Say at the end which of them you would sooner travel, and on what.",
]
SISTERS = [
    "Rank the canals of Venice by the number of gondolas that pass.",
    "Tell how a glacier becomes a lake with turquoise water.",
    "Which deserts once were the floor of an ocean, and since when?",
    "Draft rules for a race of paper boats down a gutter.",
]


def child_of(job: Job) -> str:
    """An evolution of a job's task that passes, another in every round."""
    number = job.payload["round"] - 1
    breadth = job.payload["steps"][0]["operator"] == "in_breadth"
    return SISTERS[number] if breadth else f"{job.payload['task']} {STEPS[number]}"


EVOLVING: dict[str, tuple[Any, str]] = {
    "empty": (lambda job: "", "empty_answer"),
    "blank": (lambda job: " \n", "empty_answer"),
    "nothing but a heading": (lambda job: "#Rewritten Task#\n", "unparseable"),
    "nothing but a thought": (lambda job: "<think>Hm.</think>", "unparseable"),
    "a thought that was cut": (lambda job: ("<think>Hm, what", "length"), "truncated"),
    "truncated": (lambda job: (child_of(job), "length"), "truncated"),
    "leaked": (lambda job: f"{child_of(job)} #Given Prompt#", "leaked_prompt"),
    "unchanged": (lambda job: f"{job.payload['task'].upper()}!", "no_information_gain"),
    "refused by the server": (lambda job: CONTENT, "refused_by_server"),
    "too long for the server": (lambda job: Refused("prompt_too_long", "too long"), "refused_by_server"),
}
IN_DEPTH: dict[str, tuple[Any, str]] = {
    "too few words": (lambda job: "Name them.", "too_few_added_words"),
    "too many words": (lambda job: f"{child_of(job)} {' '.join(['more'] * 30)}", "too_many_added_words"),
}
IN_BREADTH: dict[str, tuple[Any, str]] = {
    "near-duplicate of a seed": (lambda job: "Name five rivers of Europe.", "near_duplicate"),
}
ANSWERING: dict[str, tuple[list[Any], str]] = {
    "refusal": (["I am sorry, I know no rivers."], "refusal"),
    "no content": (["It is …"], "no_content"),
    "no answer": ([""], "no_content"),
    "answer cut": ([("The Rhine, the", "length")], "truncated"),
    "answer refused by the server": ([CONTENT], "refused_by_server"),
}
JUDGING: dict[str, tuple[list[Any], str]] = (
    {
        "equal": (["Equal"], "no_information_gain"),
        "judge refused by the server": ([CONTENT], "refused_by_server"),
    }
    | {name: (["Not equal", *answers], reason) for name, (answers, reason) in ANSWERING.items()}
    | {f"unclear and {name}": (["Hm.", *answers], reason) for name, (answers, reason) in ANSWERING.items()}
)
OUTCOMES = {
    "deepen": ([*EVOLVING, *IN_DEPTH, *JUDGING], ["passed", "unclear_judgement"]),
    "in_breadth": ([*EVOLVING, *IN_BREADTH, *ANSWERING], ["passed"]),
}
"""Of an operator of each kind: every way to fail, and every way to be kept."""


def a_round(state: RunState, job: Job, way: str) -> tuple[list[Outcome], list[Job]]:
    """Play one round of a family: its outcomes, and what follows from the last."""
    breadth = job.payload["steps"][0]["operator"] == "in_breadth"
    ways = EVOLVING | (IN_BREADTH if breadth else IN_DEPTH)
    if way in ways:
        outcome, follow_ups, _ = settled(state, job, ways[way][0](job))
        assert outcome.verdicts[-1].reason == ways[way][1]
        return [outcome], follow_ups
    evolved, [answering], _ = settled(state, job, child_of(job))
    kept = {"passed": "Not equal", "unclear_judgement": "Equally hard, I suppose."}
    if way in kept:
        answers, reason = [kept[way], ANSWER][breadth:], way
    else:
        answers, reason = (ANSWERING if breadth else JUDGING)[way]
    answered, follow_ups, _ = settled(state, answering, *answers)
    assert answered.verdicts[-1].reason == reason
    assert (answered.sample is not None) is (way in kept)
    return [evolved, answered], follow_ups


@pytest.mark.parametrize("fails", range(1, ROUNDS + 1))
@pytest.mark.parametrize(("operator", "way"), [(name, way) for name, (ways, _) in OUTCOMES.items() for way in ways])
def test_what_fails_in_a_round_gives_way_to_its_parent(operator: str, way: str, fails: int) -> None:
    state = evolution(TASK, operators=operator, rounds=ROUNDS)
    job = planned(state)
    for _ in range(1, fails):
        _, [job] = a_round(state, job, "passed")
    before, kept = job.payload, state.tasks
    outcomes, follow_ups = a_round(state, job, way)
    assert outcomes[-1].sample is None
    assert state.tasks == kept
    assert outcomes[-1].draft.meta["round"] == fails
    if fails == ROUNDS:
        assert follow_ups == []
        return
    [after] = follow_ups
    live = ("root", "member", "depth", "task")
    assert after.shown == job.shown
    assert {key: after.payload[key] for key in live} == {key: before[key] for key in live}
    assert (after.stage, after.parent, after.payload["round"]) == ("evolve", job.parent, fails + 1)
    assert after.payload["steps"] == before["steps"][1:]
    assert a_round(state, after, "passed")[0][-1].sample is not None


@laws
@given(data=st.data(), rounds=st.integers(1, ROUNDS), seed=st.integers(0, 2**32))
def test_a_family_evolves_once_a_round_whatever_becomes_of_it(data: st.DataObject, rounds: int, seed: int) -> None:
    state = evolution(TASK, operators=["deepen", "in_breadth"], rounds=rounds, seed=seed)
    job, members = planned(state), [("s1", TASK)]
    assert len(job.payload["steps"]) == rounds
    for number in range(1, rounds + 1):
        member, task = members[-1]
        assert job.stage == "evolve"
        assert set(job.payload) == {"root", "member", "depth", "task", "round", "steps"}
        assert (job.payload["round"], job.payload["depth"]) == (number, len(members) - 1)
        assert (job.payload["member"], job.payload["task"]) == (member, task)
        assert job.parent == (None if member == "s1" else member)
        fails, keeps = OUTCOMES[job.payload["steps"][0]["operator"]]
        outcomes, follow_ups = a_round(state, job, data.draw(st.sampled_from([*fails, *keeps * 6])))
        for outcome in outcomes:
            meta = outcome.draft.meta
            assert (meta["root"], meta["parent"], meta["evolved_from"]) == ("s1", member, task)
            assert (meta["round"], meta["depth"]) == (number, len(members))
            assert meta["operator"] == job.payload["steps"][0]["operator"]
        if (child := outcomes[-1].sample) is not None:
            members.append((child.id, child.instruction))
        assert len(follow_ups) == (number < rounds)
        job = follow_ups[0] if follow_ups else job
    assert state.taper.tallies["evolve"].done == rounds == state.extent
    assert state.tasks == len(members) - 1
    assert state.spent


def test_a_refusal_that_is_about_the_server_fails_the_job() -> None:
    state = evolution(TASK, operators="deepen")
    job = planned(state)
    with pytest.raises(Refused, match="bad request"):
        settled(state, job, Refused("bad_request", "bad request"))


def test_what_the_server_said_of_a_refused_task_is_told() -> None:
    state = evolution(TASK, operators="deepen")
    outcome, [after], _ = settled(state, planned(state), CONTENT)
    assert (outcome.draft.instruction, outcome.draft.meta["answer"]) == ("", "not that")
    _, [answering], _ = settled(state, after, CHILD)
    outcome, _, _ = settled(state, answering, CONTENT)
    assert (outcome.draft.stage, outcome.draft.instruction) == ("answer", CHILD)


def test_the_answer_to_what_is_equal_is_not_asked_for() -> None:
    state = evolution(TASK, operators="deepen", rounds=1)
    _, [answering], _ = settled(state, planned(state), CHILD)
    outcome, _, ask = settled(state, answering, "They are equal.")
    assert [one.role for one in ask.asked] == ["judge"]
    assert (outcome.draft.instruction, outcome.draft.instances) == (CHILD, ())


def test_an_in_breadth_child_is_compared_with_the_whole_pool() -> None:
    other = "Tell how a glacier becomes a lake with turquoise water."
    state = evolution(TASK, other, operators="in_breadth", rounds=1)
    first, second = planned(state), planned(state)
    _, [_], _ = settled(state, first, SISTER)
    outcome, _, _ = settled(state, second, f"{SISTER[:-1]} by!")
    assert outcome.verdicts[-1].reason == "near_duplicate"
    assert outcome.verdicts[-1].detail["of"] == "1.1"
    state = evolution(TASK, other, operators="in_breadth", rounds=1)
    outcome, _, _ = settled(state, planned(state), other)
    assert outcome.verdicts[-1].detail == {"of": "s2", "score": 1.0}


def test_an_in_depth_child_may_be_as_like_the_pool_as_its_parent_is() -> None:
    state = evolution(TASK, CHILD, operators="deepen", rounds=1)
    outcome, _, _ = settled(state, planned(state), CHILD)
    assert outcome.sample is not None


# -- planning
# ----------------------------------------------------------------------------------------------------------------------


def drawn(count: int = 2000, **options: Any) -> Counter[str]:
    """The operators of so many steps."""
    state = evolution(*(f"Do {i}." for i in range(count // 4)), rounds=4, **options)
    jobs = [planned(state) for _ in range(count // 4)]
    assert state.plan() is None, "every seed is planned once"
    return Counter(step["operator"] for job in jobs for step in job.payload["steps"])


@pytest.mark.parametrize(
    ("operators", "shares"),
    [
        ("general", dict.fromkeys(GENERAL, 1 / 6)),
        ("code", {**dict.fromkeys(CODE, 1 / 4.5), "code_complexity": 0.5 / 4.5}),
        ("deepen", {"deepen": 1.0}),
        (["deepen", "in_breadth"], {"deepen": 0.5, "in_breadth": 0.5}),
        ({"deepen": 3, "in_breadth": 1, "code_rarer": 0}, {"deepen": 0.75, "in_breadth": 0.25}),
    ],
    ids=str,
)
def test_operators_are_drawn_by_their_weights(operators: Any, shares: dict[str, float]) -> None:
    found = drawn(operators=operators)
    assert set(found) == set(shares)
    for name, share in shares.items():
        # Four standard deviations of 2,000 draws are less than this.
        assert abs(found[name] / found.total() - share) < 0.045, name


def test_operators_are_drawn_for_all_rounds_when_the_root_is_planned_and_again_alike() -> None:
    one, other = evolution(TASK, SISTER, rounds=9), evolution(TASK, SISTER, rounds=9)
    steps = [planned(one).payload["steps"], planned(one).payload["steps"]]
    assert steps == [planned(other).payload["steps"], planned(other).payload["steps"]]
    assert steps[0] != steps[1]
    assert steps[0] != planned(evolution(TASK, rounds=9, seed=7)).payload["steps"]


def test_formats_of_data_are_drawn_evenly_from_those_given() -> None:
    state = evolution(TASK, operators="complicate_input", rounds=600, data_formats=["a TOML file", "a chess diagram"])
    formats = Counter(step["data_format"] for step in planned(state).payload["steps"])
    assert set(formats) == {"a TOML file", "a chess diagram"}
    assert min(formats.values()) > 240


def test_only_an_operator_that_uses_a_format_of_data_is_given_one() -> None:
    steps = planned(evolution(TASK, rounds=60)).payload["steps"]
    assert {name: "data_format" in step for step in steps for name in [step["operator"]]} == {
        name: name == "complicate_input" for name in GENERAL
    }


def test_a_run_plans_every_seed_once_and_ends() -> None:
    state = evolution(TASK, SISTER, rounds=3)
    assert state.extent == 6
    jobs = [state.plan(), state.plan(), state.plan()]
    assert [job and (job.number, job.stage, job.parent, list(job.shown)) for job in jobs] == [
        (1, "evolve", None, ["s1"]), (2, "evolve", None, ["s2"]), None,
    ]  # fmt: skip


# -- what is evolved
# ----------------------------------------------------------------------------------------------------------------------


def given_to(*instances: Instance, **options: Any) -> str:
    """The task that instruction and instances are evolved as."""
    state = evolution(Seed(id="s", instruction=" Sort it.\n", instances=instances), **options)
    return str(planned(state).payload["task"])


RELEASED = {"strict": "released"}


@pytest.mark.parametrize(
    ("instances", "options", "task"),
    [
        ((), {}, "Sort it."),
        ((), RELEASED, "Sort it.\r\n"),
        ((Instance(input="", output="x"),), {}, "Sort it."),
        ((Instance(input="", output="x"),), RELEASED, "Sort it.\r\n"),
        ((Instance(input=" b a\n", output="a b"),), {}, "Sort it.\nb a"),
        ((Instance(input="b a", output="a b"),), RELEASED, "Sort it.\r\nb a"),
        ((Instance(input="b a", output="a b"),), {"strict": "paper"}, "Sort it.\r\nb a"),
        ((Instance(input="b a", output="a b"), Instance(input="d c", output="c d")), {}, "Sort it.\nb a"),
    ],
    ids=str,
)
def test_instruction_and_input_are_joined_before_evolving(
    instances: tuple[Instance, ...], options: dict[str, Any], task: str
) -> None:
    assert given_to(*instances, **options) == task


def test_each_input_of_a_task_is_the_root_of_a_family() -> None:
    inputs = ("b a", "d c", "b a", "")
    seed = Seed(
        id="s",
        instruction="Sort it.",
        instances=tuple(Instance(input=text, output=str(i)) for i, text in enumerate(inputs)),
    )
    state = evolution(seed, TASK, rounds=1)
    payloads = {job.payload["root"]: job.payload["task"] for job in (planned(state) for _ in range(4))}
    assert state.plan() is None
    assert sorted(payloads) == ["s/1", "s/2", "s/3", "s2"]
    assert sorted(payloads.values()) == ["Name three rivers of Europe.", "Sort it.", "Sort it.\nb a", "Sort it.\nd c"]
    assert [
        seed.instances[0].output for seed in state.pool.seeds if seed.instances[:1] and "b a" in seed.instances[0].input
    ] == ["0"]


def test_the_only_input_of_a_task_leaves_its_name_as_it_is() -> None:
    seed = Seed(
        id="s", instruction="Sort it.", instances=(Instance(input="b a", output="1"), Instance(input="b a", output="2"))
    )
    [root] = evolution(seed).pool.seeds
    assert (root.id, root.instances) == ("s", (Instance(input="b a", output="1"),))


# -- as it was published
# ----------------------------------------------------------------------------------------------------------------------


def test_as_the_repository_ran() -> None:
    state = evolution(TASK, strict="released")
    options = Options(strict="released")
    assert (options.rounds, options.elimination) == (1, False)
    assert options.operators == dict.fromkeys([name for name in GENERAL if name != "complicate_input"], 1.0)
    assert (options.sampling.temperature, options.sampling.top_p) == (1.0, 0.95)
    assert (options.answer.temperature, options.answer.top_p) == (1.0, 0.95)
    assert not any(options.switches.model_dump().values())
    assert state.config.filters == {}
    job = planned(state)
    assert len(job.payload["steps"]) == 1
    outcome, [answering], ask = settled(state, job, "")
    assert ask.asked[0].sampling.max_tokens == 2048
    assert outcome.sample is not None, "it stored nothing and answered that"
    answered, none, ask = settled(state, answering, "Sorry?")
    assert [one.role for one in ask.asked] == ["writer"]
    assert answered.sample is not None
    assert [verdict.filter for verdict in (*outcome.verdicts, *answered.verdicts)] == ["none", "none"]
    assert none == []


KEPT_IN_1 = {
    "as it came": f"#Rewritten Prompt#:\n{CHILD}", "equal": TASK, "leaked": f"{CHILD} given prompt",
    "far too long": " ".join(["more"] * 99), "a thought": f"<think>Hm.</think>{CHILD}", "cut": (CHILD, "length"),
}  # fmt: skip


@pytest.mark.parametrize("answer", KEPT_IN_1.values(), ids=KEPT_IN_1)
def test_the_repository_kept_whatever_came(answer: Any) -> None:
    state = evolution(TASK, strict="released", operators="deepen")
    outcome, [answering], _ = settled(state, planned(state), answer)
    assert outcome.sample is not None
    assert outcome.sample.instruction == (answer if isinstance(answer, str) else answer[0])
    answered, _, _ = settled(state, answering, ("  Sorry, the", "length"))
    assert answered.sample is not None
    assert answered.sample.instances == (Instance(output="  Sorry, the"),)


def test_as_the_paper_tells() -> None:
    options = Options(strict="paper")
    assert (options.rounds, options.elimination) == (4, True)
    assert options.operators == OPERATOR_SETS["general"]
    assert (options.sampling.temperature, options.sampling.top_p) == (1.0, 0.9)
    assert not any(options.switches.model_dump().values())
    state = evolution(TASK, strict="paper")
    assert list(state.config.filters) == ["elimination"]
    on = {name for name, value in state.config.filters["elimination"].items() if value is True}
    assert on == {"information_gain", "content"}
    assert (state.config.filters["elimination"]["refusal_words"], len(planned(state).payload["steps"])) == (80, 4)


PAPER: dict[str, tuple[Any, list[Any], str]] = {
    "rule 1": (CHILD, ["Equal"], "no_information_gain"),
    "rule 1, asked of what is unchanged too": (TASK, ["Equal"], "no_information_gain"),
    "rule 2": (CHILD, ["Not equal", "Sorry."], "refusal"),
    "rule 3": (CHILD, ["Not equal", "It is."], "no_content"),
    "rule 4": (f"{CHILD} #Given Prompt#", [], "leaked_prompt"),
    "no other rule: unchanged": (TASK, ["Not equal", ANSWER], "passed"),
    "no other rule: too short": ("Name.", ["Not equal", ANSWER], "passed"),
    "no other rule: too long": (f"{CHILD} {' '.join(['more'] * 40)}", ["Not equal", ANSWER], "passed"),
    "no other rule: cut": ((CHILD, "length"), ["Not equal", ("The Rhine and", "length")], "passed"),
}


@pytest.mark.parametrize(("child", "answers", "reason"), PAPER.values(), ids=PAPER)
@pytest.mark.parametrize("operator", ["deepen", "in_breadth"])
def test_the_paper_has_four_rules(operator: str, child: Any, answers: list[Any], reason: str) -> None:
    state = evolution(TASK, strict="paper", operators=operator)
    outcome, follow_ups, _ = settled(state, planned(state), child)
    if answers:
        outcome, follow_ups, _ = settled(state, follow_ups[0], *answers)
    assert outcome.verdicts[-1].reason == reason


def test_the_papers_rule_4_knows_no_parent() -> None:
    state = evolution("Improve the given prompt.", strict="paper", operators="deepen")
    outcome, _, _ = settled(state, planned(state), "Improve the given prompt in one sentence.")
    assert outcome.verdicts[-1].reason == "leaked_prompt"


@pytest.mark.parametrize("strict", ["released", "paper"])
def test_what_is_set_beside_strict_wins(strict: str) -> None:
    options = Options(strict=strict, rounds=3, operators="code", sampling={"temperature": 0.5})  # type: ignore[arg-type]
    assert (options.rounds, options.operators) == (3, OPERATOR_SETS["code"])
    assert options.sampling.temperature == 0.5
    assert options.sampling.top_p == {"released": 0.95, "paper": 0.9}[strict]


# -- operators of one's own
# ----------------------------------------------------------------------------------------------------------------------


def own_operator(folder: Path, front: str, text: str = "{{ instruction }}, as a haiku.", name: str = "haiku") -> Path:
    """A prompts folder with one operator."""
    path = folder / "evol-instruct" / "operators" / f"{name}.chat.md"
    path.parent.mkdir(parents=True)
    path.write_text(f'+++\npurpose = "p"\nsource = "s"\n{front}\n+++\n=== user\n{text}\n', encoding="utf-8")
    return folder


def test_an_operator_is_a_file_and_a_name(tmp_path: Path) -> None:
    front = 'variables = ["instruction"]\nevolution = "depth"\nadded_words = [1, 2]'
    folder = own_operator(tmp_path, front)
    state = evolution(TASK, prompts=folder, operators={"haiku": 1}, filters={"elimination": {"tolerance": 0}}, rounds=2)
    outcome, [after], ask = settled(state, planned(state), CHILD)
    assert ask.asked[0].prompt == (Turn(role="user", content=f"{TASK}, as a haiku."),)
    assert outcome.verdicts[-1].reason == "too_many_added_words"
    outcome, _, _ = settled(state, after, f"{TASK[:-1]}, rhymed.")
    assert outcome.sample is not None
    assert outcome.sample.meta["added_words"] == [1, 2]


def test_an_operator_of_ones_own_may_take_every_variable_and_work_in_breadth(tmp_path: Path) -> None:
    names = ["instruction", "fewest", "most", "data_format", "structured"]
    folder = own_operator(
        tmp_path, f'variables = {names}\nevolution = "breadth"', " ".join(f"{{{{ {name} }}}}" for name in names)
    )
    state = evolution(TASK, prompts=folder, operators="haiku", data_formats=["a song"])
    outcome, [answering], ask = settled(state, planned(state), SISTER)
    assert ask.asked[0].text == f"{TASK} 0 0 a song False"
    assert [verdict.filter for verdict in outcome.verdicts] == ["elimination", "rouge"]
    assert settled(state, answering, ANSWER)[0].sample is not None, "the judge is not asked"


def test_a_prompt_of_ones_own_takes_the_place_of_one_that_ships(tmp_path: Path) -> None:
    folder = own_operator(tmp_path, 'variables = ["instruction"]\nevolution = "depth"', name="deepen")
    _, _, ask = settled(state := evolution(TASK, prompts=folder, operators="deepen"), planned(state), CHILD)
    assert ask.asked[0].text == f"{TASK}, as a haiku."


NAMES = ("instruction", "fewest", "most", "data_format", "structured")
BROKEN = {
    "no evolution": (
        'variables = ["instruction"]', "{{ instruction }}",
        'prompt operators/haiku: an operator says evolution = "depth" or "breadth" in its front matter',
    ),
    "another evolution": (
        'variables = ["instruction"]\nevolution = "sideways"', "{{ instruction }}",
        "haiku.chat.md: front matter: `evolution` = 'sideways': input should be 'depth' or 'breadth'",
    ),
    "unknown variables": (
        'variables = ["instruction", "mood", "year"]\nevolution = "depth"', "{{ instruction }} {{ mood }} {{ year }}",
        f"prompt operators/haiku: uses mood, year, which the recipe does not give; it gives {', '.join(NAMES)}",
    ),
    "a variable that is not declared": (
        'variables = ["instruction"]\nevolution = "depth"', "{{ instruction }} {{ mood }}",
        "haiku.chat.md: declares ['instruction'] but uses ['instruction', 'mood']: name the same variables in both",
    ),
    "words that are no two numbers": (
        'variables = ["instruction"]\nevolution = "depth"\nadded_words = [3]', "{{ instruction }}",
        "haiku.chat.md: front matter: `added_words.1` is missing",
    ),
}  # fmt: skip


@pytest.mark.parametrize(("front", "text", "message"), BROKEN.values(), ids=BROKEN)
def test_an_operator_that_cannot_be_used_is_one_line(front: str, text: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(PromptError) as raised:
        evolution(TASK, prompts=own_operator(tmp_path, front, text), operators="haiku")
    assert str(raised.value).removeprefix(f"{tmp_path}/evol-instruct/operators/") == message


# -- options that cannot be
# ----------------------------------------------------------------------------------------------------------------------

KNOWN = ", ".join(sorted(OPERATORS))
NOTHING = (
    "recipe evol-instruct: `operators`: the weights of the operators sum to nothing: give one of them a weight above 0"
)
WRONG: dict[str, tuple[dict[str, Any], str]] = {
    "unknown operator": ({"operators": ["deepn"]}, f"unknown operator 'deepn'; did you mean deepen? known: {KNOWN}"),
    "a set in a list": ({"operators": ["general", "deepen"]}, f"unknown operator 'general'; known: {KNOWN}"),
    "no operator": (
        {"operators": []},
        NOTHING,
    ),
    "weights of nothing": (
        {"operators": {"deepen": 0, "in_breadth": 0.0}},
        NOTHING,
    ),
    "a negative weight": (
        {"operators": {"deepen": -1}},
        "recipe evol-instruct: `operators.deepen` = -1: input should be greater than or equal to 0",
    ),
    "an endless weight": (
        {"operators": {"deepen": float("inf")}},
        "recipe evol-instruct: `operators.deepen` = inf: input should be a finite number",
    ),
    "a weight in words": (
        {"operators": {"deepen": "much"}},
        "recipe evol-instruct: `operators.deepen` = 'much': input should be a valid number",
    ),
    "no rounds": ({"rounds": 0}, "recipe evol-instruct: `rounds` = 0: input should be greater than or equal to 1"),
    "no format of data": (
        {"data_formats": []},
        "recipe evol-instruct: `data_formats` = []: tuple should have at least 1 item after validation, not 0",
    ),
    "strict": ({"strict": True}, 'recipe evol-instruct: strict of evol-instruct is "released" or "paper"'),
    "strict by another name": (
        {"strict": "published"},
        "recipe evol-instruct: `strict` = 'published': input should be False, 'released' or 'paper'",
    ),
    "a switch beside strict": (
        {"strict": "paper", "switches": {"tidy": True}},
        "recipe evol-instruct: strict turns every switch off, but switches.tidy is on: drop one of the two",
    ),
    "an unknown option": ({"round": 3}, "recipe evol-instruct: unknown key `round`; did you mean `rounds`?"),
}


@pytest.mark.parametrize(("options", "message"), WRONG.values(), ids=WRONG)
def test_an_option_that_cannot_be_is_one_line(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError) as raised:
        evolution(TASK, **options)
    assert str(raised.value) == message


def test_strict_asks_in_chat_only() -> None:
    with pytest.raises(ConfigError, match=r"the published code asks in chat, but .* add --dialect chat"):
        evolution(TASK, dialect="completion", strict="paper")
