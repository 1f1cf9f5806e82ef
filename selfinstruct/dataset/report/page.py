"""The page: figures, packed samples and what lies in `assets/`, as one HTML file that asks for nothing.

Whatever a model wrote is data: JSON in which no `<` stands, or a compressed block; the scripts put it on the page as
text. The policy in its head lets no other script run than ours, by their hashes, and nothing be fetched.
"""

from __future__ import annotations

import json
from base64 import b64encode
from collections import Counter
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from functools import cache
from hashlib import sha256
from importlib.metadata import version
from importlib.resources import files
from typing import Any, NamedTuple

from jinja2 import Environment, StrictUndefined, Template

from selfinstruct.dataset.report.figures import BINS, BUCKETS, Figures, figures
from selfinstruct.dataset.report.rows import Packed, pack
from selfinstruct.store.ledger import Ledger
from selfinstruct.text.display import bill
from selfinstruct.text.words import storable

ROOM = 4_250_000
"""Characters for the samples of a page that is written to a file: with charts and figures it stays under 5 MB."""
STYLE = "style.css"
LIBRARY, START = ("vendor/echarts.min.js", "charts.js", "samples.js"), "app.js"
REVIEW = ("review.js",)
"""What a page has more on which a person decides."""


class Told(NamedTuple):
    """What a page tells of one run."""

    figures: Figures
    packed: Packed


TILES: tuple[tuple[str, Callable[[Figures], str]], ...] = (
    ("tasks kept", lambda run: _number(run["kept"])),
    ("of what was drafted", lambda run: _percent(run["kept"] / max(1, run["tried"]))),
    ("different verb–noun pairs", lambda run: _number(run["verbs"]["distinct"]) if run["verbs"]["english"] else "–"),
    ("median ROUGE-L to the nearest seed", lambda run: f"{run['similarity']['seed']['median']:.2f}"),
    ("tokens answered for each task", lambda run: _number(round(run["spent"]["completion"] / max(1, run["kept"])))),
    ("cost", lambda run: bill(run["spent"]["cost"])),
)
"""What stands large at the top, with what it says of a run."""


def tell(ledger: Ledger, name: str, *, room: int | None) -> Told:
    """Figures and samples of a run.

    Args:
        name: what the page calls it.
        room: characters for its samples; None takes all.
    """
    with ledger.snapshot():
        told = figures(ledger, name)
        return Told(told, pack(ledger, told["stage"], room))


def page(told: Sequence[Told], *, review: bool = False) -> str:
    """The HTML of one run, or of two side by side.

    Args:
        review: a page on which a person decides, for the server that takes decisions.
    """
    scripts = [_asset(name) for name in (*LIBRARY, *REVIEW * review, START)]
    style = _asset(STYLE)
    runs = [one.figures for one in told]
    return _template().render(
        runs=runs,
        packed=[one.packed for one in told],
        two=len(runs) > 1,
        tiles=TILES,
        steps=[f"{step / BINS:.2f}–{(step + 1) / BINS:.2f}" for step in range(BINS)],
        buckets=BUCKETS,
        facts=_safe_json({"runs": runs}),
        style=style,
        scripts=scripts,
        policy=_policy(style, scripts, fetches=review),
        review=review,
        version=version("selfinstruct"),
    )


def _policy(style: str, scripts: Sequence[str], *, fetches: bool) -> str:
    """The content security policy: nothing but what stands in the page."""
    allowed = " ".join(map(_digest, scripts))
    return (
        f"default-src 'none'; script-src {allowed}; style-src {_digest(style)}; base-uri 'none'; form-action 'none'"
        + ("; connect-src 'self'" if fetches else "")
    )


def _digest(text: str) -> str:
    return f"'sha256-{b64encode(sha256(text.encode()).digest()).decode()}'"


def _safe_json(value: Any) -> str:
    """JSON that may stand in a script element: nothing in it ends the element or opens a comment."""
    return storable(json.dumps(value, ensure_ascii=False)).replace("<", "\\u003c")


def _asset(name: str) -> str:
    return (files("selfinstruct.dataset.report") / "assets" / name).read_text(encoding="utf-8")


# -- how the template writes ------------------------------------------------------------------------------------------


@cache
def _template() -> Template:
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True)
    environment.filters |= {"number": _number, "percent": _percent, "money": bill, "day": _day}
    environment.globals["reasons_of"] = _reasons
    environment.globals["counts_of"] = lambda *path: lambda run: run[path[0]][path[1]]["counts"]
    return environment.from_string(_asset("page.html"))


def _reasons(values: Sequence[Figures]) -> list[str]:
    """The reasons that rows were dropped for, the most frequent over all first."""
    return [reason for reason, _ in sum((Counter(row["reasons"]) for row in values), Counter[str]()).most_common()]


def _number(value: float) -> str:
    return f"{value:,.0f}" if value == int(value) else f"{value:,.1f}"


def _percent(share: float) -> str:
    return f"{share:.0%}" if share in (0, 1) or 0.1 <= share <= 0.9 else f"{share:.1%}"


def _day(moment: float) -> str:
    return datetime.fromtimestamp(moment, UTC).strftime("%d %B %Y").lstrip("0")
