"""The page holds what the ledger holds, within its size, and nothing that a model wrote is more than data in it."""

from __future__ import annotations

import gzip
import json
import re
from base64 import b64decode, b64encode
from hashlib import sha256
from html.parser import HTMLParser
from pathlib import Path
from random import Random
from typing import Any

import pytest

from selfinstruct.dataset.report import rows as packing
from selfinstruct.dataset.report.page import ROOM, page, tell
from selfinstruct.dataset.report.rows import pack
from selfinstruct.records import Review, Verdict
from selfinstruct.store.ledger import Ledger
from tests.support.made import HOSTILE, hostile, making
from tests.support.runs import Model, Run


def unpacked(blocks: list[str]) -> list[dict[str, Any]]:
    """The rows of a page."""
    found = []
    for block in blocks:
        columns = json.loads(gzip.decompress(b64decode(block)))["rows"]
        found += [dict(zip(columns, values, strict=True)) for values in zip(*columns.values(), strict=True)]
    return found


class Elements(HTMLParser):
    """The elements of a page with what is in them, as a browser's parser sees them."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None], str]] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs), ""))

    def handle_endtag(self, tag: str) -> None:
        self.found.append((f"/{tag}", {}, ""))

    def handle_data(self, data: str) -> None:
        if self.found:
            tag, attributes, text = self.found[-1]
            self.found[-1] = (tag, attributes, text + data)

    def of(self, tag: str) -> list[tuple[dict[str, str | None], str]]:
        return [(attributes, text) for name, attributes, text in self.found if name == tag]


@pytest.fixture
def told(tmp_path: Path) -> str:
    with Ledger.open(hostile(tmp_path)) as ledger:
        return page([tell(ledger, "<i>run</i>", room=None)])


def test_only_our_scripts_stand_on_the_page_and_the_policy_names_them(told: str) -> None:
    elements = Elements(told)
    [policy] = [a["content"] or "" for a, _ in elements.of("meta") if a.get("http-equiv") == "Content-Security-Policy"]
    scripts = [text for attributes, text in elements.of("script") if "type" not in attributes]
    digests = [f"'sha256-{b64encode(sha256(script.encode()).digest()).decode()}'" for script in scripts]
    assert re.findall(r"'sha256-[^']+'", policy.partition("style-src")[0]) == digests
    assert len(scripts) == 4
    assert policy.startswith("default-src 'none'; ")
    assert "unsafe" not in policy
    assert "connect-src" not in policy


def test_nothing_that_a_model_wrote_makes_an_element(told: str) -> None:
    elements = Elements(told)
    assert not {tag for tag, _, _ in elements.found} & {"img", "b2", "iframe", "object", "embed", "link", "base", "i2"}
    assert not [tag for tag, attributes, _ in elements.found if any(name.startswith("on") for name in attributes)]
    assert "<i>run</i>" not in told.partition("<script")[0]
    [facts] = [text for attributes, text in elements.of("script") if attributes.get("id") == "facts"]
    assert json.loads(facts)["runs"][0]["name"] == "<i>run</i>"


def test_the_page_asks_for_nothing(told: str) -> None:
    for _, attributes, _ in Elements(told).found:
        assert not attributes.get("src")
        assert (attributes.get("href") or "#").startswith("#")


def test_texts_arrive_as_they_are(tmp_path: Path) -> None:
    with Ledger.open(hostile(tmp_path)) as ledger:
        rows = unpacked(pack(ledger, "instances", None).blocks)
    kept = [row for row in rows if row["kept"] and not row["family"] and not row["system"]]
    assert [row["instruction"] for row in kept] == list(HOSTILE)
    assert [row["instances"] for row in kept] == [[["", text]] for text in HOSTILE]
    assert [row["answer"] for row in rows if row["reason"] == "unparseable"] == list(HOSTILE)
    assert {row["score"] for row in rows if row["reason"] == "near_duplicate"} == {0.91}


def test_every_draft_stands_for_itself_or_in_the_chain_of_one_that_carries_it(tmp_path: Path) -> None:
    run = Run(tmp_path, n=30).drive(Model())
    with Ledger.open(run.folder) as ledger:
        packed = pack(ledger, "instances", None)
        ids = [id for (id,) in ledger.query("SELECT id FROM drafts ORDER BY rank")]
        parents = dict(ledger.query("SELECT d.id, j.parent FROM drafts d JOIN jobs j ON j.number = d.job"))
    rows = unpacked(packed.blocks)
    told = [id for row in rows for id in (row["id"], *row["chain"])]
    assert sorted(told) == sorted(ids)
    assert all(row["chain"] == ([parents[row["id"]]] if parents[row["id"]] else []) for row in rows)
    assert packed.shown == packed.of == len(rows)
    assert all(len(row["from"]) == 8 for row in rows)


def test_an_evolved_family_is_linked_by_parents_and_not_folded_into_its_last_member(tmp_path: Path) -> None:
    with making(tmp_path) as maker:
        child = maker.evolved("Write a poem about winter.", "s1", "deepen", 1)
        grandchild = maker.evolved("Write a poem about winter in Basque.", child, "add_constraints", 2)
        rows = {row["id"]: row for row in unpacked(pack(maker.ledger, "instances", None).blocks)}
    assert list(rows) == [child, grandchild]
    assert [(row["parent"], row["family"], row["chain"]) for row in rows.values()] == [
        ("s1", "s1", ["1.1"]), (child, "s1", ["3.1"]),
    ]  # fmt: skip


def test_what_does_not_fit_is_left_out_by_whole_families_drawn_by_a_fixed_seed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(packing, "AT_ONCE", 4)
    rng = Random(1)
    with making(tmp_path) as maker:
        for _ in range(20):
            maker.task("".join(rng.choices("abcdefghijklmnop ", k=400)))
        whole = pack(maker.ledger, "instances", None)
        some = pack(maker.ledger, "instances", sum(map(len, whole.blocks)) // 2)
        again = pack(maker.ledger, "instances", sum(map(len, whole.blocks)) // 2)
    assert (whole.shown, whole.of) == (20, 20)
    assert some == again
    assert 4 <= some.shown < 20 == some.of
    assert sum(map(len, some.blocks)) <= sum(map(len, whole.blocks)) // 2


def test_a_page_stays_under_five_megabytes_whatever_is_in_it(tmp_path: Path) -> None:
    rng = Random(1)
    with making(tmp_path) as maker:
        for _ in range(1200):
            maker.task("".join(rng.choices("abcdefghijklmnopqrstuvwxyz ", k=3000)), rng.randbytes(1500).hex())
        told = tell(maker.ledger, "large", room=ROOM)
    text = page([told])
    assert 4_500_000 < len(text.encode()) < 5_000_000
    assert told.packed.shown < told.packed.of == 1200
    [share] = re.findall(r"<b>([\d,]+ of [\d,]+) drafts are on this page</b>", text)
    assert share == f"{told.packed.shown:,} of 1,200"


def test_what_a_person_decided_is_on_the_page(tmp_path: Path) -> None:
    with making(tmp_path) as maker:
        dropped, edited, plain = (maker.task(f"Write a poem about topic {n}.") for n in range(3))
        duplicate = Verdict(filter="rouge", keep=False, reason="near_duplicate")
        rescued = maker.task("Write it again.", verdict=duplicate)
        maker.ledger.review(Review(draft=dropped, keep=False))
        maker.ledger.review(Review(draft=edited, keep=True, instruction="Write better."))
        maker.ledger.review(Review(draft=rescued, keep=True))
        told = tell(maker.ledger, "run", room=None)
    reviews = {row["id"]: row["review"] for row in unpacked(told.packed.blocks)}
    assert "A person reviewed 3 of the drafts (1 dropped, 1 edited, 1 kept);" in page([told])
    assert reviews[plain] is None
    assert (reviews[dropped]["keep"], reviews[rescued]["keep"]) == (False, True)
    assert reviews[edited] == {
        "keep": True, "edited": True, "instruction": "Write better.", "instances": [["", "Done."]],
    }  # fmt: skip
