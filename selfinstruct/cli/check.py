"""`selfinstruct check`: is the server up, does the model answer, which dialect suits it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from selfinstruct.backends import Backend, open_backend
from selfinstruct.cli.flags import as_json, command, implied
from selfinstruct.cli.terminal import say
from selfinstruct.errors import SelfInstructError
from selfinstruct.inputs.config import BackendConfig, accept, dialect_of, load
from selfinstruct.records import Request, Sampling, Turn
from selfinstruct.run import loop
from selfinstruct.text.display import json_line, one_line


@command("check", "check --base-url http://localhost:8000/v1", "check --backend openai --model gpt-4o-mini")
@click.option(
    "-c",
    "--config",
    "config_file",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="TOML file with a [backend] table.",
)
@click.option("--backend", "kind", metavar="KIND", help="llamacpp (default), vllm, openai or scripted.")
@click.option("--model", help="Model name, or a GGUF file for llamacpp.")
@click.option("--base-url", metavar="URL", help="A running server; implies --backend openai.")
@click.option("--api-key-env", metavar="NAME", help="Environment variable that holds the key.")
@click.option("--script", metavar="FILE", help="Answers for --backend scripted.")
@as_json
def check(config_file: Path | None, as_json: bool, **flags: Any) -> int:
    """Say whether the server is up, whether the model answers, and which dialect suits it.

    Asks two short questions, one as a completion and one as a chat: a few dozen tokens.
    """
    tree = dict(load(config_file).get("backend", {})) if config_file else {}
    tree |= {key: value for key, value in flags.items() if value is not None}
    implied(tree)
    found = loop.run(_look, accept(BackendConfig, tree, where="backend"))
    if as_json:
        print(json_line(found))
        return 0 if found["answers"] else 1
    print(f"model {found['model']} at {found['where']}")
    for dialect in ("completion", "chat"):
        print(f"  {dialect}: {one_line(found[dialect])}")
    print(
        f"  prompts will be in the {found['dialect']} dialect (--dialect overrides)"
        if found["answers"]
        else "  it does not answer"
    )
    return 0 if found["answers"] else 1


async def _look(config: BackendConfig) -> dict[str, Any]:
    sampling = Sampling(max_tokens=8, temperature=0)
    config = config.model_copy(update={"batch": False})  # A batch would be answered tomorrow.
    async with open_backend(config, notice=say) as backend:
        plain = Request(model=backend.model, prompt="1, 2, 3,", sampling=sampling)
        chat = Request(model=backend.model, messages=(Turn(role="user", content="Say yes."),), sampling=sampling)
        answers = {"completion": await _try(backend, plain), "chat": await _try(backend, chat)}
        suits = config.dialect or dialect_of(
            config.kind, config.model or ("" if config.kind == "llamacpp" else backend.model)
        )
        works = [name for name, said in answers.items() if said.startswith("answers")]
        return {
            "model": backend.model,
            "where": ", ".join(config.urls) or config.kind,
            **answers,
            "dialect": suits if suits in works or not works else works[0],
            "answers": bool(works),
        }


async def _try(backend: Backend, request: Request) -> str:
    try:
        completion = await backend.complete(request)
    except SelfInstructError as error:
        return f"no: {error}"
    return f"answers, such as {completion.text.strip()[:40]!r}"
