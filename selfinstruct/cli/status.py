"""`selfinstruct status`: how a run is, or all runs in a line each."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from selfinstruct.cli import budgets
from selfinstruct.cli.facets import table
from selfinstruct.cli.flags import as_json, command, existing, output_dir, runs
from selfinstruct.cli.terminal import draw
from selfinstruct.errors import UserError
from selfinstruct.inputs.prices import cost, costs, prices_of
from selfinstruct.recipes.configured import stored
from selfinstruct.run.budget import standings
from selfinstruct.store.ledger import FILTERED_FROM, Ledger
from selfinstruct.store.readings import Fates, kept, rooted, summary
from selfinstruct.text.display import bill, json_line, one_line

ENDED = {"interrupted": "interrupted", "exhausted": "stopped: nothing more can be planned"}


@command("status", "status self-instruct-embedded --json")
@click.argument("run", required=False)
@output_dir
@as_json
def status(run: str | None, output_dir: Path, as_json: bool) -> int:
    """Show how far RUN is, what it kept, dropped and took; without RUN, list all runs."""
    if run is None:
        return _list(output_dir, as_json)
    folder = existing(run, output_dir)
    with Ledger.open(folder) as ledger, ledger.snapshot():
        facts = _facts(folder, ledger)
    print(json_line(facts) if as_json else _told(facts))
    for name, rows in [] if as_json else facts["facets"].items():
        print()
        draw(table(name, rows))
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
    try:
        with Ledger.open(folder) as ledger:
            return _brief(folder, ledger)
    except UserError as error:
        return {"run": str(folder), "error": one_line(str(error))}


def _brief(folder: Path, ledger: Ledger) -> dict[str, Any]:
    config, chain = stored(ledger)
    tasks, models = kept(ledger, chain.task_stage), ledger.models()
    return {"run": str(folder), "recipe": config.recipe.name, "then": list(config.recipes[1:]),
            "model": models.get("writer", "") or ", ".join(_of_role("writer", models)), "models": models,
            "kept": tasks, "target": ledger.target(),
            "state": _state(ledger, tasks)}  # fmt: skip


def _of_role(role: str, models: dict[str, str]) -> list[str]:
    """The models of a role that has several."""
    return [model for door, model in models.items() if door.startswith(f"{role}:")]


def _state(ledger: Ledger, tasks: int) -> str:
    if ledger.fact(FILTERED_FROM):
        return "filtered copy"
    target = ledger.target()
    if target is not None:
        return "complete" if tasks >= target else "unfinished"
    # All is wanted that the seeds make: each is planned once.
    left = ledger.count("seeds") - rooted(ledger) + ledger.count_jobs("planned")
    return "unfinished" if left else "complete"


def _kept(facts: dict[str, Any]) -> str:
    return f"{facts['kept']}" if facts["target"] is None else f"{facts['kept']} of {facts['target']}"


def _facts(folder: Path, ledger: Ledger) -> dict[str, Any]:
    config, chain = stored(ledger)
    brief, told = _brief(folder, ledger), summary(ledger)
    prices = prices_of(config, ledger.models())
    spent = {role: meter.spent for role, meter in told.meter.items()}
    dollars = costs(prices, spent.items())
    seconds = sum(meter.seconds for meter in told.meter.values())
    return {
        **brief,
        "begun_with": ledger.fact("version"),
        "jobs": {f"{jobs.stage} {jobs.state}": jobs.jobs for jobs in told.jobs},
        "drafts": [drafts._asdict() for drafts in told.drafts],
        "drops": [{"stage": drop.stage, "filter": drop.filter, "reason": drop.reason, "count": drop.drafts}
                  for drop in told.drops],
        "instance_drops": told.instance_drops,
        "facets": Fates(ledger, chain.lines).told(),
        "failed": told.failed,
        "reviews": told.reviews,
        "faults": told.faults,
        "answers": told.answers, "prompt_tokens": told.prompt_tokens, "cached_tokens": told.cached_tokens,
        "completion_tokens": told.completion_tokens,
        "cost": cost(prices, spent.items()),
        "ended": _ended(ledger, brief["state"]),
        "meter": {role: {**meter.spent._asdict(), "seconds": round(meter.seconds, 3), "cost": dollars[role]}
                  for role, meter in told.meter.items()},
        "budget": {what: {"spent": round(done, 6), "of": limit}
                   for what, (done, limit) in standings(config.budget, spent, prices, seconds).items()},
        "exports": sorted(str(path) for path in (folder / "export").rglob("[!.]*") if path.is_file()),
    }  # fmt: skip


def _ended(ledger: Ledger, state: str) -> dict[str, Any] | None:
    """How the last session of a run ended that is not done yet; None of one that goes on, or was killed."""
    ended = ledger.ended()
    return None if ended is None or state != "unfinished" else ended._asdict()


def _told(facts: dict[str, Any]) -> str:
    lines = [
        f"{facts['run']}: {_kept(facts)} tasks kept, {facts['state']}",
        f"  recipe {', then '.join([facts['recipe'], *facts['then']])}, {_models(facts['models'])}",
    ]
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
    lines.append(
        f"  {facts['answers']:,} answers, {facts['prompt_tokens']:,} tokens in ({facts['cached_tokens']:,} from cache),"
        f" {facts['completion_tokens']:,} out; {_bill(facts)}"
    )
    if len(facts["models"]) > 1:
        lines += [_metered(role, meter) for role, meter in facts["meter"].items()]
    if budget := facts["budget"]:
        lines.append("  budget: " + budgets.stand({what: (part["spent"], part["of"]) for what, part in budget.items()}))
    return "\n".join([*lines, *(f"  {path}" for path in facts["exports"])])


def _bill(facts: dict[str, Any]) -> str:
    """The cost of all, or which of several models has no known price."""
    models = facts["models"]
    unpriced = [models.get(role) or role for role, meter in facts["meter"].items() if meter["cost"] is None]
    return f"price of {', '.join(unpriced)} unknown" if unpriced and len(models) > 1 else bill(facts["cost"])


def _metered(role: str, meter: dict[str, Any]) -> str:
    """What one of several models took, over all attempts."""
    return (
        f"    {role}: {meter['requests']:,} requests, {meter['prompt_tokens']:,} tokens in,"
        f" {meter['completion_tokens']:,} out; {bill(meter['cost'])}"
    )


def _models(models: dict[str, str]) -> str:
    """Each role with its model; the writer's as the model of the run."""
    return ", ".join(f"{'model' if door == 'writer' else door} {model}" for door, model in models.items())


def _counts(counts: dict[str, int]) -> str:
    return ", ".join(f"{name} {count}" for name, count in counts.items())
