"""`status`, `show`, `drops`: what there is, one sample with its story or its family, and what was dropped and why."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from selfinstruct.cli.evolve import RECIPE as EVOLUTION
from selfinstruct.cli.family import told_detail
from selfinstruct.cli.options import as_json, examples, existing, output_dir, run_argument, runs
from selfinstruct.text.display import json_line, one_line, visible

if TYPE_CHECKING:
    from rich.console import RenderableType

    from selfinstruct.store.ledger import Ledger, StoredDraft


WHOLE = 100_000
"""Columns of what is drawn for no terminal: nothing is cut or folded."""


@click.command(epilog=examples("status", "status self-instruct-embedded --json"))
@click.argument("run", required=False)
@output_dir
@as_json
def status(run: str | None, output_dir: Path, as_json: bool) -> int:
    """How far a run is, what it kept and dropped, and what it took; without RUN, all runs in a line each."""
    from selfinstruct.store.ledger import Ledger

    if run is None:
        return _list(output_dir, as_json)
    folder = existing(run, output_dir)
    with Ledger.open(folder) as ledger, ledger.snapshot():
        facts = _facts(folder, ledger)
    print(json_line(facts) if as_json else _told(facts))
    if facts.get("rounds") and not as_json:
        _print_survivors(facts)
    return 0


def _list(outputs: Path, as_json: bool) -> int:
    found = [_brief_or_fault(outputs / name) for name in runs(outputs)]
    if as_json:
        print(json_line(found))
    elif not found:
        print(f"no runs under {outputs} yet; `selfinstruct generate` begins one")
    for facts in [] if as_json else found:
        print(facts.get("error") or f"{facts['run']}: {_kept(facts)} kept, {facts['state']}")
    return 0


def _brief_or_fault(folder: Path) -> dict[str, Any]:
    """One run that cannot be read does not hide the others."""
    from selfinstruct.errors import UserError
    from selfinstruct.store.ledger import Ledger

    try:
        with Ledger.open(folder) as ledger:
            return _brief(folder, ledger)
    except UserError as error:
        return {"run": str(folder), "error": one_line(str(error))}


def _brief(folder: Path, ledger: Ledger) -> dict[str, Any]:
    from selfinstruct.recipes import task_stage
    from selfinstruct.recipes.configured import stored_config
    from selfinstruct.store.readings import kept

    config = stored_config(ledger)
    tasks = kept(ledger, task_stage(config.recipe.name))
    return {"run": str(folder), "recipe": config.recipe.name, "model": ledger.fact("model"), "kept": tasks,
            "target": ledger.target(), "state": _state(ledger, tasks)}  # fmt: skip


def _state(ledger: Ledger, kept: int) -> str:
    from selfinstruct.store.readings import rooted

    if ledger.fact("filtered_from"):
        return "filtered copy"
    target = ledger.target()
    if target is not None:
        return "complete" if kept >= target else "unfinished"
    # All is wanted that the seeds make: each is planned once.
    left = ledger.count("seeds") - rooted(ledger) + ledger.count("jobs", "state = 'planned'")
    return "unfinished" if left else "complete"


def _kept(facts: dict[str, Any]) -> str:
    return f"{facts['kept']}" if facts["target"] is None else f"{facts['kept']} of {facts['target']}"


def _facts(folder: Path, ledger: Ledger) -> dict[str, Any]:
    from selfinstruct.cli.survivors import Survivors
    from selfinstruct.inputs.prices import cost, prices_of
    from selfinstruct.recipes.configured import stored_config
    from selfinstruct.run.budget import standings
    from selfinstruct.store.readings import summary

    config = stored_config(ledger)
    brief, told = _brief(folder, ledger), summary(ledger)
    prices = prices_of(config, brief["model"] or "", ledger.fact("judge"))
    spent = {role: meter.spent for role, meter in told.meter.items()}
    seconds = sum(meter.seconds for meter in told.meter.values())
    evolution = Survivors(ledger).facts() if config.recipe.name == EVOLUTION else {}
    return {
        **brief,
        "begun_with": ledger.fact("version"),
        "judge": ledger.fact("judge"),
        "jobs": {f"{jobs.stage} {jobs.state}": jobs.jobs for jobs in told.jobs},
        "drafts": [drafts._asdict() for drafts in told.drafts],
        "drops": [{"stage": drop.stage, "filter": drop.filter, "reason": drop.reason, "count": drop.drafts}
                  for drop in told.drops],
        "instance_drops": told.instance_drops,
        "failed": told.failed,
        "reviews": told.reviews,
        "faults": told.faults,
        "answers": told.answers, "prompt_tokens": told.prompt_tokens, "cached_tokens": told.cached_tokens,
        "completion_tokens": told.completion_tokens,
        "cost": cost(prices, spent.items()),
        "ended": _ended(ledger, brief["state"]),
        "meter": {role: {**meter.spent._asdict(), "seconds": round(meter.seconds, 3)}
                  for role, meter in told.meter.items()},
        "budget": {what: {"spent": round(done, 6), "of": limit}
                   for what, (done, limit) in standings(config.budget, spent, prices, seconds).items()},
        "exports": sorted(str(path) for path in (folder / "export").rglob("[!.]*") if path.is_file()),
        **evolution,
    }  # fmt: skip


def _ended(ledger: Ledger, state: str) -> dict[str, Any] | None:
    """How the last session of a run ended that is not done yet; None of one that goes on, or was killed."""
    ended = ledger.ended()
    return None if ended is None or state != "unfinished" else ended._asdict()


ENDED = {"interrupted": "interrupted", "exhausted": "stopped: nothing more can be planned"}


def _told(facts: dict[str, Any]) -> str:
    from selfinstruct.cli.survivors import told_judgements
    from selfinstruct.inputs.prices import told
    from selfinstruct.run.budget import told as told_budget

    lines = [f"{facts['run']}: {_kept(facts)} tasks kept, {facts['state']}",
             f"  recipe {facts['recipe']}, model {facts['model']}"
             + (f", judge {facts['judge']}" if facts["judge"] else "")]  # fmt: skip
    if ended := facts["ended"]:
        lines.insert(1, "  " + ENDED.get(ended["ending"], f"stopped: {one_line(ended['message'])}"))
    lines += [f"  {d['stage']}: {d['drafts']} drafts, {d['kept']} kept" for d in facts["drafts"]]
    lines += [f"    dropped {d['count']} × {d['reason']} ({d['filter']}, {d['stage']})" for d in facts["drops"]]
    if facts["instance_drops"]:
        lines.append("  instances dropped: " + _counts(facts["instance_drops"]))
    if facts["reviews"]:
        lines.append("  reviewed: " + _counts(facts["reviews"]))
    lines.append("  jobs: " + _counts(facts["jobs"]))
    if facts["failed"]:
        lines.append(f"  failed: {_counts(facts['failed'])}; `selfinstruct retry {facts['run']}` asks again")
    if facts["faults"]:
        lines.append("  faults met: " + _counts(facts["faults"]))
    if facts.get("judgements"):
        lines.append("  " + told_judgements(facts["judgements"]))
    lines.append(
        f"  {facts['answers']:,} answers, {facts['prompt_tokens']:,} tokens in ({facts['cached_tokens']:,} from cache),"
        f" {facts['completion_tokens']:,} out; {told(facts['cost'])}"
    )
    if budget := facts["budget"]:
        lines.append("  budget: " + told_budget({what: (part["spent"], part["of"]) for what, part in budget.items()}))
    return "\n".join([*lines, *(f"  {path}" for path in facts["exports"])])


def _counts(counts: dict[str, int]) -> str:
    return ", ".join(f"{name} {count}" for name, count in counts.items())


def _print_survivors(facts: dict[str, Any]) -> None:
    from selfinstruct.cli.survivors import operators_table, rounds_table

    for table in (rounds_table(facts["rounds"]), operators_table(facts["operators"])):
        print()
        _draw(table)


def _draw(drawing: RenderableType) -> None:
    """Draw for a terminal, within its width; for a pipe or a file plainly and whole."""
    from rich.console import Console

    console = Console(highlight=False)
    if not console.is_terminal:
        console.width = WHOLE
    with console.capture() as drawn:
        console.print(drawing)
    print("\n".join(line.rstrip() for line in drawn.get().splitlines()))


@click.command(
    epilog=examples(
        "show self-instruct-embedded",
        "show self-instruct-embedded 17.3",
        "show self-instruct-embedded 17.3 --prompts",
        "show self-instruct-embedded-evolved 17.1 --tree",
    )
)
@run_argument
@click.argument("ids", nargs=-1)
@click.option(
    "-n",
    "--number",
    type=click.IntRange(1),
    default=10,
    show_default=True,
    help="Without ids: how many of the latest tasks.",
)
@click.option("--prompts", is_flag=True, help="With the prompts and answers behind them.")
@click.option("--tree", is_flag=True, help="Draw the families of drafts or seeds: what came of what, what was dropped.")
@as_json
def show(
    run: str, ids: tuple[str, ...], number: int, prompts: bool, tree: bool, output_dir: Path, as_json: bool
) -> int:
    """Samples, or drafts by their IDS, with their story; without ids the latest tasks."""
    from selfinstruct.store.ledger import Ledger

    if prompts and tree:
        raise click.UsageError("--tree draws no prompts: leave out one of --tree and --prompts")
    with Ledger.open(existing(run, output_dir)) as ledger:
        wanted = ids or _latest(ledger, number)
        if tree:
            _print_families(ledger, wanted, as_json)
        else:
            for draft in _drafts(ledger, wanted):
                print(json_line(_story(ledger, draft)) if as_json else _page(ledger, draft, prompts))
    return 0


def _latest(ledger: Ledger, number: int) -> tuple[str, ...]:
    """The ids of the latest tasks, in order."""
    from selfinstruct.recipes import task_stage
    from selfinstruct.recipes.configured import stored_config

    last = task_stage(stored_config(ledger).recipe.name)
    rows = ledger.query("SELECT id FROM drafts WHERE kept AND stage = ? ORDER BY rank DESC LIMIT ?", last, number)
    return tuple(id for (id,) in reversed(rows))


def _drafts(ledger: Ledger, ids: tuple[str, ...]) -> list[StoredDraft]:
    from selfinstruct.errors import RunError

    found = [draft for id in ids for draft in ledger.drafts("d.id = ?", id)]
    if missing := set(ids) - {draft.id for draft in found}:
        names = ", ".join(sorted(missing))
        where = "ids look like 17.3 and stand in samples.jsonl and `drops`"
        raise RunError(f"{ledger.path.parent}: no draft {names}; {where}")
    return found


def _print_families(ledger: Ledger, ids: tuple[str, ...], as_json: bool) -> None:
    from selfinstruct.cli.family import drawn, families

    with ledger.snapshot():
        found = families(ledger, ids)
    for family in found:
        if as_json:
            print(json_line(family))
        else:
            _draw(drawn(family))
            print()


def _story(ledger: Ledger, draft: StoredDraft) -> dict[str, Any]:
    from selfinstruct.dataset.exports.base import Lineage

    return {
        "id": draft.id,
        "stage": draft.draft.stage,
        "kept": draft.kept,
        "reason": draft.reason,
        "review": next((review.word for review in ledger.reviews("draft = ?", draft.id).values()), None),
        "instruction": draft.draft.instruction,
        "instances": [instance.model_dump() for instance in (draft.stayed if draft.kept else draft.draft.instances)],
        **draft.draft.meta,
        "lineage": [step._asdict() for step in Lineage(ledger, draft.sample).steps()],
    }


def _page(ledger: Ledger, draft: StoredDraft, prompts: bool) -> str:
    """A draft for a person; control characters of generated text are shown, not obeyed."""
    from selfinstruct.dataset.exports.base import Lineage

    verdict = (
        "kept"
        if draft.kept
        else f"dropped by {draft.filter}: {draft.reason} {json.dumps(draft.detail) if draft.detail else ''}"
    )
    lines = [
        f"{draft.id} ({draft.draft.stage}) {verdict.rstrip()}",
        f"  instruction: {visible(draft.draft.instruction)}",
    ]
    for review in ledger.reviews("draft = ?", draft.id).values():
        lines.insert(1, f"  reviewed by a person: {review.word}")
    for instance in draft.stayed if draft.kept else draft.draft.instances:
        if instance.input:
            lines.append(f"  input: {visible(instance.input, indent='    ')}")
        lines.append(f"  output: {visible(instance.output, indent='    ')}")
    for step in Lineage(ledger, draft.sample).steps():
        shown = f", shown {', '.join(step.demonstrations)}" if step.demonstrations else ""
        lines.append(f"  job {step.job} ({step.stage}){shown}")
        for answer in ledger.answers(step.job) if prompts else []:
            prompt = answer.request.get("prompt") or "\n".join(
                f"{m['role']}: {m['content']}" for m in answer.request.get("messages", [])
            )
            lines.append(f"    asked: {visible(prompt, indent='      ')}")
            lines.append(
                f"    answered ({answer.completion.finish_reason}): {visible(answer.completion.text, indent='      ')}"
            )
    return "\n".join(lines) + "\n"


@click.command(
    epilog=examples("drops self-instruct-embedded", "drops self-instruct-embedded --reason near_duplicate -n 50")
)
@run_argument
@click.option("--reason", metavar="REASON", help="Only drops for this reason.")
@click.option("--filter", "filter_name", metavar="NAME", help="Only drops by this filter.")
@click.option("-n", "--number", type=click.IntRange(1), default=20, show_default=True, help="How many at most.")
@as_json
def drops(run: str, reason: str | None, filter_name: str | None, number: int, output_dir: Path, as_json: bool) -> int:
    """What was dropped, by which filter and why; for a near-duplicate, of what and how near."""
    from selfinstruct.store.ledger import Ledger

    with Ledger.open(existing(run, output_dir)) as ledger:
        _check(ledger, "reason", reason)
        _check(ledger, "filter", filter_name)
        where = "NOT d.kept AND (? IS NULL OR v.reason = ?) AND (? IS NULL OR v.filter = ?)"
        for draft in ledger.drafts(where, reason, reason, filter_name, filter_name, limit=number):
            if as_json:
                fields = {"id": draft.id, "stage": draft.draft.stage, "filter": draft.filter, "reason": draft.reason}
                print(json_line({**fields, "detail": draft.detail, "instruction": draft.draft.instruction}))
            else:
                print(_drop(ledger, draft))
    return 0


def _check(ledger: Ledger, column: str, name: str | None) -> None:
    """Raise ConfigError when nothing was dropped for that reason or by that filter, and name those that dropped."""
    from selfinstruct.errors import ConfigError

    known = [known for (known,) in ledger.query(f"SELECT DISTINCT {column} FROM drops ORDER BY 1")]  # noqa: S608
    if name is not None and name not in known:
        word = "for reason" if column == "reason" else "by filter"
        raise ConfigError(f"nothing was dropped {word} {name!r}; in this run: {', '.join(known) or 'no drops at all'}")


def _drop(ledger: Ledger, draft: StoredDraft) -> str:
    text = draft.draft.instruction or str(draft.draft.meta.get("answer", ""))
    line = f"{draft.id}  {draft.reason} ({draft.filter})  {one_line(text[:400])[:200]}"
    if draft.detail:
        line += f"\n      {told_detail(draft.detail)}"
    if "of" in draft.detail:
        line += f": {one_line(_instruction(ledger, str(draft.detail['of'])))[:200]}"
    return line


def _instruction(ledger: Ledger, id: str) -> str:
    """The instruction of a seed or a draft."""
    query = (
        "SELECT json_extract(record, '$.instruction') FROM seeds WHERE id = ?"
        " UNION ALL SELECT instruction FROM drafts WHERE id = ?"
    )
    rows = ledger.query(query, id, id)
    return str(rows[0][0]) if rows else ""
