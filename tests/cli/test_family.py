"""An evolution looked at: families drawn, survivors by round, operators by reason; the same while it runs."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from selfinstruct.cli.survivors import Survivors, told_judgements

from selfinstruct.records import Outcome, Verdict
from selfinstruct.store.ledger import Ledger
from tests.cli.conftest import Say
from tests.support.cli import INSTRUCTIONS, SEEDS, Said, write

RIVERS, WORD, DINNER = (str(seed["instruction"]) for seed in SEEDS[:3])
BORDERS = "Name three rivers of Europe that form a border, and say since which treaty each of them does."
FLOODS = f"{BORDERS} Tell how their floods have moved it since then."
LETTERS = "Spell the word backwards, one letter after another."
MIRROR = "Spell the word \x1b[31mbackwards, letter by letter, and say which letters look alike in a mirror."
GUESTS = "Plan a dinner without rice for six guests, two of whom eat no fish and one of whom comes late."


def evolved(task: str, *answers: str) -> list[Any]:
    """What the model makes of a task, one time after another, by whichever operator."""
    return [{"when": f"\n\nTask: {task}\n", "text": f" {text}"} for text in answers]


def judged(task: str, said: str) -> dict[str, str]:
    return {"when": f"Second task: {task}\nVerdict:", "text": f" {said}"}


def answered(task: str, text: str, **more: str) -> dict[str, str]:
    return {"when": f"Task: {task}\nAnswer:", "text": text, **more}


SCRIPT = [
    judged(BORDERS, "Not equal"), judged(FLOODS, "Hm."), judged(LETTERS, "Equal"), judged(MIRROR, "Hm."),
    judged(GUESTS, "Hm."), answered(BORDERS, "The Rhine, the Oder and the Danube."), answered(FLOODS, "Sorry, no."),
    answered(MIRROR, "A, H, I, M and O."), answered(GUESTS, "no more today", fault="refused"),
    *evolved(RIVERS, BORDERS), *evolved(BORDERS, "Name three rivers of Europe!", FLOODS),
    *evolved(WORD, LETTERS, f"{WORD} {'More and more of it. ' * 9}", MIRROR), *evolved(DINNER, GUESTS),
]  # fmt: skip

FLAGS = ("--rounds", "3", "--operators", "deepen,in_breadth", "--concurrency", "1", "--seed", "10", "--quiet")


@pytest.fixture
def evolution(here: Path, selfinstruct: Say) -> Said:
    """A run named `evolved` of three families: one answer refused, one child too near, one equal to its parent, one too
    long, one job failed, two kept; the judge seldom says anything clear."""
    script, source = write(here, "script.jsonl", SCRIPT), write(here, "three.jsonl", SEEDS[:3])
    return selfinstruct("evolve", source, "--script", script, "--run", "evolved", *FLAGS)


FIRST = f"""\
s0  {RIVERS}
└── round 1 · in_breadth · 1.1  {BORDERS}
    kept with answer 2.1
    ├── round 2 · in_breadth · 3.1  Name three rivers of Europe!
    │   dropped by rouge: near_duplicate (1.000 like s0)
    └── round 3 · deepen · 4.1  {FLOODS}
        answer 5.1 dropped by elimination: refusal (marker: sorry, words: 2)

"""
SECOND = f"""\
s1  {WORD}
├── round 1 · deepen · 6.1  {LETTERS}
│   answer 7.1 dropped by elimination: no_information_gain (judgement: equal)
├── round 2 · deepen · 8.1  {WORD}{" More and more of it." * 6} More …
│   dropped by elimination: too_many_added_words (added: 45, most: 20)
└── round 3 · deepen · 9.1  {MIRROR.replace(chr(27), "␛")}
    kept with answer 10.1; the judge gave no clear word

"""
THIRD = f"""\
s2  {DINNER}
└── round 1 · deepen · 11.1  {GUESTS}
    answer of job 12 failed: refused: no more today

"""


# -- show --tree ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("id", ["s0", "1.1", "2.1", "3.1", "4.1", "5.1"])
def test_a_tree_shows_the_family_and_where_what_was_asked_for_stands(
    evolution: Said, selfinstruct: Say, id: str
) -> None:
    marked = re.sub(rf"(?m)(^|answer |· ){id}(?= )|(?<=answer ){id}$", rf"\g<1>▶ {id}", FIRST)
    assert marked.count("▶") == 1
    assert selfinstruct("show", "evolved", id, "--tree") == (0, marked, "")


def test_a_tree_for_each_family_that_was_asked_about(evolution: Said, selfinstruct: Say) -> None:
    trees = selfinstruct("show", "evolved", "s1", "s2", "10.1", "11.1", "--tree").out
    assert trees.replace("▶ ", "") == SECOND + THIRD
    assert re.findall(r"▶ ([^\s;]+)", trees) == ["s1", "10.1", "s2", "11.1"]


def test_without_ids_the_trees_of_the_latest_tasks(evolution: Said, selfinstruct: Say) -> None:
    assert selfinstruct("show", "evolved", "--tree").out.replace("▶ ", "") == FIRST + SECOND
    assert selfinstruct("show", "evolved", "--tree", "-n", "1").out.replace("▶ ", "") == SECOND


def test_a_tree_of_nothing_says_what_ids_look_like(evolution: Said, selfinstruct: Say) -> None:
    assert selfinstruct("show", "evolved", "s1", "12.1", "--tree") == (
        2, "", "selfinstruct: outputs/evolved: no draft or seed 12.1; drafts look like 17.3, seeds like s0\n",
    )  # fmt: skip
    said = selfinstruct("show", "evolved", "s1", "--tree", "--prompts")
    assert (said.code, said.out) == (2, "")
    assert said.err.startswith("selfinstruct: --tree draws no prompts: leave out one of --tree and --prompts;")


def test_a_tree_says_what_is_not_done_yet(here: Path, selfinstruct: Say) -> None:
    script, source = write(here, "script.jsonl", SCRIPT), write(here, "three.jsonl", SEEDS[:3])
    selfinstruct("evolve", source, "--script", script, "--run", "evolved", *FLAGS, "-n", "1")
    assert (
        selfinstruct("show", "evolved", "s0", "s1", "--tree").out
        == f"""\
▶ s0  {RIVERS}
└── round 1 · in_breadth · 1.1  {BORDERS}
    kept with answer 2.1
    └── round 2 · in_breadth · job 3
        not done yet

▶ s1  {WORD}
nothing has been evolved from it

"""
    )


def test_a_tree_in_json_is_nested(evolution: Said, selfinstruct: Say) -> None:
    family = json.loads(selfinstruct("show", "evolved", "3.1", "--tree", "--json").out)
    [first] = family.pop("children")
    assert family == {"asked": ["3.1"], "id": "s0", "stage": "seed", "instruction": RIVERS}
    second, third = first.pop("children")
    assert first == {
        "round": 1, "operator": "in_breadth", "job": 1, "stage": "evolve", "state": "kept", "id": "1.1",
        "instruction": BORDERS, "outputs": [], "filter": "rouge", "reason": "passed", "detail": {},
        "answer": {
            "job": 2, "stage": "answer", "state": "kept", "id": "2.1", "instruction": BORDERS,
            "outputs": ["The Rhine, the Oder and the Danube."],
            "filter": "elimination", "reason": "passed", "detail": {},
        },
    }  # fmt: skip
    assert (second["reason"], second["detail"], second["answer"]) == (
        "near_duplicate",
        {"of": "s0", "score": 1.0},
        None,
    )
    assert (third["answer"]["reason"], third["answer"]["judgement"], third["children"]) == ("refusal", "unclear", [])
    [failed] = json.loads(selfinstruct("show", "evolved", "s2", "--tree", "--json").out)["children"]
    assert failed["answer"] == {"job": 12, "stage": "answer", "state": "failed", "error": "refused: no more today"}


def test_in_other_runs_a_tree_is_the_way_from_the_first_job(first: Said, selfinstruct: Say) -> None:
    tide = INSTRUCTIONS[0]
    told = selfinstruct("show", "first", "2.1", "1.3", "s0", "--tree").out
    assert (
        re.sub("showed s.*", "showed …", told)
        == f"""\
job 1 · instructions · 1.1  {tide}
kept; its prompt showed …
└── job 2 · instances · ▶ 2.1  {tide}
    kept

job 1 · instructions · ▶ 1.3  Name three rivers of Europe!
dropped by rouge: near_duplicate (1.000 like s0); its prompt showed …

▶ s0  Name three rivers of Europe.
nothing has been evolved from it

"""
    )
    way = json.loads(selfinstruct("show", "first", "2.1", "--tree", "--json").out)
    assert (way["id"], sorted(way["shown"]), way["children"][0]["id"]) == ("1.1", [f"s{i}" for i in range(8)], "2.1")


def test_on_a_terminal_a_tree_is_coloured_and_stays_within_its_width(
    evolution: Said, selfinstruct: Say, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("COLUMNS", "60")
    told = selfinstruct("show", "evolved", "10.1", "--tree").out
    assert "\x1b[32mkept with answer ▶ 10.1" in told
    plain = re.sub(r"\x1b\[[\d;]*m", "", told)
    assert "\x1b" not in plain
    assert max(map(len, plain.splitlines())) <= 60
    assert "└── round 3 · deepen · 9.1  Spell the word ␛[31mbackwards, …\n" in plain
    monkeypatch.setenv("NO_COLOR", "1")
    assert "\x1b[32m" not in selfinstruct("show", "evolved", "10.1", "--tree").out


# -- status -----------------------------------------------------------------------------------------------------------

STATUS = """\
outputs/evolved: 2 tasks kept, complete
  recipe evol-instruct, model scripted
  evolve: 7 drafts, 5 kept
  answer: 4 drafts, 2 kept
    dropped 1 × no_information_gain (elimination, answer)
    dropped 1 × refusal (elimination, answer)
    dropped 1 × too_many_added_words (elimination, evolve)
    dropped 1 × near_duplicate (rouge, evolve)
  jobs: evolve settled 7, answer settled 4, answer failed 1
  failed: refused 1; `selfinstruct retry outputs/evolved` asks again
  the judge gave no clear word in 2 of 3: unclear 2, equal 1
  15 answers, 3,232 tokens in (0 from cache), 165 out; no cost
  outputs/evolved/export/alpaca.json
  outputs/evolved/export/alpaca.jsonl
  outputs/evolved/export/axolotl.yaml
  outputs/evolved/export/dataset_info.json
  outputs/evolved/export/samples.jsonl

  round  evolved  kept  eliminated  undecided  share
      1        3     1           1          1    50%
      2        2     0           2          0     0%
      3        2     1           1          0    50%

                                                     too
                                      no            many
                             information           added       near
  operator    evolved  kept         gain  refusal  words  duplicate
  deepen            5     1            1        1      1          0
  in_breadth        2     1            0        0      0          1
"""


def test_status_of_an_evolution_tells_survivors_operators_and_what_the_judge_said(
    evolution: Said, selfinstruct: Say
) -> None:
    assert selfinstruct("status", "evolved").out == STATUS


def test_status_of_an_evolution_in_json_has_the_same_facts(evolution: Said, selfinstruct: Say) -> None:
    facts = json.loads(selfinstruct("status", "evolved", "--json").out)
    assert facts["rounds"] == [
        {"round": 1, "evolved": 3, "kept": 1, "eliminated": 1, "undecided": 1, "share": 0.5},
        {"round": 2, "evolved": 2, "kept": 0, "eliminated": 2, "undecided": 0, "share": 0.0},
        {"round": 3, "evolved": 2, "kept": 1, "eliminated": 1, "undecided": 0, "share": 0.5},
    ]
    dropped = {"no_information_gain": 1, "refusal": 1, "too_many_added_words": 1}
    assert facts["operators"] == [
        {"operator": "deepen", "evolved": 5, "kept": 1, "dropped": dropped},
        {"operator": "in_breadth", "evolved": 2, "kept": 1, "dropped": {"near_duplicate": 1}},
    ]
    assert facts["judgements"] == {"unclear": 2, "equal": 1}


def test_status_of_other_runs_has_no_rounds(first: Said, selfinstruct: Say) -> None:
    assert {"rounds", "operators", "judgements"}.isdisjoint(json.loads(selfinstruct("status", "first", "--json").out))


@pytest.mark.parametrize(
    ("judgements", "told"),
    [
        ({"unclear": 48, "equal": 2}, "the judge gave no clear word in 48 of 50: unclear 48, equal 2"),
        ({"unclear": 3}, "the judge gave no clear word in 3 of 3: unclear 3"),
        ({"not_equal": 2, "unclear": 2}, "judged: not_equal 2, unclear 2"),
        ({"equal": 1}, "judged: equal 1"),
    ],
)
def test_a_judge_that_mostly_says_nothing_clear_is_said_to(judgements: dict[str, int], told: str) -> None:
    assert told_judgements(judgements) == told


def test_an_evolution_that_was_judged_again_counts_each_of_its_evolutions_once(
    evolution: Said, selfinstruct: Say
) -> None:
    """What `filter` drops takes all that came of it along, under `parent_dropped`."""
    selfinstruct("filter", "evolved", "--set", "filters.elimination.leaked_words=['border']")
    facts = json.loads(selfinstruct("status", "evolved-filtered", "--json").out)
    assert [(row["evolved"], row["kept"], row["undecided"]) for row in facts["rounds"]] == [
        (3, 0, 1),
        (2, 0, 0),
        (2, 1, 0),
    ]
    dropped = {name: count for row in facts["operators"] for name, count in row["dropped"].items()}
    assert dropped == {
        "leaked_prompt": 1, "parent_dropped": 1, "no_information_gain": 1, "too_many_added_words": 1,
    }  # fmt: skip
    assert selfinstruct("show", "evolved-filtered", "s0", "--tree").out.splitlines()[1:5] == [
        f"└── round 1 · in_breadth · 1.1  {BORDERS}",
        "    dropped by elimination: leaked_prompt (word: border), and answer 2.1 with it",
        "    ├── round 2 · in_breadth · 3.1  Name three rivers of Europe!",
        "    │   dropped by parent: parent_dropped (parent: 2.1)",
    ]


# -- while it runs ----------------------------------------------------------------------------------------------------


def rounds(panel: str) -> list[str]:
    """The rounds in each frame of a panel."""
    plain = re.sub(r"\x1b\[[\d;?]*[a-zA-Z]", "", panel)
    return re.findall(r"│ rounds +(.*?) +│", plain)


def test_the_panel_shows_survivors_by_round_from_the_events_and_goes_on_from_the_ledger(
    here: Path, selfinstruct: Say, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    script, source = write(here, "script.jsonl", SCRIPT), write(here, "three.jsonl", SEEDS[:3])
    begun = selfinstruct("evolve", source, "--script", script, "--run", "evolved", *FLAGS[:-1])
    assert rounds(begun.err)[-1] == "1: 1 of 2 · 2: 0 of 2 · 3: 1 of 2"
    healed = [line for line in SCRIPT if "fault" not in line]
    write(here, "script.jsonl", [*healed, answered(GUESTS, "A risotto it is not."), *evolved(GUESTS, GUESTS)])
    again = rounds(selfinstruct("retry", "evolved").err)
    assert again[-1] == "1: 2 of 3 · 2: 0 of 3 · 3: 1 of 3"
    assert again[-1] == " · ".join(
        f"{row['round']}: {row['kept']} of {row['kept'] + row['eliminated']}"
        for row in json.loads(selfinstruct("status", "evolved", "--json").out)["rounds"]
    )


def test_what_is_counted_from_events_is_what_the_ledger_says(evolution: Said, here: Path) -> None:
    with Ledger.open(here / "outputs" / "evolved") as ledger:
        read, seen = Survivors(ledger), Survivors(ledger)
        drafts = list(ledger.drafts())
        for stored in drafts:
            verdict = Verdict(filter=stored.filter, keep=stored.kept, reason=stored.reason)
            seen.see(Outcome(stored.id, stored.draft, (verdict,), stored.sample if stored.kept else None))
    doubled = [
        {name: count if name in ("round", "share") else 2 * count for name, count in row.items()}
        for row in read.rounds()
    ]
    assert seen.rounds() == doubled
