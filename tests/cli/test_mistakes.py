"""What people get wrong is answered with one line that says what to do, on stderr, with exit code 2."""

# ruff: noqa: E501 - a message is one line, and so it stands here

from __future__ import annotations

import contextlib
import json
import os
import pty
import re
import signal
import subprocess
import sys
import termios
import time
from pathlib import Path

import pytest

from selfinstruct.cli.main import COMMANDS
from tests.cli.conftest import Say
from tests.support.cli import ENVIRONMENT, Said, answers, seeds, shell, write

MISTAKES = {
    "genrate": "No such command 'genrate'. Did you mean 'generate'?; see selfinstruct --help",
    "make": f"No such command 'make'; known: {', '.join(COMMANDS)}; see selfinstruct --help",
    "seeds list": "No such command 'list'; known: check; see selfinstruct seeds --help",
    "generate my.jsonl": None,
    "generate my.jsonl more.jsonl": "Got unexpected extra argument (more.jsonl); see selfinstruct generate --help",
    "generate my.jsonl --seeds more.jsonl": "seeds are given twice, my.jsonl and --seeds more.jsonl: leave one out; see selfinstruct generate --help",
    "generate -n 0": "Invalid value for '-n' / '--num-tasks': 0 is not in the range x>=1; see selfinstruct generate --help",
    "generate -n many": "Invalid value for '-n' / '--num-tasks': 'many' is not a valid integer range; see selfinstruct generate --help",
    "generate --modle x": None,
    "generate --dialect jazz": "Invalid value for '--dialect': 'jazz' is not one of 'completion', 'chat'; see selfinstruct generate --help",
    "--model x generate": "No such option '--model'. Did you mean '--help'?; options stand after the command; see selfinstruct --help",
    "show": "Missing argument 'RUN'; see selfinstruct show --help",
    "show first": "outputs/first: no run here; runs under outputs: none yet; `selfinstruct generate` begins one",
    "generate --backend gpt --dry-run": "unknown backend 'gpt'; known: llamacpp, openai, scripted, vllm",
    "generate --backend opanai": "unknown backend 'opanai'; did you mean openai? known: llamacpp, openai, scripted, vllm",
    "generate --recipe alpacca": "unknown recipe 'alpacca'; did you mean alpaca? known: alpaca, evol-instruct, self-instruct",
    "generate --format alpca --dry-run": "unknown format 'alpca'; did you mean alpaca? known: alpaca, dolly, evol, jsonl, messages, prompt-completion, self-instruct, sharegpt, text",
    "generate --set filters.rogue.threshold=1": "unknown filter 'rogue'; did you mean rouge? known: elimination, instances, rouge, validity",
    "generate --set filters.rouge.treshold=1": "filters.rouge: unknown key `treshold`; did you mean `threshold`?",
    "generate --set recipe.switches.any_yess=false": "recipe self-instruct: unknown key `switches.any_yess`; did you mean `any_yes`?",
    "generate --set backend.modle=x": "configuration: unknown key `backend.modle`; did you mean `model`?",
    "generate --set colour=red": "configuration: unknown key `colour` (known: n, seeds, prompts, seed, ordered, window, formats, patience, recipe, then, backend, roles, sandbox, tools, filters, budget, export)",
    "generate --set n": "--set n: write it as key=value, such as filters.rouge.threshold=0.6",
    "generate --set n=many": "configuration: `n` = 'many': input should be a valid integer",
    "generate --set n=true": "configuration: `n` = True: input should be a valid integer",
    "generate --set ordered=yes": "configuration: `ordered` = 'yes': input should be a valid boolean",
    "generate --set seeds=3": "configuration: `seeds` = 3: input should be a valid string",
    "generate --threshold 7": "filters.rouge: `threshold` = 7.0: input should be less than or equal to 1",
    "generate --set export.validation=2.5": "configuration: `export.validation`: 2.5 is neither a share between 0 and 1 nor a count of rows; write 0.1, or 500",
    "generate --set export.shard=2": "configuration: unknown key `export.shard`; did you mean `shard_rows`?",
    "generate --set window=9": "configuration: `window` means something only with `ordered = true`",
    "generate --backend scripted": "configuration: `backend`: a scripted backend needs `script`, a file of answers",
    "generate --backend openai --script x": "configuration: `backend`: `script` is for kind `scripted`, not `openai`: leave one of the two out",
    "generate --backend llamacpp --base-url http://x/v1": "configuration: `backend`: `base_url` is for a server that is running: use kind `openai` (or `vllm`) with it",
    "generate --structured --dialect completion": "configuration: `backend`: `structured` answers need the chat dialect",
    "generate --structured --dry-run": "backend.structured: needs the chat dialect, but this model takes completions; add --dialect chat",
    "generate --strict --dialect chat": "recipe.strict: the published code reads completions, but this model is asked in chat; add --dialect completion, or leave strict out",
    "generate --strict --set recipe.switches.any_yes=true": "recipe self-instruct: strict turns every switch off, but switches.any_yes is on: drop one of the two",
    "generate --set recipe.kept_demonstrations=9": "recipe self-instruct: kept_demonstrations is more than demonstrations: lower it",
    "generate --set recipe.demonstrations=9000": None,
    "generate --max-cost -1": "Invalid value for '--max-cost': -1.0 is not in the range x>0; see selfinstruct generate --help",
    "generate --max-cost nan": "configuration: `budget.cost` = nan: input should be a finite number",
    "generate --max-tokens 0": "Invalid value for '--max-tokens': 0 is not in the range x>=1; see selfinstruct generate --help",
    "generate --max-time soon": "Invalid value for '--max-time': 'soon' is no time; write seconds, or 30m, 2h; see selfinstruct generate --help",
    "generate --max-time 0m": "Invalid value for '--max-time': '0m' is no time; write seconds, or 30m, 2h; see selfinstruct generate --help",
    "generate --set budget.dollars=5": "configuration: unknown key `budget.dollars` (known: cost, tokens, requests, time)",
    "generate --set budget.time=2h": "configuration: `budget.time` = '2h': input should be a valid number",
    "generate --price-in 1": "configuration: `backend`: prices are told together: `price_in` and `price_out`",
    "generate --base-url http://localhost:1/v1 --model x --max-cost 5": "budget.cost: the price of x there is not known; say what a million tokens cost, in US dollars, with --price-in and --price-out, or leave the budget out",
    "generate --base-url http://localhost:1/v1 --max-cost 5 --dry-run": "budget.cost: no model is named, so no price is known; name it with --model, or say what a million tokens cost, in US dollars, with --price-in and --price-out, or leave the budget out",
    "generate --base-url http://localhost:1/v1 --model x --price-in 1 --price-out 1 --set roles.writer.base_url=http://localhost:2/v1 --max-cost 5": "budget.cost: no model is named, so no price is known; name it with roles.writer.model, or say what a million tokens cost, in US dollars, with price_in and price_out in roles.writer, or leave the budget out",
    "generate --set then.0.rounds=2": "configuration: `then.0` names no recipe; name it with --then, or with `name` in its table",
    "generate --then evol-instruct --set then.1.rounds=2": "configuration: `then.1` names no recipe; name it with --then, or with `name` in its table",
    "generate --then evol-instruct --set then.2.rounds=2": "configuration: `then.1` is missing; places are counted from 0, and none is left out",
    "generate --set then=5": "configuration: `then` = 5 is no name and no table; write then = [\"evol-instruct\"], or a table [[then]] with `name`",
    "generate --set then=evol-instruct --set then.0.round=2": "recipe evol-instruct: unknown key `round`; did you mean `rounds`?",
    "generate --set roles.judge=5": "configuration: `roles.judge` = 5 is no name and no table; write judge = \"gpt-4o\", or a table [roles.judge]",
    "generate --set judge=[5]": "configuration: `roles.judge` = [5] is no name and no table; write judge = \"gpt-4o\", or a table [roles.judge]",
    "generate --set roles.judge.1.model=x": "configuration: `roles.judge.0` is missing; places are counted from 0, and none is left out",
    "generate --config nope.toml": "nope.toml: no such configuration file",
    "generate --config bad.toml": "bad.toml: not TOML: Invalid value (at line 1, column 5)",
    "generate --seeds nope.jsonl": None,
    "generate --prompts nope": "nope: not a folder of prompts",
    "generate --script nope.jsonl": None,
    "check --script nope.jsonl": None,
    "check --set x=1": None,
    "generate --temperature nan": "configuration: `recipe.sampling.temperature` = nan: input should be a finite number",
    "generate --temperature -inf": "configuration: `recipe.sampling.temperature` = -inf: input should be a finite number",
    "generate --top-p 1e400": "configuration: `recipe.sampling.top_p` = inf: input should be a finite number",
    "generate --threshold nan": "configuration: `filters.rouge.threshold` = nan: input should be a finite number",
    "generate --timeout inf": "configuration: `backend.timeout` = inf: input should be a finite number",
    "generate --seed 1000000000000000000000": "configuration: `seed`: a number of more than 64 bits",
    "generate -n 1000000000000000000000": "configuration: `n`: a number of more than 64 bits",
    "generate --set backend.extra.top_k=nan": "configuration: `backend.extra.top_k` = nan: input should be a finite number",
    "generate --model a\udc80": "configuration: `backend.model`: \"a\\udc80\" holds bytes that are no text",
    "generate --base-url http://[::1 --model m": "base_url 'http://[::1' is no address: write it as http://localhost:8000/v1",
    "generate --base-url http://h:99999/v1 --model m": "base_url 'http://h:99999/v1' is no address: write it as http://localhost:8000/v1",
    "dedup bad.toml --threshold nan": "Invalid value for '--threshold': nan is no finite number; see selfinstruct dedup --help",
    "dedup /": "/: has no name to make others from; name the files with --to and --dropped",
    "dedup bad.toml --to /": None,
    f"status {'n' * 256}": None,
    f"generate --run {'n' * 256}": None,
    f"generate --output-dir {'n' * 256}": None,
    f"generate {'n' * 256}.jsonl": None,
    f"generate --config {'n' * 256}": None,
    f"generate --prompts {'n' * 256}": None,
    f"generate --script {'n' * 256}": None,
    f"seeds check {'n' * 256}": None,
    f"dedup {'n' * 256}": None,
    f"dedup bad.toml --to {'n' * 256}": None,
}  # fmt: skip
"""A command, and its one line; None where another part of the project words it."""


@pytest.mark.parametrize(("command", "message"), MISTAKES.items(), ids=MISTAKES)
def test_a_mistake_is_one_line(command: str, message: str | None, here: Path, selfinstruct: Say) -> None:
    (here / "bad.toml").write_text("n = = 3")
    said = selfinstruct(*command.split())
    assert (said.code, said.out) == (2, "")
    assert said.err.startswith("selfinstruct: ")
    assert said.err.count("\n") == 1
    if message is not None:
        assert said.err == f"selfinstruct: {message}\n"
    assert not (here / "outputs").exists() or not list((here / "outputs").iterdir())


OF_A_RUN = {
    "show first 9.9": "outputs/first: no draft 9.9; ids look like 17.3 and stand in samples.jsonl and `drops`",
    "show second": "outputs/second: no run here; runs under outputs: first",
    "drops first --reason rude": "nothing was dropped for reason 'rude'; in this run: banned_word, near_duplicate",
    "drops first --filter rude --json": "nothing was dropped by filter 'rude'; in this run: rouge, validity",
    "export first --format xls": "unknown format 'xls'; known: alpaca, dolly, evol, jsonl, messages, prompt-completion, self-instruct, sharegpt, text",
    "export first --facet round=1": "outputs/first: its tasks have no facet 'round'; there are: none",
    "export first --facet round": "Invalid value for '--facet': 'round' names no value; write it as NAME=VALUE, such as topic=tides; see selfinstruct export --help",
    "export first --parents": "outputs/first: its tasks were not made from source rows; leave out --parents and --sources",
    "export first --sources": "outputs/first: its tasks were not made from source rows; leave out --parents and --sources",
    "export first --validation 0": "export: `validation`: 0 is neither a share between 0 and 1 nor a count of rows; write 0.1, or 500",
    "export first --validation 1.5": "export: `validation`: 1.5 is neither a share between 0 and 1 nor a count of rows; write 0.1, or 500",
    "export first --validation 2": "validation = 2: takes all there is, 2 rows of 2 tasks; ask for fewer, or leave it out",
    "export first --validation some": "Invalid value for '--validation': 'some' is neither a share such as 0.1 nor a count such as 500; see selfinstruct export --help",
    "export first --file-type xls": "Invalid value for '--file-type': 'xls' is not one of 'jsonl', 'json', 'parquet'; see selfinstruct export --help",
    "drops first -n 1000000000000000000000": "Invalid value for '-n' / '--number': 1000000000000000000000 is not in the range 1<=x<=1000000000; see selfinstruct drops --help",
    "show first -n 1000000000000000000000": "Invalid value for '-n' / '--number': 1000000000000000000000 is not in the range 1<=x<=1000000000; see selfinstruct show --help",
    "card first --to=": ".: cannot be written: Is a directory; choose another place with --to",
    f"card first --to {'n' * 256}": None,
    f"export first --to {'n' * 256}": None,
    f"report first --to {'n' * 256}": None,
    f"filter first --into {'n' * 256}": None,
    "export first --shard-rows 0": "Invalid value for '--shard-rows': 0 is not in the range x>=1; see selfinstruct export --help",
    "export first --to seeds.jsonl": "Invalid value for '--to': Directory 'seeds.jsonl' is a file; see selfinstruct export --help",
    "filter first --set n=3": "filter changes settings of filters only, not n; write filters.NAME.KEY=VALUE",
    "filter first --threshold 7": "filters.rouge: `threshold` = 7.0: input should be less than or equal to 1",
    "generate --run first --seed 8": "outputs/first: begun with seed = 7, not 8; leave it out, or begin another run with --run",
    "generate --run first --strict": "outputs/first: begun with recipe.strict = False, not True; leave it out, or begin another run with --run",
    "generate --run first --threshold 0.5": "outputs/first: begun with filters.rouge.threshold = 0.7, not 0.5; leave it out, or begin another run with --run",
    "generate --run first --model x": "outputs/first: begun with backend.model = '', not 'x'; leave it out, or begin another run with --run",
    "generate --run first --set recipe.switchs.any_yes=true": "recipe self-instruct: unknown key `switchs`; did you mean `switches`?",
}  # fmt: skip


@pytest.mark.parametrize(("command", "message"), OF_A_RUN.items(), ids=OF_A_RUN)
def test_a_mistake_about_a_run_is_one_line(command: str, message: str | None, first: Said, selfinstruct: Say) -> None:
    said = selfinstruct(*command.split())
    if message is not None:
        assert said == (2, "", f"selfinstruct: {message}\n")
    assert (said.code, said.out, said.err.count("\n")) == (2, "", 1)


def test_other_seeds_are_another_run(first: Said, selfinstruct: Say, here: Path) -> None:
    other = write(here, "other.jsonl", [{"instruction": f"Name river {i}.", "output": "Rhine"} for i in range(8)])
    said = selfinstruct("generate", "--run", "first", "--seeds", other)
    assert said.err == (
        f"selfinstruct: outputs/first: begun with other seeds than are in {other} now; leave it out, or begin another run with --run\n"
    )


def test_what_may_change_continues_a_run(first: Said, selfinstruct: Say) -> None:
    flags = ("--concurrency", "3", "--timeout", "9", "--format", "alpaca", "--set", "patience=5")
    said = selfinstruct("generate", "--run", "first", "--seeds", "seeds.jsonl", *flags)
    assert (said.code, said.out) == (
        0, "outputs/first/export/alpaca.json: 2 rows\noutputs/first/export/alpaca.jsonl: 2 rows\n",
    )  # fmt: skip


# -- what a terminal is shown
# ----------------------------------------------------------------------------------------------

BELL = (
    " Explain \x1b[31mwhy\x07 the\x9b2J tide\u202e rises twice.\n10. \x1b]0;Draw a map of it\x07.\n11. \x1bName it all."
)


def test_control_characters_of_models_never_reach_the_terminal(here: Path, selfinstruct: Say) -> None:
    script = answers(here, BELL, instance="Output: \x1b[2Jgone\x00\x85")
    flags = ("--seeds", seeds(here), "--run", "first", "-n", "1", "--concurrency", "1")
    told = [selfinstruct("generate", "--script", script, *flags)]
    told += [selfinstruct(*command.split()) for command in (
        "show first", "show first 1.1 1.2 1.3 --prompts", "show first 1.1 --json", "drops first", "drops first --json",
        "status first", "status first --json",
    )]  # fmt: skip
    assert all(said.code == 0 for said in told)
    shown = "".join(said.out + said.err for said in told)
    assert [char for char in shown if not (char.isprintable() or char == "\n")] == []
    assert "␛[31mwhy␇" in told[1].out
    again = selfinstruct("generate", "--script", script, *flags[:-4], "-n", "1", "--json", "--concurrency", "1")
    assert again.out.isascii()
    assert json.loads(told[3].out)["instruction"].startswith("Explain \x1b[31mwhy")


def test_no_colour_and_no_panel_where_no_terminal_is(here: Path) -> None:
    command = f"selfinstruct generate --script {answers(here)} --seeds {seeds(here)} -n 2"
    said = shell(command, here, NO_COLOR="1", TERM="xterm-256color")
    assert said.code == 0
    assert "\x1b" not in said.out + said.err
    assert said.err.endswith("\n")


def on_a_terminal(arguments: list[str], folder: Path, **environment: str) -> tuple[int, str]:
    """What a command shows on a terminal of 100 by 30."""
    ours, theirs = pty.openpty()
    termios.tcsetwinsize(theirs, (30, 100))
    environ = {**ENVIRONMENT, "HOME": str(folder), "TERM": "xterm-256color", **environment}
    command = [sys.executable, "-m", "selfinstruct", *arguments]
    with subprocess.Popen(command, cwd=folder, env=environ, stdout=theirs, stderr=theirs, stdin=theirs) as running:
        os.close(theirs)
        shown = b""
        # A terminal whose other end is closed reads as an error on Linux.
        with contextlib.suppress(OSError):
            while more := os.read(ours, 65536):
                shown += more
    os.close(ours)
    return running.returncode, shown.decode()


@pytest.mark.parametrize("environment", [{}, {"NO_COLOR": "1"}], ids=str)
def test_a_terminal_shows_a_panel_and_obeys_nothing_that_models_wrote(here: Path, environment: dict[str, str]) -> None:
    script = answers(here, BELL, instance="Output: x")
    flags = ["--script", script, "--seeds", seeds(here), "--run", "first", "-n", "1", "--concurrency", "1"]
    code, shown = on_a_terminal(["generate", *flags], here, **environment)
    assert code == 0
    assert "1 of 1 tasks kept" in re.sub(r"\x1b\[[\d;?]*[a-zA-Z]", "", shown)
    assert "␛[31mwhy␇ the\\u009b2J" in shown
    assert "\x1b[31mwhy" not in shown
    assert "\x9b" not in shown
    colours = re.findall(r"\x1b\[(?:\d+;)*(?:3[0-8]|9\d)(?:;\d+)*m", shown)
    assert bool(colours) is (environment == {})


def test_a_reader_who_has_seen_enough_is_no_error(first: Said, here: Path) -> None:
    said = shell("set -o pipefail; selfinstruct show first --prompts | head -1", here)
    assert said == (0, "2.1 (instances) kept\n", "")
    assert shell("selfinstruct status first | true", here) == (0, "", "")


def test_a_terminal_that_knows_ascii_only_is_shown_the_rest_by_number(first: Said, here: Path) -> None:
    said = shell("selfinstruct status first", here, PYTHONIOENCODING="ascii")
    assert "dropped 1 \\xd7 near_duplicate" in said.out


# -- ending by a signal
# ----------------------------------------------------------------------------------------------------


def test_an_interrupted_run_exits_130_and_says_how_to_go_on(here: Path) -> None:
    slow = write(here, "slow.json", [])
    Path(slow).write_text(json.dumps({"choose": "cycle", "answers": [{"text": "Hm.", "delay": 0.2}]}))
    command = [
        sys.executable,
        "-m",
        "selfinstruct",
        "generate",
        "--script",
        slow,
        "--seeds",
        seeds(here),
        "--run",
        "first",
    ]
    with subprocess.Popen(command, cwd=here, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as running:
        while not (here / "outputs" / "first" / "ledger.sqlite").exists():
            time.sleep(0.05)
        time.sleep(0.3)
        running.send_signal(signal.SIGINT)
        out, err = running.communicate(timeout=30)
    assert running.returncode == 130
    assert "outputs/first: interrupted with 0 of 30 tasks kept; the same command continues it" in err
    assert "Traceback" not in out + err
