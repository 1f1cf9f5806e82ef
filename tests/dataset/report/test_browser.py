"""Pages in a real browser: what a model wrote does nothing there, anybody can use them, reviews reach the ledger.

`make test-browser` runs them. They need Debian's `chromium` and `chromium-driver`, and fail without.
"""

from __future__ import annotations

import base64
import re
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
from selenium.webdriver.common.keys import Keys

from selfinstruct.dataset.report.page import page, tell
from selfinstruct.records import Instance, Review
from selfinstruct.store.ledger import Ledger
from tests.dataset.report.test_review import serving
from tests.support.browsing import Browser, browser
from tests.support.made import HOSTILE, hostile, making, talk

pytestmark = pytest.mark.browser

SIZES = {"desktop": (1280, 900), "phone": (375, 800)}
CONTROLS = re.compile("[\x7f-\x9f\u202a-\u202e\u2066-\u2069]")


@pytest.fixture(scope="module")
def chromium() -> Iterator[Browser]:
    with browser() as running:
        yield running


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run whose every text is hostile."""
    return hostile(tmp_path_factory.mktemp("made"))


@pytest.fixture(scope="module")
def pages(folder: Path) -> dict[str, Path]:
    """The report of that run, and one of two runs."""
    with Ledger.open(folder) as ledger:
        told = tell(ledger, "<b>run</b>", room=None)
    paths = {"one run": folder / "report.html", "two runs": folder / "compared.html"}
    paths["one run"].write_text(page([told]), encoding="utf-8")
    paths["two runs"].write_text(
        page([told, told._replace(figures={**told.figures, "name": "other"})]), encoding="utf-8"
    )
    return paths


@pytest.fixture
def report(chromium: Browser, pages: dict[str, Path]) -> Browser:
    return opened(chromium, pages["one run"])


def opened(chromium: Browser, place: Path | str, **looks: Any) -> Browser:
    """A page, ready, in a window of the usual size unless told otherwise."""
    chromium.said()  # what an earlier page said is not this one's
    chromium.look(**looks)
    chromium.get(place if isinstance(place, str) else place.as_uri())
    chromium.until("document.documentElement.dataset.ready")
    chromium.until("document.querySelectorAll('.chart svg').length === document.querySelectorAll('.chart').length")
    return chromium


@cache
def axe() -> str:
    spec = find_spec("axe_playwright_python")
    assert spec is not None, "make test-browser installs it"
    assert spec.origin is not None
    return Path(spec.origin).with_name("axe.min.js").read_text(encoding="utf-8")


def barriers(chromium: Browser) -> list[str]:
    """What axe finds wrong with the page as it is now."""
    chromium.script(axe())
    return list(chromium.script(
        "return axe.run().then(found => found.violations.map(one => `${one.id}: ${one.nodes[0].html} (${one.help})`))"
    ))  # fmt: skip


def visible(text: str) -> str:
    """A text as the page shows it."""
    pictures = re.sub("[\x00-\x08\x0b-\x1f]", lambda m: chr(0x2400 + ord(m[0])), text)
    return CONTROLS.sub(lambda m: f"\\u{ord(m[0]):04x}", pictures)


def shown(chromium: Browser) -> str:
    """The instruction that the page shows, or the answer of a draft that has none."""
    of = "document.querySelector('#detail .instruction') || document.querySelector('#detail .words')"
    return str(chromium.script(f"return ({of}).textContent"))


def rows(chromium: Browser) -> int:
    return int(chromium.script("return found.length"))


# -- safe -------------------------------------------------------------------------------------------------------------


def test_what_a_model_wrote_is_shown_and_does_nothing(report: Browser) -> None:
    seen = []
    for _ in range(rows(report)):
        seen.append(shown(report))
        report.press("j")
    assert {visible(text) for text in HOSTILE} <= set(seen)
    assert report.script("return document.title") == "<b>run</b> · selfinstruct"
    assert (
        report.script("return document.querySelectorAll('main img, main script, main iframe, main b bdi b').length")
        == 0
    )
    assert report.said() == []


def test_a_page_asks_for_nothing(chromium: Browser, pages: dict[str, Path]) -> None:
    for place in pages.values():
        opened(chromium, place)
        assert chromium.script("return performance.getEntriesByType('resource').length") == 0
        assert chromium.said() == [], "the policy refuses nothing that the page does"


def test_the_policy_stops_what_is_not_ours(report: Browser) -> None:
    report.script(
        "const made = document.createElement('script'); made.textContent = 'document.title = 1';"
        "document.body.append(made);"
        "document.body.insertAdjacentHTML('beforeend', '<img src=\"data:,\" onerror=\"document.title = 2\">')"
    )
    assert report.script("return document.title") == "<b>run</b> · selfinstruct"
    assert any("Content Security Policy" in line for line in report.said())


def test_a_text_cannot_turn_the_line_that_it_stands_in(report: Browser) -> None:
    report.script("choose(samples.find(row => row.instruction.includes('قصيدة')))")
    assert (
        report.script("return getComputedStyle(document.querySelector('#detail .instruction')).unicodeBidi")
        == "isolate"
    )
    assert report.script("return document.querySelector('#detail .instruction').matches(':dir(rtl)')")
    assert report.script("return document.querySelector('#detail .facts').matches(':dir(ltr)')")


# -- usable -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", SIZES.values(), ids=SIZES)
@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
@pytest.mark.parametrize("which", ["one run", "two runs"])
def test_axe_finds_no_barrier(
    chromium: Browser, pages: dict[str, Path], which: str, size: tuple[int, int], *, dark: bool
) -> None:
    opened(chromium, pages[which], width=size[0], height=size[1], dark=dark)
    chromium.script("choose(samples.find(row => row.facets.round === '1' && row.kept))")
    assert barriers(chromium) == []
    chromium.script("document.querySelectorAll('details').forEach(one => { one.open = true })")
    assert barriers(chromium) == []
    assert chromium.script("return document.documentElement.scrollWidth") <= size[0], "nothing hangs over the edge"


def test_the_samples_are_reached_and_read_with_the_keyboard_alone(report: Browser) -> None:
    report.press(Keys.TAB, Keys.ENTER)
    assert report.script("return document.activeElement.id") == "samples"
    first = report.script("return chosen.id")
    report.press("j", "j", "k")
    assert report.script("return found.indexOf(chosen)") == 1
    report.press("/")
    report.press("Basque", Keys.ESCAPE)
    assert report.script("return document.activeElement.id") == "list"
    assert rows(report) == 1
    assert "in Basque" in shown(report)
    active = report.script(
        "return document.getElementById(document.activeElement.getAttribute('aria-activedescendant'))?.ariaSelected"
    )
    assert active == "true"
    assert report.script("return document.querySelector('#detail mark').textContent") == "Basque"
    report.press("/")
    report.press(Keys.CONTROL + "a", Keys.DELETE, Keys.ESCAPE)
    report.press(Keys.HOME)
    assert report.script("return chosen.id") == first
    report.press(Keys.END, Keys.UP)
    assert report.script("return found.indexOf(chosen)") == rows(report) - 2


def test_filters_choose_what_they_count(report: Browser) -> None:
    options = report.script(
        "return Object.entries(search.choices).flatMap(([key, select]) => [...select.options].slice(1)"
        ".map(option => [key, option.value, Number(option.textContent.match(/\\(([0-9,]+)\\)$/)[1].replace(',', ''))]))"
    )
    assert {key for key, _, _ in options} == {
        "verdict", "stage", "category", "operator", "round", "filter", "reason",
    }  # fmt: skip
    for key, value, count in options:
        report.script(
            "document.getElementById('search').reset(); search.choices[arguments[0]].value = arguments[1];"
            "document.getElementById('search').dispatchEvent(new Event('input'))",
            key, value,
        )  # fmt: skip
        assert rows(report) == count, (key, value)
    report.script("document.querySelector('button[type=reset]').click()")
    report.until("found.length === samples.length")


def test_a_dropped_draft_tells_why_and_what_it_is_too_like(report: Browser) -> None:
    report.script("choose(samples.find(row => row.reason === 'near_duplicate'))")
    told = report.script("return document.getElementById('detail').textContent")
    assert "Dropped by rouge: near duplicate." in told
    assert "Nearest (ROUGE-L 0.910): " in told
    report.script("document.querySelector('#detail .link').click()")
    assert report.script("return chosen.kept") == 1


def test_a_family_is_a_tree_from_its_root(report: Browser) -> None:
    report.script("choose(samples.find(row => row.facets.round === '2'))")
    tree = report.script(
        "const told = item => [item.firstChild.textContent, [...item.querySelectorAll(':scope > ul > li')].map(told)];"
        "return [...document.querySelectorAll('#detail ul.family')].at(-1).querySelectorAll(':scope > li').length === 1"
        " && told([...document.querySelectorAll('#detail ul.family')].at(-1).firstChild)"
    )
    assert tree[0].startswith("s1")
    assert [(word, [inner[0] for inner in below]) for word, below in tree[1]] == [("kept", ["kept", "refusal"])]


def test_a_conversation_is_read_whole(report: Browser) -> None:
    """Turns, thoughts, calls, rivals and checks stand in the pane as inert text, in the order of the conversation."""
    report.script("choose(samples.find(row => row.system))")
    labels = report.script("return [...document.querySelectorAll('#detail .label')].map(one => one.textContent)")
    text = visible(HOSTILE[1])
    assert labels == [
        "system", "input", "assistant: thoughts", f"calls {text} as c1", "tool · answers c1",
        "assistant · not trained on", "user", "thoughts", "output · score 0.5", f"rival by {text} · score 0.25",
        "check: exact",
    ]  # fmt: skip
    told = report.script("return [...document.querySelectorAll('#detail .words')].map(one => one.textContent)")
    assert told.count(text) == 10
    assert report.said() == []
    report.script("search.query.value = 'onerror'; filter()")
    assert report.script("return found.some(row => row.system)"), "turns are searched too"


def test_two_runs_lie_side_by_side(chromium: Browser, pages: dict[str, Path]) -> None:
    opened(chromium, pages["two runs"])
    assert chromium.script("return document.querySelectorAll('.chart.verbs').length") == 2
    assert chromium.script("return [...search.choices.run.options].map(option => option.value)") == [
        "",
        "<b>run</b>",
        "other",
    ]
    both = chromium.script(
        "return echarts.getInstanceByDom(document.querySelector('.chart.drops')).getOption().series.length"
    )
    assert both == 2


def test_a_long_list_holds_only_the_rows_in_view(chromium: Browser, tmp_path: Path) -> None:
    with making(tmp_path) as maker:
        for n in range(600):
            maker.task(f"Write poem number {n}.")
        told = tell(maker.ledger, "long", room=None)
    path = tmp_path / "long.html"
    path.write_text(page([told]), encoding="utf-8")
    opened(chromium, path)
    chromium.press(Keys.END)
    chromium.script("list.box.focus()")
    chromium.press(Keys.END)
    assert shown(chromium) == "Write poem number 599."
    assert chromium.script("return document.querySelectorAll('[role=option]').length") < 40
    assert chromium.script(
        "const at = document.querySelector('[aria-selected=true]').getBoundingClientRect();"
        "const box = list.box.getBoundingClientRect();"
        "return at.bottom <= box.bottom + 1 && at.top >= box.top"
    )


def test_a_run_without_samples_has_a_page_too(chromium: Browser, tmp_path: Path) -> None:
    with making(tmp_path) as maker:
        told = [tell(maker.ledger, name, room=None) for name in ("empty", "void")]
    path = tmp_path / "empty.html"
    path.write_text(page(told), encoding="utf-8")
    opened(chromium, path)
    assert chromium.script("return document.getElementById('detail').textContent") == "Nothing matches."
    assert chromium.said() == []
    assert barriers(chromium) == []


def test_a_search_that_finds_nothing_says_so(report: Browser) -> None:
    report.press("/")
    report.press("nowhere to be found", Keys.ESCAPE)
    assert rows(report) == 0
    assert report.script("return document.getElementById('count').textContent").startswith("0 of ")
    report.press("j")
    assert barriers(report) == []


def test_pictures_follow_light_and_dark(report: Browser) -> None:
    fill = "return document.querySelector('.chart.drops svg').innerHTML.match(/fill=\"(#[0-9a-f]{6})\"/g).join()"
    light = report.script(fill)
    report.look(dark=True)
    report.until("document.querySelector('.chart.drops svg').innerHTML.includes('#77aee8')")
    assert report.script(fill) != light


def test_it_prints_its_figures_on_white(report: Browser) -> None:
    report.look(dark=True)
    report.script(
        "addEventListener('beforeprint', () => {"
        "  const chart = document.querySelector('.chart.drops'), svg = chart.querySelector('svg');"
        "  globalThis.printed = [getComputedStyle(document.body).backgroundColor, svg.innerHTML.includes('#2a69ac'),"
        "    svg.clientWidth <= chart.clientWidth, document.body.clientWidth];"
        "})"
    )
    assert base64.b64decode(report.print()).startswith(b"%PDF")
    assert report.until("globalThis.printed") == ["rgb(255, 255, 255)", True, True, 672]
    assert report.script("return document.querySelector('.chart.drops svg').innerHTML.includes('#77aee8')")
    report.look(media="print")
    assert report.script("return getComputedStyle(document.querySelector('.browser')).display") == "none"


# -- review -----------------------------------------------------------------------------------------------------------


@pytest.fixture
def reviewing(chromium: Browser, tmp_path: Path) -> Iterator[tuple[Browser, Path]]:
    """A run of four tasks and an instruction without one, open to be reviewed."""
    with making(tmp_path) as maker:
        for n in range(4):
            maker.task(f"Write poem number {n}.", f"Poem {n}.")
        maker.invented("Write a poem that nobody finished.")
        told = tell(maker.ledger, "run", room=None)
    with serving(tmp_path / "run", page([told], review=True)) as client:
        yield opened(chromium, f"http://{client.place}/{client.token}/"), tmp_path / "run"


def dataset(folder: Path) -> list[tuple[str, str]]:
    with Ledger.open(folder) as ledger:
        return [(sample.instruction, sample.instances[0].output) for sample in ledger.samples(stage="instances")]


def said(chromium: Browser, told: str) -> None:
    chromium.until(f"document.getElementById('said').textContent === {told!r}")


def test_keys_keep_drop_and_undo(reviewing: tuple[Browser, Path]) -> None:
    chromium, folder = reviewing
    chromium.press("d")
    said(chromium, "1.1: dropped")
    assert [instruction[-2] for instruction, _ in dataset(folder)] == ["1", "2", "3"]
    assert chromium.script("return chosen.id") == "2.1", "the next one is shown"
    chromium.press("a")
    said(chromium, "2.1: kept")
    chromium.press("u")
    said(chromium, "2.1: as the filters said")
    chromium.press("u")
    said(chromium, "1.1: as the filters said")
    assert len(dataset(folder)) == 4
    assert chromium.said() == []


def test_an_edit_is_what_is_exported_and_stays_when_the_page_is_opened_again(reviewing: tuple[Browser, Path]) -> None:
    chromium, folder = reviewing
    chromium.press("e")
    chromium.press(
        Keys.CONTROL + "a", HOSTILE[0], Keys.TAB, Keys.TAB, Keys.CONTROL + "a", "Sung.", Keys.CONTROL + Keys.ENTER
    )
    said(chromium, "1.1: edited")
    assert dataset(folder)[0] == (HOSTILE[0], "Sung.")
    assert shown(chromium) == HOSTILE[0]
    chromium.script("location.reload()")
    chromium.until("document.documentElement.dataset.ready && chosen")
    assert shown(chromium) == HOSTILE[0]
    assert "Write poem number 0." in chromium.script("return document.getElementById('detail').textContent")
    chromium.press("d")
    said(chromium, "1.1: dropped")
    chromium.press("u")
    said(chromium, "1.1: edited")
    assert dataset(folder)[0] == (HOSTILE[0], "Sung.")


def test_the_text_of_a_turn_can_be_edited(chromium: Browser, tmp_path: Path) -> None:
    """Its calls, thoughts and rivals stay as they were; they are read, not edited."""
    with making(tmp_path) as maker:
        maker.task("Ask.", **talk("Said."))
        before = next(maker.ledger.samples(stage="instances")).instances[0]
        told = tell(maker.ledger, "run", room=None)
    with serving(tmp_path / "run", page([told], review=True)) as client:
        opened(chromium, f"http://{client.place}/{client.token}/")
        chromium.press("e")
        names = "return [...document.querySelectorAll('#detail label')].map(one => one.firstChild.textContent)"
        assert chromium.script(names) == [
            "Instruction", "Input", "Turn of the assistant", "Turn of the tool", "Turn of the assistant",
            "Turn of the user", "Output",
        ]  # fmt: skip
        chromium.script("document.querySelectorAll('#detail textarea')[3].focus()")
        chromium.press(Keys.CONTROL + "a", "Told.", Keys.CONTROL + Keys.ENTER)
        said(chromium, "1.1: edited")
        assert "Told." in chromium.script("return document.getElementById('detail').textContent")
    with Ledger.open(tmp_path / "run") as ledger:
        [after] = next(ledger.samples(stage="instances")).instances
    turns = list(before.turns)
    turns[1] = turns[1].model_copy(update={"content": "Told."})
    assert after == before.model_copy(update={"turns": tuple(turns)})


def test_an_edit_can_be_left_and_a_blank_one_is_refused(reviewing: tuple[Browser, Path]) -> None:
    chromium, folder = reviewing
    chromium.press("e")
    chromium.press("x", Keys.ESCAPE)
    assert shown(chromium) == "Write poem number 0."
    chromium.press("e")
    chromium.press(Keys.CONTROL + "a", " ", Keys.CONTROL + Keys.ENTER)
    chromium.until("document.getElementById('said').textContent.startsWith('1.1: a task has an instruction')")
    assert chromium.script("return document.querySelector('#detail textarea').value") == " ", "nothing typed is lost"
    assert len(dataset(folder)) == 4


def test_what_is_no_complete_task_can_be_read_only(reviewing: tuple[Browser, Path]) -> None:
    chromium, folder = reviewing
    chromium.script("list.box.focus()")
    chromium.press(Keys.END, "d")
    said(chromium, "Only complete tasks can be reviewed.")
    with Ledger.open(folder) as ledger:
        assert ledger.count("reviews") == 0


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
def test_axe_finds_no_barrier_in_a_review(reviewing: tuple[Browser, Path], *, dark: bool) -> None:
    chromium, _ = reviewing
    chromium.look(width=375, height=800, dark=dark)
    chromium.press("d")
    said(chromium, "1.1: dropped")
    assert barriers(chromium) == []
    chromium.press("e")
    assert barriers(chromium) == []
    chromium.press(Keys.ESCAPE)
    chromium.press("?")
    assert chromium.script("return document.getElementById('help').open")
    assert barriers(chromium) == []
    chromium.press(Keys.ESCAPE)
    assert not chromium.script("return document.getElementById('help').open")


def test_another_page_cannot_decide(reviewing: tuple[Browser, Path], tmp_path: Path) -> None:
    chromium, folder = reviewing
    address = chromium.script("return location.href")
    (tmp_path / "evil.html").write_text("<p>evil</p>", encoding="utf-8")
    chromium.get((tmp_path / "evil.html").as_uri())
    answer = chromium.script(
        "return fetch(arguments[0] + 'reviews', {method: 'POST', headers: {'Content-Type': 'application/json'},"
        " body: JSON.stringify({draft: '1.1', keep: false})}).then(answer => answer.status, error => 'refused')",
        address,
    )
    assert answer == "refused"
    assert len(dataset(folder)) == 4


def test_a_server_that_has_gone_is_told(chromium: Browser, tmp_path: Path) -> None:
    with making(tmp_path) as maker:
        maker.task("Write a poem.")
    command = [sys.executable, "-m", "selfinstruct", "review", str(tmp_path / "run"), "--no-browser"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as served:
        assert served.stdout is not None
        opened(chromium, served.stdout.readline().strip())
        served.kill()
    chromium.press("d")
    chromium.until("document.getElementById('said').textContent.includes('still running')")


def test_a_report_tells_what_people_decided(chromium: Browser, tmp_path: Path) -> None:
    with making(tmp_path) as maker:
        one, two = (maker.task(f"Write poem number {n}.") for n in range(2))
        maker.ledger.review(Review(draft=one, keep=False))
        maker.ledger.review(Review(draft=two, keep=True, instances=(Instance(output="Sung."),)))
        told = tell(maker.ledger, "run", room=None)
    path = tmp_path / "report.html"
    path.write_text(page([told]), encoding="utf-8")
    opened(chromium, path)
    badges = chromium.script(
        "return [...document.querySelectorAll('[role=option]')].map(row => row.querySelector('.head').textContent)"
    )
    assert ["dropped by a person" in badges[0], "edited by a person" in badges[1]] == [True, True]
    chromium.press("j")
    assert "Sung." in chromium.script("return document.getElementById('detail').textContent")
