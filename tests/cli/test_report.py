"""`report` and `review` as people type them."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import urllib.request
from pathlib import Path

from selfinstruct.records import Review
from selfinstruct.store.ledger import Ledger
from tests.cli.conftest import Say
from tests.support.cli import Said


def test_a_report_lies_in_the_runs_folder(first: Said, here: Path, selfinstruct: Say) -> None:
    said = selfinstruct("report", "first")
    assert (said.code, said.err) == (0, "")
    assert said.out == "outputs/first/report.html: 0.6 MB with 4 of 4 drafts; open it in a browser\n"
    text = (here / "outputs/first/report.html").read_text(encoding="utf-8")
    assert "<b>2 tasks</b> kept of 4 drafted, made from 8 seeds by the recipe self-instruct" in " ".join(text.split())
    assert str(here) not in text, "where it was made is nobody's business"


def test_two_runs_are_compared_in_a_file_of_ones_own(first: Said, here: Path, selfinstruct: Say) -> None:
    selfinstruct("filter", "first", "--threshold", "0.2", "--into", "second")
    said = selfinstruct("report", "first", "second", "--to", "pages/both.html")
    assert said.code == 0
    assert said.out == "pages/both.html: 0.6 MB with 4 of 4 and 5 of 5 drafts; open it in a browser\n"
    assert "<title>first and second · selfinstruct</title>" in (here / "pages/both.html").read_text(encoding="utf-8")


def test_two_runs_of_one_name_are_told_apart(first: Said, here: Path, selfinstruct: Say) -> None:
    selfinstruct("filter", "first", "--threshold", "0.2", "--into", "other/first")
    selfinstruct("report", "first", "other/first", "--to", "both.html")
    assert "<title>outputs/first and other/first · " in (here / "both.html").read_text(encoding="utf-8")


def test_the_same_run_gives_the_same_page(first: Said, here: Path, selfinstruct: Say) -> None:
    for name in ("one.html", "two.html"):
        selfinstruct("report", "first", "--to", name)
    assert (here / "one.html").read_bytes() == (here / "two.html").read_bytes()


def test_what_cannot_be_reported_is_told_in_a_line(first: Said, here: Path, selfinstruct: Say) -> None:
    there = "no run here; runs under outputs: first"
    assert selfinstruct("report", "third") == (2, "", f"selfinstruct: outputs/third: {there}\n")
    assert selfinstruct("report", "first", "third") == (2, "", f"selfinstruct: outputs/third: {there}\n")
    (here / "file").write_text("", encoding="utf-8")
    said = selfinstruct("report", "first", "--to", "file/report.html")
    assert said.code == 2
    assert said.err.startswith("selfinstruct: ")
    assert "choose another place with --to" in said.err


def test_decisions_are_told_by_status_and_show(first: Said, here: Path, selfinstruct: Say) -> None:
    [one, two] = re.findall(r"^(\S+) \(instances\) kept$", selfinstruct("show", "first").out, re.MULTILINE)
    with Ledger.open(here / "outputs/first", write=True) as ledger:
        ledger.review(Review(draft=one, keep=False))
        ledger.review(Review(draft=two, keep=True, instruction="Sing."))
    assert "  reviewed: dropped 1, edited 1\n" in selfinstruct("status", "first").out
    assert json.loads(selfinstruct("status", "first", "--json").out)["reviews"] == {"dropped": 1, "edited": 1}
    assert "  reviewed by a person: dropped\n" in selfinstruct("show", "first", one).out
    assert json.loads(selfinstruct("show", "first", two, "--json").out)["review"] == "edited"


def test_verify_names_the_files_that_a_decision_has_outdated(first: Said, here: Path, selfinstruct: Say) -> None:
    assert selfinstruct("verify", "first").code == 0
    with Ledger.open(here / "outputs/first", write=True) as ledger:
        [(id,)] = ledger.query("SELECT id FROM kept WHERE stage = 'instances' LIMIT 1")
        ledger.review(Review(draft=id, keep=False))
    said = selfinstruct("verify", "first")
    assert said.code == 1
    assert said.out.splitlines()[0] == (
        "outputs/first/export/alpaca.json: not what the run's own settings give; `selfinstruct export` writes it again"
    )
    selfinstruct("export", "first")
    assert selfinstruct("verify", "first").code == 0
    assert len(json.loads((here / "outputs/first/export/alpaca.json").read_text(encoding="utf-8"))) == 1


def test_a_review_is_served_until_it_is_stopped(first: Said, here: Path) -> None:
    command = [sys.executable, "-m", "selfinstruct", "review", "first", "--no-browser"]
    serving = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=dict(os.environ))
    assert serving.stdout is not None
    address = serving.stdout.readline().strip()
    try:
        assert re.fullmatch(r"http://127\.0\.0\.1:\d+/[\w-]{32}/", address)
        with urllib.request.urlopen(f"{address}reviews", timeout=10) as answer:
            assert json.load(answer) == []
    finally:
        serving.send_signal(signal.SIGINT)
        out, err = serving.communicate(timeout=20)
    assert (serving.returncode, out) == (0, "")
    assert err == "no decisions\n"
