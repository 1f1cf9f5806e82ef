"""The card of a dataset: told from the ledger, whole, true, and inert."""

from __future__ import annotations

import json
import re
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest
from huggingface_hub import DatasetCard
from hypothesis import given
from hypothesis import strategies as st
from markdown_it import MarkdownIt
from markdown_it.token import Token

from selfinstruct.dataset.card import Licence, card, public
from selfinstruct.dataset.card.markdown import block, code, plain
from selfinstruct.inputs.config import RoleConfig, RunConfig, Tree, build, merge
from selfinstruct.records import Tool
from selfinstruct.store.ledger import Ledger
from tests.support.ledgers import empty, settled, task
from tests.support.runs import Model, Run, answering


def told(run: Run, **options: Any) -> str:
    """The card of a run."""
    with Ledger.open(run.folder) as ledger:
        return card(ledger, **{"title": "tides", "configs": {"alpaca": ["train"]}, **options})


def front(text: str) -> Tree:
    """The front matter of a card, as the Hub's own class reads it."""
    return DatasetCard(text).data.to_dict()


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A run with kept and dropped drafts at both stages; never changed."""
    return Run(tmp_path_factory.mktemp("run"), n=6).drive(Model(answering(0.5)))


def changed(folder: Path, **settings: Any) -> Run:
    """A run whose configuration says something else."""
    run = Run(folder, n=2).drive()
    [(stored,)] = run.query("SELECT value FROM run WHERE key = 'config'")
    run.change("UPDATE run SET value = ? WHERE key = 'config'", json.dumps(merge(json.loads(stored), settings)))
    return run


def name(run: Run, model: str, **roles: str) -> None:
    """Have a run say that these models answered."""
    run.change("UPDATE run SET value = ? WHERE key = 'models'", json.dumps({"writer": model, **roles}))


# -- true
# ----------------------------------------------------------------------------------------------------------------


def test_the_counts_are_those_of_the_ledger(run: Run) -> None:
    text = told(run)
    for stage in ("instructions", "instances"):
        drafts, kept = run.count("drafts", f"stage = '{stage}'"), run.count("drafts", f"kept AND stage = '{stage}'")
        jobs = run.count("jobs", f"state = 'settled' AND stage = '{stage}'")
        assert f"| `{stage}` | {jobs} | {drafts} | {kept} | {drafts - kept} |\n" in text
    dropped = re.findall(r"^\| `\w+` \| `\w+` \| `\w+` \| (\d+) \|$", text, re.MULTILINE)
    assert sum(map(int, dropped)) == run.count("drafts", "NOT kept") > 0


def test_the_front_matter_is_what_the_hub_reads(run: Run) -> None:
    data = front(told(run, configs={"messages": ["train", "validation"], "alpaca": ["train"]}))
    [(at,)] = run.query("SELECT min(at) FROM events")
    assert data == {
        "annotations_creators": ["machine-generated"],
        "language_creators": ["machine-generated"],
        "language": ["en"],
        "size_categories": ["n<1K"],
        "source_datasets": ["extended|other"],
        "task_categories": ["text-generation"],
        "pretty_name": "tides",
        "tags": ["synthetic", "self-instruct", "instruction-tuning", "selfinstruct"],
        "configs": [
            {
                "config_name": "messages",
                "data_files": [
                    {"split": "train", "path": "messages/train-*"},
                    {"split": "validation", "path": "messages/validation-*"},
                ],
                "default": True,
            },
            {"config_name": "alpaca", "data_files": [{"split": "train", "path": "alpaca/train-*"}]},
        ],
        "selfinstruct": {
            "version": version("selfinstruct"),
            "run": datetime.fromtimestamp(at, UTC).isoformat(),
            "configs": ["messages", "alpaca"],
        },
    }


@pytest.mark.parametrize(
    ("licence", "data", "said"),
    [
        (Licence(), {}, "**No licence was chosen for this dataset.**"),
        (Licence("mit"), {"license": "mit"}, "`mit`, chosen by the publisher."),
        (
            Licence("other", "tide-1.0", "https://tides.example/licence"),
            {"license": "other", "license_name": "tide-1.0", "license_link": "https://tides.example/licence"},
            "`tide-1.0`, chosen by the publisher.\nIts text: `https://tides.example/licence`.",
        ),
    ],
)
def test_the_licence_is_the_persons(licence: Licence, data: Tree, said: str, run: Run) -> None:
    text = told(run, licence=licence)
    assert {key: value for key, value in front(text).items() if key.startswith("license")} == data
    assert said in text


@pytest.mark.parametrize(
    ("backend", "host"),
    [
        ({"kind": "llamacpp", "script": None}, "embedded, llama.cpp on the machine of the run"),
        ({"kind": "vllm", "script": None}, "local, a vLLM server started for the run"),
        ({"kind": "vllm", "script": None, "base_url": "http://10.1.2.3:8000/v1"},
         "local, a server with an OpenAI-compatible API"),
        ({"kind": "openai", "script": None, "base_url": "https://api.tides.example/v1"},
         "hosted, a server with an OpenAI-compatible API"),
        ({"kind": "openai", "script": None}, "hosted, the API of OpenAI unless the environment named another server"),
        ({"kind": "tidal", "script": None}, "`tidal`, a backend of another package"),
        ({}, "none, answers came from a file, as in a test"),
    ],
)  # fmt: skip
def test_the_kind_of_host_is_told_and_never_which(backend: Tree, host: str, tmp_path: Path) -> None:
    text = told(changed(tmp_path, backend=backend))
    assert f"\n- Host: {host}\n" in text
    assert not re.search(r"tides\.example|10\.1\.2\.3", text)


def test_the_embedded_model_is_not_to_be_trained_on(tmp_path: Path) -> None:
    ours = told(changed(tmp_path / "ours", backend={"kind": "llamacpp", "script": None}))
    theirs = told(changed(tmp_path / "theirs", backend={"kind": "llamacpp", "script": None, "model": "/m/big.gguf"}))
    assert "do not train on it" in ours
    assert "do not train on it" not in theirs


@pytest.mark.parametrize(
    ("model", "backend", "cost"),
    [
        ("m", {}, "none by the token"),
        (
            "gpt-4o-mini",
            {"kind": "openai", "script": None},
            r"about \$0\.00\d\d, by list prices when this card was written\n",
        ),
        ("m", {"price_in": 900.0, "price_out": 0.0}, r"about \$\d"),
        ("no-such-model", {"kind": "openai", "script": None}, "unknown, as no price is known"),
        ("gpt-4o-mini", {"kind": "openai", "script": None, "base_url": "http://x.example/v1"}, "unknown, as no price"),
    ],
)
def test_the_cost_is_told_only_where_it_is_known(model: str, backend: Tree, cost: str, tmp_path: Path) -> None:
    run = changed(tmp_path, backend=backend)
    name(run, model)
    assert re.search(f"\n- Cost: {cost}", told(run))


def test_a_price_that_its_maker_named_is_said_to_be_that_and_is_not_published(tmp_path: Path) -> None:
    told_prices = {"price_in": 987.0, "price_out": 654.0, "price_cached": 321.0}
    text = told(changed(tmp_path, backend=told_prices, budget={"tokens": 7654321}))
    assert re.search(r"\n- Cost: about \$[\d.]+, by the prices that its maker named\n", text)
    assert not re.search("987|654|321|price_|budget", text)


def test_the_model_is_told_as_asked_for_and_as_it_named_itself(tmp_path: Path) -> None:
    arguments = ["--revision=8a3f", "--download-dir", "/srv/weights"]
    run = changed(tmp_path, backend={"kind": "vllm", "script": None, "server_args": arguments})
    name(run, "Qwen/Qwen3-8B")
    run.change("UPDATE answers SET model = '/srv/weights/qwen3' WHERE id = 1")
    run.recount()
    text = told(run)
    assert "- Model: `Qwen/Qwen3-8B`\n- Named in its answers: `m`\n- Named in its answers: `qwen3`\n" in text
    assert "- Revision: `8a3f`\n" in text
    assert "- Revision: not recorded\n" in told(changed(tmp_path / "other"))


def test_a_run_that_has_kept_nothing_has_a_card_too(tmp_path: Path) -> None:
    text = told(Run(tmp_path))
    assert "- Answers: none\n" in text
    assert "No draft was dropped.\n" in text
    assert "Unknown: py3langid found none likely enough in 0 kept instructions.\n" in text
    assert "language" not in front(text)


def test_what_failed_and_what_was_cut_short_is_said(tmp_path: Path, run: Run) -> None:
    unfinished = Run(tmp_path, n=6).drive(stop_after=20)
    unfinished.change("UPDATE jobs SET state = 'failed', error_kind = 'timeout' WHERE number = 1")
    text = told(unfinished)
    assert "It ended, or was published, before that." in text
    assert "Jobs that failed, of which nothing is here:\n\n- `timeout`: 1\n" in text
    assert "before that" not in told(run)


def test_languages_are_told_with_their_shares(tmp_path: Path) -> None:
    run = Run(tmp_path, n=4).drive()
    german = "Erkläre in einfachen Worten, warum der Mond die Meere bewegt und die Flut zweimal am Tag kommt."
    run.change("UPDATE drafts SET instruction = ? WHERE rank = (SELECT min(rank) FROM drafts WHERE kept"
               " AND stage = 'instances')", german)  # fmt: skip
    text = told(run)
    assert front(text)["language"] == ["en", "de"]
    assert "\n- `en`: 75 %\n- `de`: 25 %\n" in text


@pytest.mark.parametrize(
    ("rows", "size"), [(1, "n<1K"), (999, "n<1K"), (1000, "1K<n<10K"), (99_999, "10K<n<100K"), (10**5, "100K<n<1M")]
)
def test_the_size_category_counts_instances(rows: int, size: str, tmp_path: Path) -> None:
    run = Run(tmp_path, n=1).drive()
    stayed = json.dumps([{"output": "a"}] * rows)
    run.change("UPDATE drafts SET stayed = ? WHERE kept AND stage = 'instances'", stayed)
    text = told(run)
    assert front(text)["size_categories"] == [size]
    assert f"\n1 tasks with {rows:,} worked instances." in text


def test_a_long_run_is_sampled_the_same_each_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("selfinstruct.dataset.card.DETECTED", 5)
    run = Run(tmp_path, n=12).drive()
    texts = [told(run), told(run)]
    assert "in 5 kept instructions" in texts[0]
    assert texts[0] == texts[1]
    assert texts[0].count('"instruction": ') == 3


# -- inert
# ---------------------------------------------------------------------------------------------------------------

EVIL = [
    "<script>alert(1)</script>", "</details><img src=x onerror=alert(1)>", "```\n# Heading\n```", "~~~~\n</pre>",
    "[a link](https://evil.example)", "![a picture](https://evil.example/p.png)", "https://evil.example",
    "www.evil.example", "a | b | c", "---\nlicense: mit\n---", "{{ config }} {% raw %}", "\u202egnp.exe\u2066",
    "\x1b[31m\x07\x00", "\ud83d", "`" * 7, "&lt;b&gt; &#x3C;i&#x3E;", "$\\href{x}{y}$",
]  # fmt: skip
OURS = {"<details>", "</details>", "<summary>", "</summary>"}


def active(text: str) -> list[str]:
    """Everything in a Markdown text that is more than text: HTML, links, pictures, headings."""

    def walk(tokens: list[Token]) -> list[str]:
        found = []
        for token in tokens:
            if token.type in ("html_block", "html_inline"):
                found += re.findall(r"<[^>]*>", token.content)
            elif token.type in ("link_open", "image", "heading_open"):
                found.append(f"{token.tag} {token.attrs.get('href', token.attrs.get('src', ''))}")
            found += walk(token.children or [])
        return found

    return walk(
        MarkdownIt("gfm-like", {"linkify": False}).parse(re.sub(r"\A---\n.*?\n---\n", "", text, flags=re.DOTALL))
    )


def test_nothing_that_a_model_or_a_server_wrote_is_active(tmp_path: Path) -> None:
    run = Run(tmp_path, n=6).drive(Model(answering(0.5)))
    before = active(told(run))
    evil = "\n".join(EVIL).encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    stayed = json.dumps([{"input": evil, "output": evil}])
    run.change("UPDATE drafts SET instruction = ?, stayed = ? WHERE kept", evil, stayed)
    run.change("UPDATE answers SET model = ?", evil)
    name(run, evil, **{evil: evil})
    run.change("UPDATE verdicts SET reason = ? WHERE keep = 0", evil)
    run.recount()
    text = told(run, title=evil)
    assert active(text) == before
    assert {tag for tag in before if tag.startswith("<")} == OURS
    assert [char for char in text if not (char.isprintable() or char == "\n")] == []
    assert "license" not in front(text)


@given(st.text() | st.lists(st.sampled_from([*EVIL, "`", "\n", " ", "\\"])).map("".join))
def test_inserted_text_is_never_more_than_text(text: str) -> None:
    page = f"before {code(text)} after\n\n# {plain(text)}\n\n{block('json', text)}\n\nend\n"
    assert active(page) == ["h1 "]
    assert page.isprintable() or {char for char in page if not char.isprintable()} <= {
        "\n",
        "\t",
        "\u200c",
        "\u200d",
        *SPACES,
    }
    assert [token.info for token in MarkdownIt().parse(page) if token.type == "fence"] == ["json"]


SPACES = {char for char in map(chr, range(0x3001)) if char.isspace()}


# -- discreet
# ------------------------------------------------------------------------------------------------------------

SECRETS = {
    "base_url": "https://ada:hunter2@gpu7.lab.example:8000/v1", "api_key_env": "LAB_KEY",
    "model": "/home/ada/m/big.gguf", "server_args": ["--api-key=sk-12345", "--download-dir", "/srv/weights"],
    "extra": {"top_k": 20, "api_key": "sk-67890", "user": "C:\\Users\\ada\\me", "hook": "http://gpu8.lab.example/",
              "headers": {"X-Secret": "tell-nobody"}, "stop": ["/home/ada/stop"]},
}  # fmt: skip


def test_no_key_no_address_and_no_folder_is_told(tmp_path: Path) -> None:
    backend = {"kind": "vllm", "script": None, **SECRETS}
    run = changed(tmp_path, backend=backend, seeds="/home/ada/private/tides.jsonl", prompts="/home/ada/prompts")
    name(run, "/home/ada/m/big.gguf", judge="/home/ada/m/judge.gguf")
    text = told(run)
    for secret in ("ada", "hunter2", "lab.example", "gpu", "sk-", "LAB_KEY", "/srv", "/home", "Users", "tell-nobody",
                   "prompts =", str(tmp_path)):  # fmt: skip
        assert secret not in text, secret
    assert "top_k = 20" in text
    assert 'model = "big.gguf"' in text
    assert "tasks from `tides.jsonl`." in text


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("gpt-4o-mini", "gpt-4o-mini"), ("Qwen/Qwen3-8B", "Qwen/Qwen3-8B"), ("models/qwen.gguf", "qwen.gguf"),
        ("./models/qwen", "qwen"), ("~/qwen", "qwen"), ("a/b/c", "c"), ("..\\seeds\\my.jsonl", "my.jsonl"),
        ("https://x.example/v1", "…"), ("", ""),
    ],
)  # fmt: skip
def test_of_a_path_only_the_last_part_is_shown(name: str, shown: str) -> None:
    assert public.name(name) == shown


def test_settings_keep_everything_that_is_not_private() -> None:
    config = build(RunConfig, {"filters": {"rouge": {"threshold": 0.6}}}, where="test")
    shown = public.settings(config)
    assert shown["filters"] == {"rouge": {"threshold": 0.6}}
    assert shown["backend"]["kind"] == "llamacpp"
    assert "api_key_env" not in shown["backend"]


def test_a_setting_is_private_until_it_is_listed() -> None:
    """What nobody has thought about is left out: at the top, of a model, of a recipe, of a filter, of a request."""

    class Backend(RoleConfig):
        fresh: str = "unthought"

    class Config(RunConfig):
        fresh: str = "unthought"

    backend, judge = Backend(extra={"fresh": "unthought", "top_k": 5}), Backend(model="m")
    tree = {
        "recipe": {"name": "r", "fresh": "unthought", "table": {"fresh": "unthought", "number": 3}},
        "then": [{"name": "s", "fresh": ["unthought"]}],
        "filters": {"rouge": {"fresh": "unthought", "threshold": 0.6}},
    }
    config = Config.model_validate(tree).model_copy(update={"backend": backend, "roles": {"judge": (judge,)}})
    shown = public.settings(config)
    assert "unthought" not in str(shown)
    assert shown["backend"]["extra"] == {"top_k": 5}
    assert shown["roles"]["judge"][0]["model"] == "m"
    assert shown["recipe"] == {"name": "r", "table": {"number": 3}}
    assert (shown["then"], shown["filters"]) == ([{"name": "s"}], {"rouge": {"threshold": 0.6}})


# -- of any recipe
# ------------------------------------------------------------------------------------------------------


def test_kinds_of_tasks_are_told(tmp_path: Path) -> None:
    """Facets with how many tasks have each value, families where they are not single, names of tools."""
    with empty(tmp_path / "run") as ledger:
        for number in range(6):
            more = {"family": f"f{number % 2}", "facets": {"topic": f"t{number % 3}", "round": "10"}}
            settled(ledger, task("Ask.", ("", "a")).model_copy(update={**more, "tools": (Tool(name="find|<b>"),)}))
        text = card(ledger, title="tides", configs={"alpaca": ["train"]})
    assert "| `topic` | kept tasks |\n|---|---:|\n| `t0` | 2 |\n| `t1` | 2 |\n| `t2` | 2 |\n" in text
    assert "| `round` | kept tasks |\n|---|---:|\n| `10` | 6 |\n" in text
    assert "The kept tasks stand in 2 families" in text
    assert "Tools that they offer:\n\n- `find¦<b>`\n" in text


def test_a_plain_run_has_no_kinds(run: Run) -> None:
    """Nothing is said of facets, families and tools where there are none."""
    text = told(run)
    assert not re.search("families|Tools|kept tasks", text)


def test_each_role_is_told_with_its_model(tmp_path: Path) -> None:
    """The writer is the model, every other role has a line of its own."""
    run = Run(tmp_path, n=2).drive()
    name(run, "m", **{"judge": "j", "answerer:a": "/home/ada/a"})
    assert "- Model: `m`\n- Model of the role `judge`: `j`\n- Model of the role `answerer:a`: `a`\n" in told(run)


def test_values_of_a_facet_are_listed_up_to_a_number(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of more values than a reader wants the first are listed, and how many there are is said."""
    monkeypatch.setattr("selfinstruct.dataset.card.VALUES", 2)
    with empty(tmp_path / "run") as ledger:
        for number in (10, 9, 1):
            settled(ledger, task("Ask.", ("", "a")).model_copy(update={"facets": {"round": str(number)}}))
        text = card(ledger, title="tides", configs={"alpaca": ["train"]})
    assert "| `1` | 1 |\n| `9` | 1 |\n\nOf 3 values of `round` the first 2 are listed.\n" in text


WRITERS = [{"model": "a", "price_in": 900.0, "price_out": 0.0}, {"model": "/home/ada/b.gguf"}]


@pytest.mark.parametrize(
    ("judge", "bill", "total"),
    [
        ({"price_in": 0.0, "price_out": 500.0}, r"\$[\d.]+", r"about \$[\d.]+, by the prices that its maker named"),
        ({}, "price unknown", "unknown, as no price is known for `j`"),
    ],
)
def test_each_of_several_models_has_its_line(judge: Tree, bill: str, total: str, tmp_path: Path) -> None:
    """Its role, its name, what its answers call it, its tokens and its cost; nothing is said of one model alone."""
    scripted = {"kind": "scripted", "script": "unused"}
    asked = {"kind": "openai", "base_url": "http://10.1.2.3/v1", "model": "j"}
    roles = {"writer": [{**scripted, **one} for one in WRITERS], "judge": [{**asked, **judge}]}
    run = changed(tmp_path, roles=roles)
    run.change(
        "UPDATE run SET value = ? WHERE key = 'models'",
        json.dumps({"writer:a": "a", "writer:/home/ada/b.gguf": "/home/ada/b.gguf", "judge": "j"}),
    )
    doors = ("writer:a", "writer:/home/ada/b.gguf", "judge")
    for place, door in enumerate(doors):
        run.change("UPDATE answers SET role = ?, model = 'x' WHERE id % 3 = ?", door, place)
    run.recount()
    [meter] = run.query("SELECT * FROM meter")
    run.change("DELETE FROM meter")
    for door in doors:
        run.change(f"INSERT INTO meter VALUES ({', '.join('?' * len(meter))})", door, *meter[1:])
    text = told(run)
    lines = re.findall(r"^- (?:Model|Named).*", text, re.MULTILINE)
    tokens = r"`x` in its answers; \d+ tokens in, [1-9]\d* out"
    assert len(lines) == 3, lines
    assert re.fullmatch(rf"- Model of the role `writer:a`: `a`, {tokens}; \$[\d.]+", lines[0])
    assert re.fullmatch(rf"- Model of the role `writer:b\.gguf`: `b\.gguf`, {tokens}; no cost", lines[1])
    assert re.fullmatch(rf"- Model of the role `judge`: `j`, {tokens}; {bill}", lines[2])
    assert re.search(rf"^- Cost: {total}$", text, re.MULTILINE)
