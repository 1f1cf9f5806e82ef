"""Seeds load from the layouts people have, and each thing wrong with them is named with its place."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from selfinstruct.errors import SourceError
from selfinstruct.inputs.seeds import check_seeds, load_seeds, require_enough
from selfinstruct.records import Instance, Seed

Fields = dict[str, Any]
Read = TypeVar("Read")

in_one_folder = settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=200)

# The published schema, in the shape of its file: one row a task, its instances inside.
PUBLISHED: list[Fields] = [
    {
        "id": "seed_task_0",
        "name": "rhyme_search",
        "instruction": "Find two words that rhyme with the given word.",
        "instances": [{"input": "light", "output": "night, bright"}],
        "is_classification": False,
    },
    {
        "id": "seed_task_1",
        "name": "tide_question",
        "instruction": "Why does the sea rise and fall twice a day?",
        "instances": [{"input": "", "output": "The moon draws the water on both sides of the earth."}],
        "is_classification": False,
    },
    {
        "id": "seed_task_2",
        "name": "fruit_or_vegetable",
        "instruction": "Say whether the plant is a fruit or a vegetable.",
        "instances": [{"input": "Carrot", "output": "Vegetable"}, {"input": "Plum", "output": "Fruit"}],
        "is_classification": True,
    },
]


def written(folder: Path, rows: list[Any], name: str = "my.jsonl") -> Path:
    path = folder / name
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def task(**changes: Any) -> Fields:
    """A row that nothing is wrong with, but for the changes; None takes a field away."""
    row = {
        "instruction": "Name a river in Europe.",
        "instances": [{"input": "", "output": "Rhine"}],
        **changes,
    }
    return {name: value for name, value in row.items() if value is not None}


def outcome(read: Callable[[Path], Read], path: Path) -> Read | str:
    """What is read, or what is said instead."""
    try:
        return read(path)
    except SourceError as error:
        return str(error)


def test_the_published_schema_loads_unmodified(tmp_path: Path) -> None:
    seeds = load_seeds(written(tmp_path, PUBLISHED))
    told = [seed.model_dump(exclude={"category", "family"}, mode="json") for seed in seeds]
    assert [
        {**row, "instances": [one.fields() for one in seed.instances]} for row, seed in zip(told, seeds, strict=True)
    ] == (PUBLISHED)


@pytest.mark.parametrize(
    "row",
    [
        {"instruction": "Name it.", "input": "x", "output": "y", "text": "ignored"},
        {"Instruction": "Name it.", " Input ": "x", "OUTPUT": "y"},
        {"instruction": "Name it.", "context": "x", "response": "y"},
        {"prompt": "Name it.", "input": "x", "completion": "y"},
        {"question": "Name it.", "context": "x", "answer": "y"},
        {"query": "Name it.", "input": "x", "response": "y"},
        {"instruction": "Name it.", "instances": [{"input": "x", "output": "y"}]},
    ],
)
def test_the_columns_of_instruction_datasets_are_known(tmp_path: Path, row: Fields) -> None:
    expected = Seed(id="seed_0001", instruction="Name it.", instances=(Instance(input="x", output="y"),))
    assert load_seeds(written(tmp_path, [row])) == [expected]


def test_dolly_rows_keep_their_category(tmp_path: Path) -> None:
    row = {"instruction": "Who?", "context": "", "response": "Ada.", "category": "open_qa"}
    [seed] = load_seeds(written(tmp_path, [row]))
    assert (seed.category, seed.instances) == ("open_qa", (Instance(output="Ada."),))


def test_rows_of_one_instruction_become_one_seed_with_their_instances(tmp_path: Path) -> None:
    rows = [
        {"instruction": "Add.", "input": "1, 2", "output": "3"},
        {"instruction": "Name a river.", "input": "", "output": "Rhine"},
        {"instruction": "Add. ", "input": "2, 2", "output": "4"},
    ]
    add, river = load_seeds(written(tmp_path, rows))
    assert (add.id, river.id) == ("seed_0001", "seed_0002")
    assert add.instances == (Instance(input="1, 2", output="3"), Instance(input="2, 2", output="4"))


def test_a_table_from_a_spreadsheet_loads(tmp_path: Path) -> None:
    path = tmp_path / "my.csv"
    path.write_text(
        "id,instruction,input,output,is_classification\n"
        "7,Is it even?,3,no,TRUE\n"
        ",Name a river.,<NoInput>,Rhine,0\n"
        ",Only an instruction here.,,,\n"
    )
    even, river, only = load_seeds(path)
    assert (even.id, even.is_classification, even.instances) == (
        "7",
        True,
        (Instance(input="3", output="no"),),
    )
    assert (river.id, river.is_classification, river.instances) == (
        "seed_0002",
        False,
        (Instance(output="Rhine"),),
    )
    assert (only.id, only.instances) == ("seed_0003", ())


def test_a_parquet_file_of_the_published_schema_loads(tmp_path: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    pq.write_table(pa.Table.from_pylist(PUBLISHED), tmp_path / "my.parquet")
    assert load_seeds(tmp_path / "my.parquet") == load_seeds(written(tmp_path, PUBLISHED))


@pytest.mark.parametrize(
    ("said", "meant"),
    [
        ("<noinput>", ""),
        ("<NoInput>\n", ""),
        ("N/A", ""),
        ("None", ""),
        (None, ""),
        (float("nan"), ""),
        ("None of them", "None of them"),
        ("none", "none"),
        ("<noinput>, or not", "<noinput>, or not"),
        (" x ", " x "),
    ],
)
def test_only_an_input_that_says_nothing_else_is_no_input(tmp_path: Path, said: Any, meant: str) -> None:
    instances = [{"input": said, "output": "N/A"}]
    [seed] = load_seeds(written(tmp_path, [task(instances=instances)]))
    assert seed.instances == (Instance(input=meant, output="N/A"),)


def test_ids_that_are_made_keep_clear_of_those_there_are(tmp_path: Path) -> None:
    rows = [
        task(),
        task(instruction="Name a lake in Asia.", id="seed_0003"),
        task(instruction="Name a bay in Asia."),
        task(instruction="Name a bay in Africa.", id=4),
        task(instruction="Name a gulf in Africa.", id=" "),
    ]
    assert [seed.id for seed in load_seeds(written(tmp_path, rows))] == [
        "seed_0001",
        "seed_0003",
        "seed_0004",
        "4",
        "seed_0005",
    ]


@pytest.mark.parametrize(
    ("row", "message"),
    [
        (task(instruction=None), "no instruction; write what is to be done, or take the row out"),
        (task(instruction=" \n"), "no instruction; write what is to be done, or take the row out"),
        (task(instruction=5), "instruction must be text, not a number; put it in quotes"),
        (task(instruction="Say \ud800."), "instruction holds half of a surrogate pair (\\ud800 to \\udfff)"),
        (task(instances="x"), '`instances` must be a list, not text; write [{"input": "…", "output": "…"}]'),
        (task(instances=[1]), "instance 1: must be an object, not a number; write [{"),
        (
            task(instances=[{"output": "y"}, {"input": "x"}]),
            "instance 2: no output; write the answer, or take its input out too",
        ),
        (
            task(instances=[{"output": ["y"]}]),
            "instance 1: output must be text, not a list; put it in quotes",
        ),
        (
            task(instances=[{"input": 4, "output": "y"}]),
            "instance 1: input must be text, not a number; put it",
        ),
        (task(instances=None, input="x"), "no output; write the answer, or take its input out too"),
        (task(is_classification="maybe"), "is_classification must be true or false, not 'maybe'; write one"),
        (task(is_classification=2), "is_classification must be true or false, not 2; write one of them"),
        (
            task(is_classification=[]),
            "is_classification must be true or false, not a list; write one of them",
        ),
        (task(id=True), "id must be text, not true; put it in quotes"),
        (task(category=["a"]), "category must be text, not a list; put it in quotes"),
    ],
)
def test_a_row_that_is_no_seed_is_refused_with_place_cause_and_cure(tmp_path: Path, row: Fields, message: str) -> None:
    path = written(tmp_path, [task(instruction="Name the largest lake."), row])
    with pytest.raises(SourceError) as caught:
        load_seeds(path)
    assert str(caught.value).startswith(f"{path}:2: {message}")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("other", ["a", 7])
def test_an_id_used_twice_names_both_lines(tmp_path: Path, other: Any) -> None:
    path = written(tmp_path, [task(id=str(other)), task(instruction="Name a lake in Asia.", id=other)])
    with pytest.raises(SourceError) as caught:
        load_seeds(path)
    expected = f"{path}:2: the id '{other}' is taken by {path}:1; give one of them another id"
    assert str(caught.value) == expected


def test_the_first_problem_is_told_with_the_number_of_the_others(tmp_path: Path) -> None:
    path = tmp_path / "my.jsonl"
    path.write_text('{"instruction": ""}\n{"instruction": 1}\nnonsense\n{"instruction": "Name a lake."}\n')
    with pytest.raises(SourceError) as caught:
        load_seeds(path)
    assert str(caught.value).startswith(f"{path}:1: no instruction;")
    assert str(caught.value).endswith(f" (and 2 more: `selfinstruct seeds check {path}` lists them)")


def test_a_file_without_instructions_names_the_columns_there_are(tmp_path: Path) -> None:
    path = written(tmp_path, [{"text": "x", "la\nbel": 1}])
    wanted = "no column holds the instructions (instruction, prompt, question, query)"
    expected = f"{path}: {wanted}; the columns are: text, la bel; rename the one that does"
    for read in (load_seeds, check_seeds):
        with pytest.raises(SourceError) as caught:
            read(path)
        assert str(caught.value) == expected


def test_a_check_lists_every_problem_in_the_order_of_the_file(tmp_path: Path) -> None:
    path = tmp_path / "my.jsonl"
    rows = [
        json.dumps(task()),
        '{"instruction": "Name',
        json.dumps({"instruction": 5, "instances": [{"input": 1}]}),
        "[]",
        json.dumps(task(instruction="Go.", instances=[])),
    ]
    path.write_text("\n".join(rows))
    report = check_seeds(path)
    assert [(problem.place.removeprefix(f"{path}:"), problem.severity) for problem in report.problems] == [
        ("2", "error"),
        ("3", "error"),
        ("3", "error"),
        ("3", "error"),
        ("4", "error"),
        ("5", "warning"),
        ("5", "warning"),
    ]
    assert (report.seeds, len(report.errors), len(report.warnings)) == (2, 5, 2)


def test_a_check_of_nothing_but_broken_rows_is_still_a_report(tmp_path: Path) -> None:
    path = tmp_path / "my.jsonl"
    path.write_text("{broken\n")
    assert [str(problem).removeprefix(str(path)).split(";")[0] for problem in check_seeds(path).problems] == [
        ":1: not JSON: expecting property name enclosed in double quotes at column 2",
        ": no rows in it that can be read",
    ]


@pytest.mark.parametrize(
    ("row", "message"),
    [
        (task(instruction="Name a river."), "instruction of 3 words; a model's own is dropped under 4"),
        (task(instruction="word " * 151), "instruction of 151 words; a model's own is dropped over 150"),
        (task(instances=[{"output": " "}]), "instance 1: empty output; write the answer"),
        (task(instances=[]), "no instances: it can show what an instruction is like"),
        (task(instances=None), "no instances: it can show what an instruction is like"),
        (
            task(instances=[{"input": "a\x07", "output": "b"}]),
            "instance 1: input has a control character ('\\x07')",
        ),
        (task(instances=[{"output": "x" * 10_001}]), "instance 1: output has 10,001 characters"),
        (
            task(**{"Unnamed: 0": 3}),
            "a column is called 'Unnamed: 0'; it is ignored: name it, or take it out",
        ),
        (task(**{"": 3}), "a column is called ''; it is ignored: name it, or take it out"),
    ],
)
def test_what_is_doubtful_is_a_warning_and_loads(tmp_path: Path, row: Fields, message: str) -> None:
    path = written(tmp_path, [row])
    [problem] = check_seeds(path).problems
    assert problem.severity == "warning"
    assert problem.message.startswith(message)
    assert len(load_seeds(path)) == 1


def test_a_row_that_adds_nothing_or_disagrees_is_a_warning(tmp_path: Path) -> None:
    row = {"instruction": "Name a river in Europe.", "input": "", "output": "Rhine", "category": "geography"}
    path = written(tmp_path, [row, row, {**row, "output": "Oder", "category": ""}])
    assert [(problem.place, problem.message) for problem in check_seeds(path).warnings] == [
        (f"{path}:2", f"says nothing that {path}:1 does not say; take it out"),
        (f"{path}:3", f"category is '' here and 'geography' in {path}:1, which counts; make them equal"),
    ]


def test_scripts_without_spaces_are_not_called_short(tmp_path: Path) -> None:
    report = check_seeds(written(tmp_path, [task(instruction="写一首关于秋天的诗"), task()]))
    assert report.problems == ()
    assert (report.ascii_share, report.mean_words) == (0.5, 7.0)
    assert list(report.scripts) == ["latin", "cjk"]


def test_a_report_counts_what_is_in_the_file(tmp_path: Path) -> None:
    rows = [{**row, "category": category, "source": "me"} for row, category in zip(PUBLISHED, "aba", strict=True)]
    report = check_seeds(written(tmp_path, rows))
    assert report.model_dump(mode="json") == {
        "seeds": 3,
        "instances": 4,
        "classification": 1,
        "without_input": 1,
        "categories": {"a": 2, "b": 1},
        "mean_words": 9.7,
        "ascii_share": 1.0,
        "scripts": {"latin": 1.0},
        "ignored_columns": ["source"],
        "problems": [],
    }


def test_near_duplicates_are_found_by_the_function_handed_in(tmp_path: Path) -> None:
    path = written(tmp_path, [{"instruction": 1}, *PUBLISHED])
    asked: list[list[str]] = []

    def similar(texts: list[str]) -> list[tuple[int, int, float]]:
        asked.append(texts)
        return [(2, 0, 0.8333)]

    [error, alike] = check_seeds(path, similar).problems
    assert asked == [[row["instruction"] for row in PUBLISHED]]
    assert error.severity == "error"
    assert str(alike) == f"{path}:4: much like {path}:2 (similarity 0.83); reword or drop one of the two"


def test_fewer_seeds_than_a_prompt_shows_are_refused_with_both_numbers() -> None:
    seeds = [Seed(id=str(number), instruction="Name it.") for number in range(8)]
    require_enough(seeds, 8, "my.jsonl")
    with pytest.raises(SourceError) as caught:
        require_enough(seeds[:1], 8, "my.jsonl")
    expected = "my.jsonl: 1 seed where one prompt shows 8; add 7 more, or ask for fewer demonstrations"
    assert str(caught.value) == expected


@in_one_folder
@given(content=st.binary(max_size=80), name=st.sampled_from(["my.jsonl", "my.json", "my.csv", "my.parquet"]))
def test_arbitrary_bytes_load_or_are_refused(tmp_path: Path, content: bytes, name: str) -> None:
    (tmp_path / name).write_bytes(content)
    said = outcome(load_seeds, tmp_path / name)
    assert said if isinstance(said, list) else "\n" not in said


values = st.recursive(
    st.none() | st.booleans() | st.integers(-2, 2) | st.floats() | st.text(max_size=4),
    lambda inner: (
        st.lists(inner, max_size=2) | st.dictionaries(st.sampled_from(["input", "output", "x"]), inner, max_size=3)
    ),
    max_leaves=6,
)
columns = st.sampled_from(
    [
        "instruction",
        "prompt",
        "input",
        "output",
        "instances",
        "is_classification",
        "id",
        "name",
        "category",
        "",
        "x\n",
    ]
)


@in_one_folder
@given(rows=st.lists(st.dictionaries(columns, values, max_size=6), min_size=1, max_size=4))
def test_any_rows_load_exactly_when_their_check_finds_no_error(tmp_path: Path, rows: list[Fields]) -> None:
    path = written(tmp_path, rows)
    report, seeds = outcome(check_seeds, path), outcome(load_seeds, path)
    if isinstance(seeds, str):
        assert "\n" not in seeds
        assert report == seeds if isinstance(report, str) else report.errors
        return
    assert not isinstance(report, str)
    assert not report.errors
    assert len({seed.id for seed in seeds}) == len(seeds) == report.seeds
    assert all(seed.id and seed.instruction.strip() for seed in seeds)
    json.dumps([seed.model_dump() for seed in seeds], ensure_ascii=False).encode()
