"""What a person is told of a budget: before the run, while it works, when it is reached, and afterwards."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from selfinstruct.store.ledger import Ledger
from tests.cli.conftest import LIST, Say
from tests.support.cli import answers, seeds, write

AGAIN = "and the same command continue it"
PRICES = ("--price-in", "2", "--price-out", "10")


@pytest.fixture
def command(here: Path) -> tuple[str, ...]:
    """A run that asks five times."""
    script = answers(here, LIST)
    flags = ("-n", "2", "--concurrency", "1", "--seed", "7", "--quiet")
    return ("generate", "--script", script, "--seeds", seeds(here), "--run", "first", *flags)


def test_a_run_that_reached_its_budget_says_so_exits_0_and_status_remembers(
    command: tuple[str, ...], selfinstruct: Say
) -> None:
    said = selfinstruct(*command, "--max-requests", "3", "--max-tokens", "90000")
    reached = f"budget of 3 requests reached: 3 sent; a larger --max-requests {AGAIN}"
    assert (said.code, said.err) == (0, f"outputs/first: stopped: {reached}\n")
    lines = selfinstruct("status", "first").out.splitlines()
    assert lines[:3] == [
        "outputs/first: 1 of 2 tasks kept, unfinished",
        f"  stopped: {reached}",
        "  recipe self-instruct, model scripted",
    ]
    [budget] = [line for line in lines if line.startswith("  budget")]
    assert re.fullmatch(r"  budget: 1,\d\d\d of 90,000 tokens, 3 of 3 requests", budget)
    facts = json.loads(selfinstruct("status", "first", "--json").out)
    assert (facts["ended"]["ending"], facts["ended"]["message"]) == ("budget", reached)
    assert facts["budget"]["requests"] == {"spent": 3, "of": 3}
    assert facts["meter"]["writer"]["requests"] == 3
    assert list(facts["meter"]) == ["writer"]


def test_with_a_larger_budget_the_same_command_continues_and_without_one_the_old_holds(
    command: tuple[str, ...], selfinstruct: Say
) -> None:
    assert selfinstruct(*command, "--max-requests", "3").code == 0
    assert "3 of 3 requests" in selfinstruct("status", "first").out
    again = selfinstruct(*command)
    assert (again.code, "budget of 3 requests reached" in again.err) == (0, True)
    more = selfinstruct(*command, "--max-requests", "5")
    assert (more.code, more.err) == (0, "")
    told = selfinstruct("status", "first").out
    assert "2 of 2 tasks kept, complete" in told
    assert "5 of 5 requests" in told
    assert "stopped" not in told
    assert selfinstruct("verify", "first").code == 0


def test_a_budget_smaller_than_one_request_is_one_line(command: tuple[str, ...], selfinstruct: Say) -> None:
    said = selfinstruct(*command, "--max-cost", "0.0001", *PRICES)
    assert said.code == 0
    assert re.fullmatch(
        r"outputs/first: stopped: budget of \$0\.0001 reached: \$0\.00 spent, and the next request may take \$0\.0\d+;"
        rf" a larger --max-cost {AGAIN}\n",
        said.err,
    )
    assert selfinstruct("status", "first").out.splitlines()[-1] == "  budget: $0.00 of $0.0001"


def test_the_budget_holds_for_retry_which_takes_another(here: Path, selfinstruct: Say) -> None:
    script = write(here, "faults.jsonl", [{"fault": "refused", "text": "too rude"}] * 9)
    flags = ("--seeds", seeds(here), "--concurrency", "1", "--set", "patience=2", "--quiet", "--run", "first")
    assert selfinstruct("generate", "--script", script, *flags, "--max-requests", "2").code == 1
    write(here, "faults.jsonl", [" Explain why the tide rises.", *["No", "Output: The moon."] * 9])
    assert "budget of 2 requests reached: 2 sent" in selfinstruct("retry", "first").err
    assert "reached" not in selfinstruct("retry", "first", "--max-requests", "99").err
    assert json.loads(selfinstruct("status", "first", "--json").out)["budget"]["requests"]["of"] == 99


def test_status_tells_how_a_run_was_interrupted(command: tuple[str, ...], selfinstruct: Say, here: Path) -> None:
    assert selfinstruct(*command, "--max-requests", "3").code == 0
    told = {}
    for ending, message in [("interrupted", ""), ("exhausted", ""), ("failing", "the last 9 jobs \x1b failed")]:
        with Ledger.open(here / "outputs/first", write=True) as ledger:
            ledger.end(ending, message)
        told[ending] = selfinstruct("status", "first").out.splitlines()[1]
    assert told == {
        "interrupted": "  interrupted",
        "exhausted": "  stopped: nothing more can be planned",
        "failing": "  stopped: the last 9 jobs ␛ failed",
    }
    with Ledger.open(here / "outputs/first", write=True) as ledger:
        ledger.go_on()
    assert selfinstruct("status", "first").out.splitlines()[1] == "  recipe self-instruct, model scripted"


def test_a_working_run_forecasts_its_cost(command: tuple[str, ...], selfinstruct: Say) -> None:
    loud = [flag for flag in command if flag != "--quiet"]
    lines = selfinstruct(*loud, *PRICES, "--max-cost", "3", "--max-requests", "50").err.splitlines()
    [first] = [line for line in lines if line.startswith("1 of 2 tasks kept")]
    cost = r"\$0\.\d{4}"
    assert re.search(
        rf" · ({cost}), about {cost} in all · budget \1 of \$3\.00, about {cost} in all"
        r" · budget 3 of 50 requests, about 6 in all$",
        first,
    )
    assert re.search(rf" · ({cost}) · budget \1 of \$3\.00 · budget 5 of 50 requests$", lines[-1])


def test_a_dry_run_tells_cost_time_and_how_far_the_budget_reaches(here: Path, selfinstruct: Say) -> None:
    where = ("--base-url", "http://localhost:1/v1", "--model", "base-model", "--seeds", seeds(here))
    budget = ("--max-cost", "3", "--max-requests", "99999", "--max-time", "1m")
    told = selfinstruct("generate", *where, "-n", "700", *PRICES, "--dry-run", *budget).out.partition("Estimate ")[2]
    assert (
        re.sub(r"\d+%", "…%", re.sub(r"[\d,]+ (tokens in|out$|tasks$)", r"… \1", told, flags=re.MULTILINE))
        == """\
for 700 tasks with self-instruct (openai, completion dialect), by experience with small models:
  instructions: about 333 jobs, 3 kept from each
  instances: about 1,000 jobs, 0.7 kept from each
  about 2,333 requests, … tokens in, … out
  cost: about $6.05, at $2 in, $10 out for a million tokens (as you said)
  budget of $3.00: enough for about …%, … tasks
  budget of 99,999 requests: enough, about …% of it
Nothing was asked.
"""
    )


def test_a_dry_run_says_plainly_where_no_price_is_known(here: Path, selfinstruct: Say) -> None:
    said = selfinstruct("generate", "--base-url", "http://localhost:1/v1", "--seeds", seeds(here), "--dry-run")
    assert (
        "\n  cost: price unknown; --price-in and --price-out say it, in US dollars for a million tokens\n" in said.out
    )


def test_a_price_that_is_no_longer_known_leaves_the_rest_to_be_told(
    command: tuple[str, ...], selfinstruct: Say, here: Path
) -> None:
    assert selfinstruct(*command, *PRICES, "--max-cost", "5", "--max-requests", "3").code == 0
    with Ledger.open(here / "outputs/first", write=True) as ledger:
        config = json.loads(ledger.fact("config") or "")
        config["backend"] = {"kind": "openai", "base_url": "http://localhost:1/v1"}
        ledger.reconfigure(json.dumps(config), 2)
    lines = selfinstruct("status", "first").out.splitlines()
    assert any(line.endswith("; price unknown") for line in lines)
    assert "  budget: 3 of 3 requests" in lines
