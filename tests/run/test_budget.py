"""A budget is never overspent, whatever a server does and whenever the process dies; with a larger one it goes on."""

from __future__ import annotations

import asyncio
import json
import math
from itertools import count
from pathlib import Path
from random import Random
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from selfinstruct.backends import open_backend
from selfinstruct.backends.flow.metered import Metered
from selfinstruct.backends.openai.server import Server
from selfinstruct.backends.openai.wire import MOST_TOKENS, completion_of
from selfinstruct.backends.scripted import prompt_of
from selfinstruct.errors import ConfigError, EndpointError, RateLimited, Refused, RunError, Transient
from selfinstruct.inputs.config import BackendConfig, BudgetConfig, build
from selfinstruct.inputs.prices import Price
from selfinstruct.records import Call, Completion, Request, Role, Sampling, Tool, Turn, Usage
from selfinstruct.run import wording
from selfinstruct.run.budget import Cap, Charge, Purse, charged_nothing, longest_answer, size_of
from selfinstruct.run.events import Answered, Ended
from selfinstruct.store.ledger import NAME, Ledger
from tests.store.test_ledger import created
from tests.support.cli import say
from tests.support.processes import Command, answer, model_server, until
from tests.support.runs import Model, Run, answering, differences, evolving
from tests.support.server import ModelServer, Reply, dropped, error, html, truncated

laws = settings(deadline=None, max_examples=10)
WELL = [None]
FAULTS = [
    *[None] * 12,
    Transient("server_error", "HTTP 500", status=500),
    Refused("content_filter", "no", status=400),
    Transient("timeout", "no answer in time"),
    Transient("not_json", "an HTML page", status=200),
]
PRICE = {"price_in": 1.0, "price_out": 3.0}


class Charging(Model):
    """A model that charges from the moment that it is asked, whatever becomes of its answer.

    Args:
        density: tokens to a byte of its prompts, at least; at most twice as many.
        faults: what it answers with, drawn each time; None is an answer.
    """

    def __init__(self, timing: int, density: float = 0.2, faults: list[Any] = WELL, answer: Any = None) -> None:
        super().__init__(answer or answering(0.5), timing=timing)
        self.draws = Random(timing)
        self.density = density
        self.faults = faults
        self.usage = Usage()

    async def complete(self, request: Request) -> Completion:
        fault = self.draws.choice(self.faults)
        free = fault is not None and charged_nothing(fault)
        prompt = int(len(prompt_of(request).encode()) * self.density * self.draws.uniform(1, 2))
        written = self.draws.randint(1, request.sampling.max_tokens or 1)
        took = Usage(1) if free else Usage(1, prompt, self.draws.randint(0, prompt), written)
        self.usage = self.usage.plus(took)
        completion = await super().complete(request)
        if fault is not None:
            raise fault
        counted = took._asdict()
        del counted["requests"]
        return completion.model_copy(update=counted)


def metered(run: Run, role: Role = "writer") -> Usage:
    """What the ledger has counted."""
    with Ledger.open(run.folder) as ledger:
        return ledger.meter()[role].spent if role in ledger.meter() else Usage()


def dollars(usage: Usage) -> float:
    return Price(1.0, 1.0, 3.0, "").of(usage)


def spent(what: str, usage: Usage) -> float:
    return {"requests": usage.requests, "tokens": usage.tokens, "cost": dollars(usage)}[what]


budgets = st.sampled_from(
    [("requests", 7), ("requests", 40), ("tokens", 9_000), ("tokens", 40_000), ("cost", 0.02), ("cost", 0.06)]
)


# -- laws -------------------------------------------------------------------------------------------------------------


@laws
@given(
    timing=st.integers(0, 2**32),
    budget=budgets,
    concurrency=st.integers(1, 9),
    density=st.floats(0.05, 0.5),
    ordered=st.booleans(),
    kills=st.lists(st.integers(1, 25), max_size=3),
)
def test_no_more_is_ever_spent_than_the_budget_and_with_more_the_run_goes_on(
    tmp_path_factory: pytest.TempPathFactory,
    timing: int,
    budget: tuple[str, float],
    concurrency: int,
    density: float,
    ordered: bool,
    kills: list[int],
) -> None:
    what, limit = budget
    model = Charging(timing, density, FAULTS)
    run = Run(
        tmp_path_factory.mktemp("budget"), n=9, concurrency=concurrency, ordered=ordered, attempts=4,
        backend=PRICE, budget={what: limit},
    )  # fmt: skip
    for life in [*kills, None]:
        run.drive(model, killed_after=life)
        assert spent(what, model.usage) <= limit
        assert metered(run).covers(model.usage._replace(cached_tokens=0)), "something sent was not counted"
    assert run.ending in ("budget", "complete")
    for _ in range(20):
        if run.drive(model, budget={what: limit * 1000}).ending == "complete":
            break
        run.drive(model, again=True)
    assert run.kept == 9
    assert run.differences() == []
    run.counts_add_up()


class Uneven(Charging):
    """One whose prompts have a token to a byte now and then, and hardly any at other times, as numbers and words do."""

    async def complete(self, request: Request) -> Completion:
        self.density = self.draws.choice([0.5, *[0.01] * 12])
        return await super().complete(request)


class Lying(Charging):
    """One that charges what it may, and says anything."""

    async def complete(self, request: Request) -> Completion:
        answer, draws = await super().complete(request), self.draws
        claims = [0, 1, answer.prompt_tokens, 5_000, 10**6, MOST_TOKENS]
        said = ("prompt_tokens", "completion_tokens", "cached_tokens")
        return answer.model_copy(update={name: draws.choice(claims) for name in said})


@laws
@given(timing=st.integers(0, 2**32), budget=budgets, concurrency=st.integers(1, 9))
def test_an_uneven_server_costs_no_more_than_the_budget(
    tmp_path_factory: pytest.TempPathFactory, timing: int, budget: tuple[str, float], concurrency: int
) -> None:
    """What prompts had so far says nothing of the next one."""
    what, limit = budget
    model = Uneven(timing, faults=FAULTS)
    folder = tmp_path_factory.mktemp("uneven")
    run = Run(folder, n=99, concurrency=concurrency, attempts=4, backend=PRICE, budget={what: limit}).drive(model)
    assert spent(what, model.usage) <= limit
    assert metered(run) == model.usage or spent(what, metered(run)) <= limit


@laws
@given(timing=st.integers(0, 2**32), budget=budgets, concurrency=st.integers(1, 9))
def test_whatever_a_server_claims_the_meter_stays_within_the_budget(
    tmp_path_factory: pytest.TempPathFactory, timing: int, budget: tuple[str, float], concurrency: int
) -> None:
    """No claim is believed that the request could not have taken."""
    what, limit = budget
    folder = tmp_path_factory.mktemp("lying")
    run = Run(folder, n=99, concurrency=concurrency, attempts=4, backend=PRICE, budget={what: limit})
    run.drive(Lying(timing, faults=FAULTS))
    assert run.ending in ("budget", "complete")
    assert spent(what, metered(run)) <= limit


@laws
@given(timing=st.integers(0, 2**32), concurrency=st.integers(1, 9), ordered=st.booleans())
def test_without_a_kill_the_meter_is_what_was_charged_to_the_last_token(
    tmp_path_factory: pytest.TempPathFactory, timing: int, concurrency: int, ordered: bool
) -> None:
    faults = [fault for fault in FAULTS if fault is None or charged_nothing(fault)]
    run = Run(tmp_path_factory.mktemp("metered"), concurrency=concurrency, ordered=ordered, attempts=9)
    model = Charging(timing, faults=faults)
    run.drive(model, stop_after=25, grace=60)
    assert metered(run) == model.usage
    run.drive(model)
    assert metered(run) == model.usage
    assert run.query("SELECT sum(requests_in_flight + prompt_tokens_in_flight) FROM meter") == [(0,)]


@laws
@given(timing=st.integers(0, 2**32), life=st.integers(1, 60), concurrency=st.integers(1, 9))
def test_a_kill_counts_what_was_in_flight_and_not_much_more(
    tmp_path_factory: pytest.TempPathFactory, timing: int, life: int, concurrency: int
) -> None:
    model = Charging(timing)
    run = Run(tmp_path_factory.mktemp("killed"), concurrency=concurrency).drive(model, killed_after=life)
    assert model.usage.requests <= metered(run).requests <= model.usage.requests + 2 * concurrency


@laws
@given(timing=st.integers(0, 2**32), limit=st.integers(1, 30), concurrency=st.integers(1, 9))
def test_a_budget_of_requests_is_used_to_the_last_one(
    tmp_path_factory: pytest.TempPathFactory, timing: int, limit: int, concurrency: int
) -> None:
    model = Charging(timing, faults=FAULTS)
    run = Run(tmp_path_factory.mktemp("last"), n=99, concurrency=concurrency, budget={"requests": limit}).drive(model)
    assert (run.ending, model.usage.requests) == ("budget", limit)
    assert run.count("answers") + run.count("faults") == limit, "what was in flight was not waited for"


@laws
@given(timing=st.integers(0, 2**32), concurrency=st.integers(1, 9))
def test_a_budget_of_tokens_is_used_until_the_next_request_does_not_fit(
    tmp_path_factory: pytest.TempPathFactory, timing: int, concurrency: int
) -> None:
    model = Charging(timing)
    run = Run(tmp_path_factory.mktemp("tokens"), n=99, concurrency=concurrency, budget={"tokens": 30_000}).drive(model)
    longest = max(len(prompt) for prompt in model.asked)
    assert run.ending == "budget"
    assert 30_000 - longest - 1024 <= model.usage.tokens <= 30_000


def test_a_run_within_its_budget_is_as_one_without(tmp_path: Path) -> None:
    runs = [
        Run(tmp_path / name, ordered=True, backend=PRICE, budget=budget).drive(Model(timing=3)).exports()
        for name, budget in [("a", {}), ("b", {"tokens": 10**9, "requests": 10**6, "cost": 1e6, "time": 1e6})]
    ]
    assert runs[0] == runs[1]


# -- reaching it ------------------------------------------------------------------------------------------------------


def test_reached_a_run_says_which_budget_in_the_ledger_too_until_it_goes_on(tmp_path: Path) -> None:
    run = Run(tmp_path, concurrency=1, budget={"requests": 5}).drive(Model())
    message = "budget of 5 requests reached: 5 sent; a larger --max-requests and the same command continue it"
    assert run.events[-1] == Ended("budget", run.kept, message)
    with Ledger.open(run.folder) as ledger:
        ended = ledger.ended()
        assert ended is not None
        assert (ended.ending, ended.message) == ("budget", message)
    told = []
    run.drive(Model(), budget={"requests": 500}, seen=lambda event: told.append(run.query(
        "SELECT count(*) FROM run WHERE key = 'ended'")))  # fmt: skip
    assert set(map(tuple, told)) == {((0,),)}
    with Ledger.open(run.folder) as ledger:
        ended = ledger.ended()
        assert ended is not None
        assert ended.ending == "complete"


def test_a_budget_smaller_than_one_request_says_so_and_asks_nothing(tmp_path: Path) -> None:
    model = Model()
    run = Run(tmp_path, budget={"tokens": 10}).drive(model)
    assert run.ending == "budget"
    assert run.events[-1].message.startswith("budget of 10 tokens reached: 0 spent, and the next request may take 1,")
    assert model.asked == []


def test_a_budget_below_what_is_spent_asks_nothing(tmp_path: Path) -> None:
    run = Run(tmp_path, n=30).drive(Model(), stop_after=40)
    model = Model()
    assert run.drive(model, budget={"requests": 3}).ending == "budget"
    assert run.events[-1].message.startswith("budget of 3 requests reached: ")
    assert model.asked == []


def test_reached_nothing_more_is_sent_and_what_is_in_flight_is_settled(tmp_path: Path) -> None:
    model, last = Model(slowest=200), list[int]()
    run = Run(tmp_path, n=99, concurrency=8, budget={"requests": 30})
    run.drive(model, grace=0.0, seen=lambda event: last.append(len(model.asked)))
    assert len(model.asked) == run.count("answers") == 30
    whole = "SELECT job FROM answers GROUP BY job HAVING count(*) = 2"
    assert run.count("jobs", f"state = 'planned' AND stage = 'instances' AND number IN ({whole})") == 0
    assert run.differences() == []


@pytest.mark.parametrize(("takes", "grace", "answers"), [(0.4, 60.0, 30), (3600.0, 0.05, 29)])
def test_told_to_stop_a_run_that_reached_its_budget_gives_what_is_in_flight_its_grace_and_no_more(
    tmp_path: Path, takes: float, grace: float, answers: int
) -> None:
    class Late(Model):
        """The last two requests of the budget are answered long after all others, one after the other."""

        def __init__(self, takes: float) -> None:
            super().__init__()
            self._pauses = {28: 0.2, 29: takes}

        async def complete(self, request: Request) -> Completion:
            pause = self._pauses.get(len(self.asked), 0.0)
            completion = await super().complete(request)
            await asyncio.sleep(pause)
            return completion

    def run(name: str, model: Model, **how: Any) -> Run:
        return Run(tmp_path / name, n=99, concurrency=8, budget={"requests": 30}).drive(model, **how)

    whole = run("whole", Late(0.4)).events
    answered = [nth for nth, event in enumerate(whole, start=1) if isinstance(event, Answered)]
    stopped = run("stopped", Late(takes), stop_after=answered[28], grace=grace)
    assert stopped.ending == "budget"
    assert stopped.count("answers") == answers


def test_out_of_time_a_run_gives_what_is_in_flight_its_grace_only(tmp_path: Path) -> None:
    class Hanging(Model):
        async def complete(self, request: Request) -> Completion:
            if len(self.asked) >= 10:
                self.asked.append("for ever")
                await asyncio.sleep(3600)
            return await super().complete(request)

    run = Run(tmp_path, n=99, budget={"time": 0.5}).drive(Hanging(), grace=0.05)
    assert run.ending == "budget"
    assert run.events[-1].message.startswith("budget of 0 s of work reached: ")
    with Ledger.open(run.folder) as ledger:
        assert 0.5 <= sum(meter.seconds for meter in ledger.meter().values()) < 30
    model = Model()
    assert run.drive(model).ending == "budget"
    assert model.asked == [], "worked although its time was up before it began"
    assert run.drive(Model(), budget={"time": 600}, n=4).ending == "complete"


def test_small_requests_go_on_while_a_large_one_waits_for_room(tmp_path: Path) -> None:
    """The first that does not fit ends nothing as long as something in flight may leave it room."""
    run = Run(tmp_path, n=99, concurrency=8, budget={"tokens": 40_000}).drive(Charging(1, density=0.05))
    with Ledger.open(run.folder) as ledger:
        assert ledger.meter()["writer"].usage.tokens > 0.8 * 40_000


def test_a_judge_of_its_own_is_counted_as_such_and_within_the_same_budget(tmp_path: Path) -> None:
    writer, judge = Charging(1, answer=evolving(0.8)), Charging(2, answer=evolving(0.8))
    recipe = {"name": "evol-instruct", "rounds": 2}
    own = {"kind": "scripted", "script": "x", "model": "j", "price_in": 100.0, "price_out": 100.0}
    run = Run(tmp_path, recipe=recipe, judge=own, backend=PRICE, budget={"cost": 0.5}, n=40)
    run.drive(writer, judge=judge)
    assert run.ending == "budget"
    assert metered(run, "writer") == writer.usage
    assert metered(run, "judge") == judge.usage
    assert judge.usage.requests > 0
    assert dollars(writer.usage) + judge.usage.tokens * 100 / 1e6 <= 0.5
    assert run.query("SELECT role, count(*) FROM answers GROUP BY 1 ORDER BY 1") == [
        ("judge", judge.usage.requests), ("writer", writer.usage.requests),
    ]  # fmt: skip


def test_a_wrong_key_ends_a_run_with_its_message_and_is_charged_nothing(tmp_path: Path) -> None:
    run = Run(tmp_path)
    with pytest.raises(EndpointError):
        run.drive(Model(lambda request: EndpointError("402: no quota left")))
    assert metered(run)[1:] == (0, 0, 0)
    with Ledger.open(run.folder) as ledger:
        ended = ledger.ended()
        assert ended is not None
        assert ended[:2] == ("refused", "402: no quota left")


def test_a_cost_is_refused_where_a_price_is_not_known(tmp_path: Path) -> None:
    hosted = {"kind": "openai", "script": None, "base_url": "http://localhost:1/v1"}
    with pytest.raises(ConfigError, match="the price of m there is not known"):
        Run(tmp_path, backend=hosted, budget={"cost": 1.0}).drive(Model())


# -- what an attempt may take, and took -------------------------------------------------------------------------------


def test_a_server_that_does_not_count_is_charged_what_it_may_have_taken(tmp_path: Path) -> None:
    class Silent(Model):
        async def complete(self, request: Request) -> Completion:
            return (await super().complete(request)).model_copy(update={"completion_tokens": 0})

    model = Silent()
    run = Run(tmp_path, n=2, concurrency=1).drive(model)
    prompts = sum(len(json.loads(request)["prompt"].encode()) for request in model.asked)
    assert metered(run).prompt_tokens >= prompts
    room = [json.loads(request)["sampling"]["max_tokens"] for request in model.asked]
    assert metered(run).completion_tokens == sum(room)


@pytest.mark.parametrize(
    ("error", "nothing"),
    [
        (Transient("server_error", "500", status=500), True),
        (RateLimited("rate_limited", "429", status=429), True),
        (Refused("prompt_too_long", "400", status=400), True),
        (Transient("connection_refused", "nobody there"), True),
        (EndpointError("401"), True),
        (Transient("server_error", "504", status=504), False),
        (Transient("timeout", "408", status=408), False),
        (Transient("timeout", "no answer"), False),
        (Transient("disconnected", "closed"), False),
        (Transient("not_json", "an HTML page", status=200), False),
        (asyncio.CancelledError(), False),
    ],
    ids=str,
)
def test_only_a_server_that_said_no_has_surely_charged_nothing(error: BaseException, nothing: bool) -> None:
    assert charged_nothing(error) is nothing


USELESS = [None, -5, "7", True, 7.0, 0, [], {}, 10**6, MOST_TOKENS, MOST_TOKENS + 1, 10**30, math.inf]
"""Counts that are none, for so small a request."""
usages = st.fixed_dictionaries(
    {},
    optional={
        **{name: st.sampled_from([*USELESS, 3, 50]) for name in ("prompt_tokens", "completion_tokens", "total_tokens")},
        "prompt_tokens_details": st.sampled_from(USELESS)
        | st.fixed_dictionaries({}, optional={"cached_tokens": st.sampled_from([*USELESS, 2, 40])}),
    },
)


@given(usage=usages | st.sampled_from(USELESS))
@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_what_is_not_told_counts_as_what_was_reserved(tmp_path: Path, usage: Any) -> None:
    """Number by number; and nothing that is told counts for more."""
    payload = {"choices": [{"text": "x", "finish_reason": "stop"}], "usage": usage}
    answer = completion_of(payload, Server("http://here/v1", "KEY"))
    assert answer.cached_tokens <= answer.prompt_tokens

    async def ask(ledger: Ledger) -> tuple[Usage, Usage]:
        purse = Purse(ledger, BudgetConfig(), {}, on_reached=lambda *told: None)
        purse.open()
        charge = await purse.admit("writer", Request(model="m", prompt="hello", sampling=Sampling(max_tokens=60)))
        assert charge is not None
        purse.answered(charge, answer)
        return charge.usage, purse.spent["writer"]

    (tmp_path / NAME).unlink(missing_ok=True)
    with created(tmp_path) as ledger:
        most, took = asyncio.run(ask(ledger))
    told = usage if isinstance(usage, dict) else {}
    for name, counted, reserved in zip(Usage._fields[1::2], took[1::2], most[1::2], strict=True):
        assert counted <= reserved
        if (count := told.get(name)) not in (3, 50) or isinstance(count, bool):
            assert counted == reserved
    assert took.cached_tokens <= took.prompt_tokens


@pytest.mark.parametrize("limit", [1, 2, 5, 45])
def test_a_request_that_is_put_otherwise_counts_each_time(tmp_path: Path, server: ModelServer, limit: int) -> None:
    """A server that takes none of the parameters is asked no more often than may be."""
    names = ("temperature", "top_p", "presence_penalty", "frequency_penalty")
    server.models = ("m",)

    def picky(body: dict[str, Any]) -> str | Reply:
        name = next((name for name in names if name in body), "")
        return error(400, f"Unsupported parameter: '{name}'", param=name) if name else "fine"

    server.answer = picky
    sampling = Sampling(temperature=0.5, top_p=0.5, presence_penalty=1, frequency_penalty=1, max_tokens=9)

    async def all_of_them(ledger: Ledger) -> None:
        purse = Purse(ledger, BudgetConfig(requests=limit), {}, on_reached=lambda *told: None)
        purse.open()
        config = BackendConfig(kind="openai", base_url=server.base_url, model="m")
        async with open_backend(config, notice=lambda line: None) as backend:
            metered = Metered(backend, purse, "writer")
            questions = (metered.complete(Request(model="m", prompt="p", sampling=sampling)) for _ in range(9))
            answers = await asyncio.gather(*questions, return_exceptions=True)
        assert len(server.requests) == purse.spent["writer"].requests <= limit
        assert limit < 45 or all(isinstance(answer, Completion) for answer in answers)

    with created(tmp_path) as ledger:
        asyncio.run(all_of_them(ledger))


def test_tools_schemas_and_calls_are_part_of_a_prompt() -> None:
    """A server shows them to the model, indented and explained."""
    plain = Request(model="m", messages=(Turn(role="user", content="x"),))
    tool = Tool(name="look", description="d" * 500, parameters={"type": "object"})
    call = Call(id="1", tool="look", arguments={"at": "a" * 500})
    for more in (
        {"tools": (tool,)},
        {"answer_schema": {"type": "object", "description": "d" * 500}},
        {"messages": (Turn(role="assistant", content="x", calls=(call,)),)},
        {"sampling": Sampling(extra={"documents": ["d" * 500]})},
    ):
        assert size_of(plain.model_copy(update=more)) >= size_of(plain) + 4 * 500


@given(prompt=st.text(max_size=60), turns=st.lists(st.text(max_size=30), max_size=3))
def test_a_prompt_has_no_more_tokens_than_bytes(prompt: str, turns: list[str]) -> None:
    messages = tuple(Turn(role="user", content=turn) for turn in turns)
    size = size_of(Request(model="m", prompt=prompt or None, messages=messages))
    assert size >= sum(len(text.encode("utf-8", "replace")) for text in [prompt, *turns])


@pytest.mark.parametrize(
    ("sampling", "tokens"),
    [
        (Sampling(max_tokens=300), 300),
        (Sampling(max_tokens=300, extra={"max_completion_tokens": 900}), 900),
        (Sampling(max_tokens=300, extra={"max_tokens": 20}), 20),
        (Sampling(), 32_768),
        (Sampling(max_tokens=300, extra={"max_tokens": 20, "max_completion_tokens": 900}), 900),
        (Sampling(max_tokens=300, extra={"max_tokens": -1}), 32_768),
        (Sampling(max_tokens=300, extra={"max_tokens": True}), 32_768),
        (Sampling(max_tokens=300, extra={"n": 4}), 1_200),
        (Sampling(max_tokens=300, extra={"n": 2, "best_of": 5}), 1_500),
        (Sampling(max_tokens=300, extra={"n": -4, "best_of": "many"}), 300),
    ],
)
def test_an_answer_has_no_more_tokens_than_the_request_lets_it(sampling: Sampling, tokens: int) -> None:
    assert longest_answer(sampling) == tokens


@pytest.mark.parametrize(
    ("cap", "standing"),
    [
        (Cap("tokens", 5000), "4,812 of 5,000 tokens"),
        (Cap("requests", 9000), "4,812 of 9,000 requests"),
        (Cap("cost", 5000.5), "$4,812.00 of $5,000.50"),
        (Cap("time", 7200), "1 h 20 min of 2 h 00 min of work"),
    ],
)
def test_a_budget_stands_in_its_own_unit(cap: Cap, standing: str) -> None:
    assert wording.standing(cap, 4812) == standing


def test_being_told_to_wait_is_a_request_and_no_tokens(tmp_path: Path) -> None:
    wait = RateLimited("rate_limited", "429", status=429, retry_after=0)
    model = Charging(1, faults=[*[None] * 9, wait])
    run = Run(tmp_path, n=3).drive(model)
    assert run.count("faults", "kind = 'rate_limited'") > 0
    assert metered(run) == model.usage


# -- many at once -----------------------------------------------------------------------------------------------------


def test_thousands_may_wait_and_each_is_looked_at_about_once(tmp_path: Path) -> None:
    """As with batches: what waits costs nothing until it is its turn."""
    looks = 0

    class Counting(Purse):
        def _in_the_way(self, charge: Charge) -> Cap | None:
            nonlocal looks
            looks += 1
            return super()._in_the_way(charge)

    async def all_of_them(ledger: Ledger) -> None:
        purse = Counting(ledger, BudgetConfig(tokens=2_000_000), {}, on_reached=lambda *told: None)
        purse.open()
        request = Request(model="m", prompt="x" * 100, sampling=Sampling(max_tokens=1000))

        async def one() -> None:
            charge = await purse.admit("writer", request)
            assert charge is not None
            await asyncio.sleep(0)
            purse.answered(charge, Completion(text="y", prompt_tokens=25, completion_tokens=10))
            with purse.due():
                pass

        await asyncio.gather(*(one() for _ in range(5000)))

    with created(tmp_path) as ledger:
        asyncio.run(all_of_them(ledger))
    assert looks < 4 * 5000


@given(steps=st.lists(st.booleans(), min_size=1, max_size=80), hasty=st.booleans())
@settings(deadline=None, max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_the_ledger_never_has_less_than_was_sent_nor_twice_the_most_that_was_in_flight_too_much(
    tmp_path: Path, steps: list[bool], hasty: bool
) -> None:
    """Whether requests are sent or answered, and whether what was spent is stored each time or hardly ever."""

    async def some(ledger: Ledger) -> None:
        purse = Purse(ledger, BudgetConfig(), {}, on_reached=lambda *told: None, clock=count(0, 2.0 * hasty).__next__)
        purse.open()
        request = Request(model="m", prompt="hello", sampling=Sampling(max_tokens=10))
        flight, sent, most = list[Charge](), 0, 0
        for step, sends in enumerate(steps):
            if sends or not flight:
                charge = await purse.admit("writer", request)
                assert charge is not None
                flight.append(charge)
                sent, most = sent + 1, max(most, len(flight))
            else:
                purse.answered(flight.pop(), Completion(text="", prompt_tokens=1))
                with purse.due() as counts:
                    ledger.answer(f"k{step}", 1, 0, "{}", Completion(text=""), 0.0, counts=counts)
            assert sent <= ledger.meter()["writer"].spent.requests <= sent + 2 * most
        purse.end("interrupted", "")
        assert ledger.meter()["writer"].usage.requests == sent - len(flight)

    (tmp_path / NAME).unlink(missing_ok=True)
    with created(tmp_path) as ledger:
        asyncio.run(some(ledger))


def test_where_the_ledger_cannot_be_written_nothing_is_sent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not even beside the request that found it out, whose reservation is not stored either."""

    def full(counts: object) -> None:
        raise RunError("the disk is full")

    async def two(ledger: Ledger) -> None:
        purse = Purse(ledger, BudgetConfig(), {}, on_reached=lambda *told: None)
        purse.open()
        monkeypatch.setattr(ledger, "charge", full)
        for _ in range(2):
            with pytest.raises(RunError):
                await purse.admit("writer", Request(model="m", prompt="hello", sampling=Sampling(max_tokens=10)))

    with created(tmp_path) as ledger:
        asyncio.run(two(ledger))


def test_prices_are_told_together() -> None:
    with pytest.raises(ConfigError, match="`price_in` and `price_out`"):
        build(BackendConfig, {"price_in": 1.0}, where="backend")


# -- on a real server -------------------------------------------------------------------------------------------------


def taken(server: ModelServer) -> int:
    """Tokens that a server has charged for, in and out: of what it was asked, and would have answered."""
    return sum(len(asked.prompt.split()) + len(answer(asked.body).split()) for asked in server.requests)


def test_a_server_full_of_faults_is_asked_no_more_than_the_budget(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    draws = Random(5)

    def faulty(body: dict[str, Any]) -> str | Reply:
        bad = draws.choice([*[None] * 7, error(500), dropped(), html(200), truncated()])
        return answer(body) if bad is None else bad

    with model_server(latency=0.002) as server:
        server.answer = faulty
        run = Command(server, tmp_path, "--quiet", concurrency=8, n=60)
        told = say(capsys, *run.arguments, "--max-requests", "70")
        assert "budget of 70 requests reached: 70 sent" in told.err
        assert len(server.requests) == 70
        told = say(capsys, *run.arguments, "--max-requests", "1000", "--max-tokens", "60000")
        assert "budget of 60,000 tokens reached" in told.err
        assert 30_000 < taken(server) <= 60_000
        assert say(capsys, *run.arguments, "--max-requests", "5000", "--max-tokens", "9000000").code in (0, 1)
        say(capsys, "retry", f"{run.run}/.")
    assert differences(run.run) == []


def test_a_killed_process_has_counted_what_it_had_sent(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with model_server(latency=0.02) as server:
        run = Command(server, tmp_path, "--max-requests", "60", n=60)
        for _ in range(2):
            with run.started(asked=15) as process:
                process.kill()
            until(lambda: server._now == 0)
        done = say(capsys, *run.arguments)
        assert done.code == 0, done.err
        assert "budget of 60 requests reached: 60 sent" in done.err
        assert 60 - 2 * 2 * run.concurrency <= len(server.requests) <= 60
        assert "60 of 60 requests" in say(capsys, "status", f"{run.run}/.").out
        assert say(capsys, *run.arguments, "--max-requests", "9999").code == 0
    assert differences(run.run) == []
