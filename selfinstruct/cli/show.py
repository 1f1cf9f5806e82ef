"""`selfinstruct show`: samples and drafts with their story, or with their family."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click

from selfinstruct.cli.family import drawn
from selfinstruct.cli.flags import MOST, as_json, command, existing, run_argument
from selfinstruct.cli.terminal import draw
from selfinstruct.errors import RunError
from selfinstruct.recipes.configured import stored
from selfinstruct.records import Completion, Execution, Instance
from selfinstruct.store.ledger import Ledger, StoredAnswer, StoredDraft
from selfinstruct.store.lineage import families, steps
from selfinstruct.text.display import json_line, visible


@command(
    "show self-instruct-embedded",
    "show self-instruct-embedded 17.3",
    "show self-instruct-embedded 17.3 --prompts",
    "show self-instruct-embedded-evolved 17.1 --tree",
)
@run_argument
@click.argument("ids", nargs=-1)
@click.option(
    "-n",
    "--number",
    type=click.IntRange(1, MOST),
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
    """Show samples or drafts of RUN by their IDS, with their story; or the latest tasks."""
    if prompts and tree:
        raise click.UsageError("--tree draws no prompts: leave out one of --tree and --prompts")
    with Ledger.open(existing(run, output_dir)) as ledger:
        wanted = ids or tuple(ledger.latest(stored(ledger).task_stage, number))
        if tree:
            _print_families(ledger, wanted, as_json)
        else:
            for draft in _drafts(ledger, wanted):
                print(json_line(_story(ledger, draft)) if as_json else _page(ledger, draft, prompts))
    return 0


def _drafts(ledger: Ledger, ids: tuple[str, ...]) -> list[StoredDraft]:
    found = [draft for draft in map(ledger.draft, ids) if draft is not None]
    if missing := set(ids) - {draft.id for draft in found}:
        names = ", ".join(sorted(missing))
        where = "ids look like 17.3 and stand in samples.jsonl and `drops`"
        raise RunError(f"{ledger.path.parent}: no draft {names}; {where}")
    return found


def _print_families(ledger: Ledger, ids: tuple[str, ...], as_json: bool) -> None:
    with ledger.snapshot():
        found = families(ledger, ids)
    for family in found:
        if as_json:
            print(json_line(family))
        else:
            draw(drawn(family))
            print()


def _story(ledger: Ledger, draft: StoredDraft) -> dict[str, Any]:
    return {
        "id": draft.id,
        "stage": draft.draft.stage,
        "kept": draft.kept,
        "reason": draft.reason,
        "review": next((review.word for review in ledger.reviews([draft.id]).values()), None),
        "instruction": draft.draft.instruction,
        "instances": [instance.fields() for instance in draft.instances],
        **draft.draft.meta,
        "lineage": [step._asdict() for step in steps(ledger, draft.sample)],
    }


def _page(ledger: Ledger, draft: StoredDraft, prompts: bool) -> str:
    """A draft for a person; control characters of generated text are shown, not obeyed."""
    verdict = (
        "kept"
        if draft.kept
        else f"dropped by {draft.filter}: {draft.reason} {json.dumps(draft.detail) if draft.detail else ''}"
    )
    lines = [
        f"{draft.id} ({draft.draft.stage}) {verdict.rstrip()}",
        f"  instruction: {visible(draft.draft.instruction)}",
    ]
    for review in ledger.reviews([draft.id]).values():
        lines.insert(1, f"  reviewed by a person: {review.word}")
    for instance in draft.instances:
        lines += (f"  {name}: {visible(text, indent='    ')}" for name, text in _instance(instance))
    for step in steps(ledger, draft.sample):
        shown = f", shown {', '.join(step.demonstrations)}" if step.demonstrations else ""
        lines.append(f"  job {step.job} ({step.stage}){shown}")
        for answer in ledger.answers(step.job) if prompts else []:
            lines += _asked(answer)
    return "\n".join(lines) + "\n"


def _instance(instance: Instance) -> Iterator[tuple[str, str]]:
    """What an instance has, each text with its name, in the order in which it was said."""
    if instance.input:
        yield "input", instance.input
    for turn in instance.turns:
        if turn.content or not turn.calls:
            yield turn.role, turn.content
        for call in turn.calls:
            yield f"{turn.role} calls {call.tool}", json.dumps(call.arguments, ensure_ascii=False)
    if instance.output or not instance.turns:
        yield "output" if instance.score is None else f"output, score {instance.score:g}", instance.output
    for rival in instance.rivals:
        yield "rival" if rival.score is None else f"rival, score {rival.score:g}", rival.output


def _asked(stored: StoredAnswer) -> Iterator[str]:
    """A question and its answer, whoever was asked."""
    question, answer = stored.question, stored.answer
    if isinstance(answer, Completion):
        prompt = question.get("prompt") or "\n".join(
            f"{turn['role']}: {turn['content']}" for turn in question.get("messages", [])
        )
        yield f"    asked: {visible(prompt, indent='      ')}"
        if answer.reasoning:
            yield f"    thought: {visible(answer.reasoning, indent='      ')}"
        yield f"    answered ({answer.finish_reason}): {visible(answer.text, indent='      ')}"
    elif isinstance(answer, Execution):
        yield f"    ran: {visible(' '.join(question['command']), indent='      ')}"
        yield f"    {answer.status}: {visible(answer.stdout + answer.stderr, indent='      ')}"
    else:
        yield f"    called: {visible(json.dumps(question, ensure_ascii=False), indent='      ')}"
        yield f"    returned: {visible(answer.content, indent='      ')}"
