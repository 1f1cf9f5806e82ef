"""An evolution looked at: families drawn, survivors by round, operators by reason; the same while it runs."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from selfinstruct.cli.facets import line
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
└── evolve · operator in_breadth · round 1 · 1.1  {BORDERS}
    kept
    └── answer · 2.1
        kept
        ├── evolve · round 2 · 3.1  Name three rivers of Europe!
        │   dropped by rouge: near_duplicate (1.000 like s0)
        └── evolve · operator deepen · round 3 · 4.1  {FLOODS}
            kept
            └── answer · judgement unclear · 5.1
                dropped by elimination: refusal (marker: sorry, words: 2)

"""
SECOND = f"""\
s1  {WORD}
├── evolve · operator deepen · round 1 · 6.1  {LETTERS}
│   kept
│   └── answer · judgement equal · 7.1
│       dropped by elimination: no_information_gain (judgement: equal)
├── evolve · operator deepen · round 2 · 8.1  {WORD}{" More and more of it." * 5} More and…
│   dropped by elimination: too_many_added_words (added: 45, most: 20)
└── evolve · operator deepen · round 3 · 9.1  {MIRROR.replace(chr(27), "␛")}
    kept
    └── answer · judgement unclear · 10.1
        kept: unclear_judgement

"""
THIRD = f"""\
s2  {DINNER}
└── evolve · operator deepen · round 1 · 11.1  {GUESTS}
    kept
    └── answer · job 12
        failed: refused: no more today

"""


# -- show --tree ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("id", ["s0", "1.1", "2.1", "3.1", "4.1", "5.1"])
def test_a_tree_shows_the_family_and_where_what_was_asked_for_stands(
    evolution: Said, selfinstruct: Say, id: str
) -> None:
    marked = re.sub(rf"(?m)(^|· ){id}(?= |$)", rf"\g<1>▶ {id}", FIRST)
    assert marked.count("▶") == 1
    assert selfinstruct("show", "evolved", id, "--tree") == (0, marked, "")


def test_a_tree_for_each_family_that_was_asked_about(evolution: Said, selfinstruct: Say) -> None:
    trees = selfinstruct("show", "evolved", "s1", "s2", "10.1", "11.1", "--tree").out
    assert trees.replace("▶ ", "") == SECOND + THIRD
    assert re.findall(r"▶ (\S+)", trees) == ["s1", "10.1", "s2", "11.1"]


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
└── evolve · operator in_breadth · round 1 · 1.1  {BORDERS}
    kept
    └── answer · 2.1
        kept
        └── evolve · job 3
            not done yet

▶ s1  {WORD}
nothing has come of it

"""
    )


def test_a_tree_in_json_is_nested(evolution: Said, selfinstruct: Say) -> None:
    family = json.loads(selfinstruct("show", "evolved", "3.1", "--tree", "--json").out)
    [first] = family.pop("children")
    assert family == {"asked": ["3.1"], "id": "s0", "stage": "seed", "instruction": RIVERS}
    [answer] = first.pop("children")
    facets = {"operator": "in_breadth", "round": "1"}
    assert first == {
        "job": 1, "stage": "evolve", "state": "kept", "id": "1.1", "shown": ["s0"], "facets": facets,
        "instruction": BORDERS, "outputs": [], "filter": "rouge", "reason": "passed", "detail": {},
    }  # fmt: skip
    second, third = answer.pop("children")
    assert answer == {
        "job": 2, "stage": "answer", "state": "kept", "id": "2.1", "shown": ["s0"], "facets": facets,
        "instruction": BORDERS,
        "outputs": ["The Rhine, the Oder and the Danube."], "filter": "elimination", "reason": "passed", "detail": {},
    }  # fmt: skip
    assert (second["reason"], second["detail"], second["children"]) == (
        "near_duplicate",
        {"of": "s0", "score": 1.0},
        [],
    )
    [refused] = third["children"]
    assert (refused["reason"], refused["facets"]["judgement"], refused["children"]) == ("refusal", "unclear", [])
    [failed] = json.loads(selfinstruct("show", "evolved", "s2", "--tree", "--json").out)["children"]
    assert failed["children"] == [
        {
            "job": 12,
            "stage": "answer",
            "state": "failed",
            "shown": ["s2"],
            "error": "refused: no more today",
            "children": [],
        },
    ]


def test_in_other_runs_a_tree_is_the_way_from_the_first_job(first: Said, selfinstruct: Say) -> None:
    tide = INSTRUCTIONS[0]
    told = selfinstruct("show", "first", "2.1", "1.3", "s0", "--tree").out
    assert (
        re.sub("showed s.*", "showed …", told)
        == f"""\
instructions · 1.1  {tide}
kept; its prompt showed …
└── instances · ▶ 2.1
    kept

instructions · ▶ 1.3  Name three rivers of Europe!
dropped by rouge: near_duplicate (1.000 like s0); its prompt showed …

▶ s0  Name three rivers of Europe.
nothing has come of it

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
    assert "\x1b[32mkept: unclear_judgement" in told
    plain = re.sub(r"\x1b\[[\d;]*m", "", told)
    assert "\x1b" not in plain
    assert max(map(len, plain.splitlines())) <= 60
    assert "└── evolve · operator deepen · round 3 · 9.1  Spell the wor…\n" in plain
    monkeypatch.setenv("NO_COLOR", "1")
    assert "\x1b[32m" not in selfinstruct("show", "evolved", "10.1", "--tree").out


def test_what_is_chosen_by_facets_is_exported(evolution: Said, here: Path, selfinstruct: Say) -> None:
    """Rows with the values named, what they were made from, and all that the run started from."""
    chosen = ("--facet", "round=3", "--facet", "operator=deepen")
    asked = ("export", "evolved", "--format", "jsonl", "--force", "--to", "out", *chosen)

    def rows() -> list[str]:
        return [json.loads(row)["id"] for row in (here / "out/samples.jsonl").read_text().splitlines()]

    assert selfinstruct(*asked) == (0, "out/samples.jsonl: 1 rows\n", "")
    assert rows() == ["10.1"]
    selfinstruct(*asked, "--parents")
    assert rows() == ["s1", "10.1"]
    selfinstruct(*asked, "--sources")
    assert rows() == ["s0", "s1", "s2", "10.1"]


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
  15 answers, 3,232 tokens in (0 from cache), 165 out; no cost
  outputs/evolved/export/alpaca.json
  outputs/evolved/export/alpaca.jsonl
  outputs/evolved/export/axolotl.yaml
  outputs/evolved/export/dataset_info.json
  outputs/evolved/export/samples.jsonl

                                                                             too
                                                              no            many
                                                     information           added       near
  operator    made  kept  dropped  undecided  share         gain  refusal  words  duplicate
  deepen         5     1        3          1    25%            1        1      1          0
  in_breadth     2     1        1          0    50%            0        0      0          1

                                                                          too
                                                         no              many
                                                information       near  added
  round  made  kept  dropped  undecided  share         gain  duplicate  words  refusal
  1         3     1        1          1    50%            1          0      0        0
  2         2     0        2          0     0%            0          1      1        0
  3         2     1        1          0    50%            0          0      0        1

                                                             no
                                                    information
  judgement  made  kept  dropped  undecided  share         gain  refusal
  equal         1     0        1          0     0%            1        0
  unclear       2     1        1          0    50%            0        1
"""


def test_status_of_an_evolution_tells_survivors_operators_and_what_the_judge_said(
    evolution: Said, selfinstruct: Say
) -> None:
    assert selfinstruct("status", "evolved").out == STATUS


def test_status_of_an_evolution_in_json_has_the_same_facts(evolution: Said, selfinstruct: Say) -> None:
    facets = json.loads(selfinstruct("status", "evolved", "--json").out)["facets"]
    assert [counts(row) for row in facets["round"]] == [
        ("1", 3, 1, 1, 1, 0.5), ("2", 2, 0, 2, 0, 0.0), ("3", 2, 1, 1, 0, 0.5),
    ]  # fmt: skip
    dropped = {"no_information_gain": 1, "refusal": 1, "too_many_added_words": 1}
    assert [(row["value"], row["made"], row["kept"], row["reasons"]) for row in facets["operator"]] == [
        ("deepen", 5, 1, dropped), ("in_breadth", 2, 1, {"near_duplicate": 1}),
    ]  # fmt: skip
    assert {row["value"]: row["made"] for row in facets["judgement"]} == {"unclear": 2, "equal": 1}


def counts(row: dict[str, Any]) -> tuple[Any, ...]:
    return tuple(row[key] for key in ("value", "made", "kept", "dropped", "undecided", "share"))


def test_status_of_other_runs_has_no_facets(first: Said, selfinstruct: Say) -> None:
    assert json.loads(selfinstruct("status", "first", "--json").out)["facets"] == {}


def test_an_evolution_that_was_judged_again_counts_each_of_its_evolutions_once(
    evolution: Said, selfinstruct: Say
) -> None:
    """What `filter` drops takes all that came of it along, under `parent_dropped`."""
    selfinstruct("filter", "evolved", "--set", "filters.elimination.leaked_words=['border']")
    facets = json.loads(selfinstruct("status", "evolved-filtered", "--json").out)["facets"]
    assert [(row["made"], row["kept"], row["undecided"]) for row in facets["round"]] == [
        (3, 0, 1),
        (2, 0, 0),
        (2, 1, 0),
    ]
    dropped = {name: count for row in facets["operator"] for name, count in row["reasons"].items()}
    assert dropped == {
        "leaked_prompt": 1, "parent_dropped": 1, "no_information_gain": 1, "too_many_added_words": 1,
    }  # fmt: skip
    assert selfinstruct("show", "evolved-filtered", "s0", "--tree").out.splitlines()[1:7] == [
        f"└── evolve · operator in_breadth · round 1 · 1.1  {BORDERS}",
        "    dropped by elimination: leaked_prompt (word: border)",
        "    └── answer · 2.1",
        "        dropped by parent: parent_dropped (parent: 1.1)",
        "        ├── evolve · round 2 · 3.1  Name three rivers of Europe!",
        "        │   dropped by parent: parent_dropped (parent: 2.1)",
    ]


# -- while it runs ----------------------------------------------------------------------------------------------------


def rounds(panel: str) -> list[str]:
    """The rounds in each frame of a panel."""
    plain = re.sub(r"\x1b\[[\d;?]*[a-zA-Z]", "", panel)
    return re.findall(r"│ round +(.*?) +│", plain)


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
    assert again[-1] == line(json.loads(selfinstruct("status", "evolved", "--json").out)["facets"]["round"])
