"""What the pictures of a report show: numbers told from the ledger, of one run.

All are over the whole run, except the similarity to other samples, which is over a seeded sample of them where there
are too many pairs. docs/report.md says how each is computed.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from functools import partial
from random import Random
from statistics import median
from typing import Any

from selfinstruct.dataset.report.words import first_words, is_english, verb_and_noun
from selfinstruct.filters.rouge_index import RougeIndex
from selfinstruct.inputs.config import RunConfig
from selfinstruct.inputs.prices import Prices, cost, prices_of
from selfinstruct.recipes.configured import stored
from selfinstruct.records import Sample
from selfinstruct.store.ledger import Ledger
from selfinstruct.store.readings import Fates, Spend, Summary, decisions, lasted, summary
from selfinstruct.text.words import TOKENIZERS, unicode_tokens

Figures = dict[str, Any]

VERBS, NOUNS = 20, 4
"""How many of the commonest are shown, as in figure 2 of Self-Instruct."""
PAIRS = 100_000_000
"""Pairs of texts compared at most: some 6 seconds."""
BINS = 20
"""Steps of similarity from 0 to 1."""
BUCKETS = 40
"""Stretches of a run over which acceptance is told."""
LENGTHS = (1, 2, 3, 4, 6, 8, 11, 16, 23, 32, 45, 64, 91, 128, 181, 256, 362, 512, 1024)
"""Where classes of length begin, in words: about half as long again each; the first holds what is empty."""


def figures(ledger: Ledger, name: str) -> Figures:
    """All figures of a run that the page calls by this name, ready for JSON."""
    config, chain = stored(ledger)
    stage = chain.task_stage
    kept = list(ledger.joined([stage]))
    instructions = [sample.instruction for sample in kept]
    seeds = [seed.instruction for seed in ledger.seeds()]
    tokenizer = str(config.filters.get("rouge", {}).get("tokenizer", "rouge"))
    told = summary(ledger)
    return {
        **_begun(ledger, name, config),
        "stage": stage,
        "kept": len(kept),
        "seeds": len(seeds),
        "verbs": verbs(instructions),
        "similarity": similarity(instructions, seeds, tokenizer),
        "lengths": _lengths(kept),
        "stages": [drafts._asdict() for drafts in told.drafts],
        "tried": told.drafts[0].drafts if told.drafts else 0,
        "acceptance": _acceptance(ledger),
        "drops": [drop._asdict() for drop in told.drops],
        "instance_drops": told.instance_drops,
        "facets": Fates(ledger, chain.lines).told(),
        "reviews": told.reviews,
        **_spent(told, prices_of(config, ledger.models())),
    }


def _begun(ledger: Ledger, name: str, config: RunConfig) -> Figures:
    """What the run is."""
    began, ended = lasted(ledger)
    model = ", ".join(ledger.models().values())
    return {"name": name, "recipe": ", then ".join(config.recipes), "model": model, "began": began, "ended": ended}


# -- what is in it ----------------------------------------------------------------------------------------------------


def verbs(instructions: Sequence[str]) -> Figures:
    """The commonest root verbs, each with its commonest nouns; of other languages than English, first words."""
    english = is_english(instructions[:1000])
    phrases = Counter(map(verb_and_noun if english else first_words, instructions))
    nouns: dict[str, Counter[str]] = defaultdict(Counter)
    for (verb, noun), count in phrases.items():
        if verb and noun:
            nouns[verb][noun] += count
    most = sorted(nouns.items(), key=lambda item: (-item[1].total(), item[0]))
    return {
        "english": english,
        "pairs": sum(counts.total() for counts in nouns.values()),
        "distinct": sum(map(len, nouns.values())),
        "verbless": sum(count for phrase, count in phrases.items() if phrase.verb is None),
        "of": len(instructions),
        "shown": sum(count for _, counts in most[:VERBS] for _, count in _commonest(counts)),
        "top": [
            {"name": verb, "count": counts.total(), "nouns": [{"name": n, "count": c} for n, c in _commonest(counts)]}
            for verb, counts in most[:VERBS]
        ],
    }


def _commonest(counts: Counter[str]) -> list[tuple[str, int]]:
    return sorted(counts.items(), key=lambda item: (-item[1], item[0]))[:NOUNS]


def _lengths(kept: Iterable[Sample]) -> Figures:
    """How many instructions, inputs and outputs are how many words long."""
    words: dict[str, list[int]] = {"instruction": [], "input": [], "output": []}
    for sample in kept:
        words["instruction"].append(len(unicode_tokens(sample.instruction)))
        for instance in sample.instances:
            words["input"].append(len(unicode_tokens(instance.input)))
            words["output"].append(len(unicode_tokens(instance.output)))
    starts = (0, *LENGTHS)
    labels = [str(a) if b - a == 1 else f"{a}–{b - 1}" for a, b in zip(starts, LENGTHS, strict=False)]
    return {
        "labels": [*labels, f"{LENGTHS[-1]}+"],
        **{part: {"counts": _classes(counts), "median": median(counts or [0])} for part, counts in words.items()},
    }


def _classes(counts: Iterable[int]) -> list[int]:
    found = Counter(map(partial(bisect_right, LENGTHS), counts))
    return [found[place] for place in range(len(LENGTHS) + 1)]


# -- how diverse ------------------------------------------------------------------------------------------------------


def similarity(instructions: Sequence[str], seeds: Sequence[str], tokenizer: str) -> Figures:
    """How the highest ROUGE-L to a seed, and to any other kept sample, is distributed."""
    index, seeded = (RougeIndex(tokenize=TOKENIZERS[tokenizer]) for _ in range(2))
    index.add_many(instructions)
    seeded.add_many(seeds)
    some, others = _some(len(instructions), len(seeds)), _some(len(instructions), len(instructions))
    to_seed = seeded.highest([instructions[number] for number in some])
    to_other = index.highest([instructions[number] for number in others], but=others)
    return {"seed": _distribution(to_seed.tolist()), "other": _distribution(to_other.tolist())}


def _some(count: int, pool: int) -> list[int]:
    """The numbers of those to be compared with a pool: all, or as many as the pairs allow, drawn by a fixed seed."""
    return sorted(Random(count).sample(range(count), min(count, PAIRS // max(1, pool))))


def _distribution(scores: Sequence[float]) -> Figures:
    found = Counter(min(int(score * BINS), BINS - 1) for score in scores)
    return {
        "counts": [found[place] for place in range(BINS)],
        "of": len(scores),
        "median": round(median(scores), 3) if scores else 0.0,
    }


# -- how it was filtered ----------------------------------------------------------------------------------------------


def _acceptance(ledger: Ledger) -> list[Figures]:
    """The share of drafts kept, stretch by stretch of the run, at each stage that drops any."""
    drafts = decisions(ledger)
    size = max(1, -(-len(drafts) // BUCKETS))
    found: dict[str, dict[int, list[bool]]] = defaultdict(lambda: defaultdict(list))
    for place, (stage, kept) in enumerate(drafts):
        found[stage][place // size].append(kept)
    return [
        {"stage": stage, "points": [[min((b + 1) * size, len(drafts)), round(sum(k) / len(k), 4)]
                                    for b, k in sorted(buckets.items())]}
        for stage, buckets in found.items()
        if not all(kept for bucket in buckets.values() for kept in bucket)
    ]  # fmt: skip


# -- what it cost -----------------------------------------------------------------------------------------------------


def _spent(told: Summary, prices: Prices) -> Figures:
    """Tokens and their price by stage, and all together; the price is None where nobody knows it."""
    stages: dict[str, list[Spend]] = defaultdict(list)
    for spend in told.spend:
        stages[spend.stage].append(spend)
    order = sorted(stages, key=lambda stage: -sum(spend.prompt_tokens for spend in stages[stage]))
    rows = [{"stage": stage, **_sum(stages[stage], prices)} for stage in order]
    if uncounted := _uncounted(told):
        rows.append({"stage": "estimated", **_sum(uncounted, prices)})
    return {"spend": rows, "spent": _sum([*told.spend, *uncounted], prices)}


def _uncounted(told: Summary) -> list[Spend]:
    """What the meter has beyond the answers: what was sent and went unanswered, or was answered and not counted."""
    beyond = []
    for role, meter in told.meter.items():
        counted = [spend for spend in told.spend if spend.role == role]
        prompt = meter.spent.prompt_tokens - sum(spend.prompt_tokens for spend in counted)
        completion = meter.spent.completion_tokens - sum(spend.completion_tokens for spend in counted)
        if prompt > 0 or completion > 0:
            beyond.append(Spend("", role, "", 0, max(0, prompt), max(0, completion), 0))
    return beyond


def _sum(spends: Sequence[Spend], prices: Prices) -> Figures:
    return {
        "answers": sum(spend.answers for spend in spends),
        "prompt": sum(spend.prompt_tokens for spend in spends),
        "cached": sum(spend.cached_tokens for spend in spends),
        "completion": sum(spend.completion_tokens for spend in spends),
        "cost": cost(prices, ((spend.role, spend) for spend in spends)),
    }
