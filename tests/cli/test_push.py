"""Publishing on the Hub: the real client and the real loader over HTTP, against a Hub on this machine."""

# ruff: noqa: E501 - a message is one line, and so it stands here

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from selfinstruct.dataset import exports
from selfinstruct.dataset.exports.base import ExportContext
from selfinstruct.records import Sample
from tests.cli.conftest import Say
from tests.support.cli import Said, answers, seeds, write
from tests.support.hub_server import HANG, HubServer
from tests.support.processes import until

# The Hub's library hands file contents to its HTTP client by a name that the client would like to be rid of.
pytestmark = pytest.mark.filterwarnings("ignore:Use 'content=:DeprecationWarning")
TIDES = "ada/tides"
SHARD = "alpaca/train-00000-of-00001.parquet"
CARD = "README.md"


@pytest.fixture
def hub() -> Iterator[HubServer]:
    with HubServer() as running:
        yield running


@pytest.fixture
def logged_in(hub: HubServer, here: Path, monkeypatch: pytest.MonkeyPatch) -> HubServer:
    """The Hub with the token that it takes; what the library reads when it is imported is set as if it were anew."""
    from huggingface_hub import close_session, constants

    close_session()
    for name, value in {
        "ENDPOINT": hub.address,
        "HUGGINGFACE_CO_URL_TEMPLATE": hub.address + "/{repo_id}/resolve/{revision}/{filename}",
        "HF_HUB_CACHE": str(here / "cache"),
        "HF_HUB_DISABLE_XET": True,
        "HF_TOKEN_PATH": str(here / "token"),
    }.items():
        monkeypatch.setattr(constants, name, value)
    monkeypatch.setenv("HF_TOKEN", hub.token)
    monkeypatch.setattr(time, "sleep", lambda seconds: None)
    return hub


def process(here: Path, hub: HubServer, *command: str, **environment: str) -> Said:
    """A process of its own, told of the Hub as a person tells it: by environment variables."""
    told = {"HF_ENDPOINT": hub.address, "HF_TOKEN": hub.token, "HF_HOME": str(here / "hf"), "HF_HUB_DISABLE_XET": "1"}
    # Whatever is not the Hub is looked for behind a proxy that is not there.
    nowhere = {"https_proxy": "http://127.0.0.1:9", "HF_DATASETS_DISABLE_PROGRESS_BARS": "1"}
    path = {name: os.environ[name] for name in ("PATH", "PYTHONPATH") if name in os.environ}
    done = subprocess.run(
        [sys.executable, *command], cwd=here, env={**path, **nowhere, **told, **environment}, capture_output=True,
        text=True, check=False, timeout=100,
    )  # fmt: skip
    return Said(done.returncode, done.stdout, done.stderr)


LOAD = """
import json, sys
from datasets import get_dataset_config_names, load_dataset
configs = {name: load_dataset(sys.argv[1], name) for name in get_dataset_config_names(sys.argv[1])}
rows = {name: {split: list(rows) for split, rows in splits.items()} for name, splits in configs.items()}
print(json.dumps({"configs": rows, "default": {split: list(rows) for split, rows in load_dataset(sys.argv[1]).items()}}))
"""


def test_what_was_pushed_is_what_load_dataset_reads(first: Said, hub: HubServer, here: Path) -> None:
    pushed = process(here, hub, "-m", "selfinstruct", "push", "first", TIDES)
    assert pushed == (0, f"{hub.address}/datasets/{TIDES}\n", f"{TIDES} created\n")
    rows = [json.loads(line) for line in (here / "outputs/first/export/alpaca.jsonl").read_text().splitlines()]
    loaded = process(here, hub, "-c", LOAD, TIDES, HF_HUB_DISABLE_TELEMETRY="1")
    assert loaded.code == 0, loaded.err
    assert json.loads(loaded.out) == {"configs": {"alpaca": {"train": rows}}, "default": {"train": rows}}


class Pairs:
    """A format of somebody else's."""

    FILES = ("pairs.jsonl",)

    @staticmethod
    def rows(sample: Sample, context: ExportContext) -> Iterator[dict[str, Any]]:
        for instance in sample.instances:
            yield {"prompt": sample.instruction, "completion": instance.output}


@pytest.fixture
def pairs(monkeypatch: pytest.MonkeyPatch) -> None:
    """`--format pairs`."""
    known = exports.EXPORTS.ours | {"pairs": f"{__name__}:Pairs"}
    monkeypatch.setattr(exports, "EXPORTS", exports.EXPORTS._replace(ours=known))


def test_each_format_is_a_configuration_and_the_first_one_the_default(
    first: Said, selfinstruct: Say, logged_in: HubServer, here: Path, pairs: None
) -> None:
    assert selfinstruct("push", "first", TIDES, "--format", "pairs", "--format", "alpaca").code == 0
    loaded = json.loads(process(here, logged_in, "-c", LOAD, TIDES, HF_HUB_DISABLE_TELEMETRY="1").out)
    assert list(loaded["configs"]) == ["pairs", "alpaca"]
    assert loaded["default"] == loaded["configs"]["pairs"] == {"train": [
        {"prompt": row["instruction"], "completion": row["output"]} for row in loaded["configs"]["alpaca"]["train"]
    ]}  # fmt: skip


def test_a_format_left_out_is_taken_away(first: Said, selfinstruct: Say, logged_in: HubServer, pairs: None) -> None:
    selfinstruct("push", "first", TIDES, "--format", "pairs", "--format", "alpaca")
    assert selfinstruct("push", "first", TIDES).code == 0
    assert set(logged_in.repos[TIDES].files) == {".gitattributes", CARD, SHARD}


def test_rows_in_many_files_are_read_as_one(
    first: Said, selfinstruct: Say, logged_in: HubServer, here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("selfinstruct.cli.push.ROWS_PER_FILE", 1)
    assert selfinstruct("push", "first", TIDES).code == 0
    assert {f"alpaca/train-0000{i}-of-00002.parquet" for i in (0, 1)} <= set(logged_in.repos[TIDES].files)
    loaded = json.loads(process(here, logged_in, "-c", LOAD, TIDES, HF_HUB_DISABLE_TELEMETRY="1").out)
    rows = [json.loads(line) for line in (here / "outputs/first/export/alpaca.jsonl").read_text().splitlines()]
    assert loaded["configs"] == {"alpaca": {"train": rows}}


def test_a_format_that_no_table_can_hold_is_published_as_json_lines(
    first: Said, selfinstruct: Say, logged_in: HubServer
) -> None:
    assert selfinstruct("push", "first", TIDES, "--format", "jsonl").code == 0
    assert set(logged_in.repos[TIDES].files) == {".gitattributes", CARD, "jsonl/train-00000-of-00001.jsonl"}


def test_a_push_asks_the_hub_for_what_it_needs_and_nobody_for_anything_else(
    first: Said, hub: HubServer, here: Path
) -> None:
    assert process(here, hub, "-m", "selfinstruct", "push", "first", TIDES).code == 0
    [stored] = hub.stored
    assert hub.requests == [
        "GET /api/whoami-v2", f"GET /api/datasets/{TIDES}", "POST /api/validate-yaml", "POST /api/repos/create",
        "POST /api/validate-yaml", f"POST /api/datasets/{TIDES}/preupload/main",
        f"POST /datasets/{TIDES}.git/info/lfs/objects/batch", f"PUT /lfs/{stored}", f"POST /lfs/{stored}/verify",
        f"POST /api/datasets/{TIDES}/commit/main",
    ]  # fmt: skip


def test_a_dry_run_lists_files_and_sizes_and_asks_nothing(first: Said, hub: HubServer, here: Path) -> None:
    said = process(
        here, hub, "-m", "selfinstruct", "push", "first", TIDES, "--dry-run", HF_TOKEN="", HF_HUB_OFFLINE="1"
    )
    assert (said.code, said.err, hub.requests) == (0, "", [])
    lines = [line.split() for line in said.out.splitlines()]
    assert [name for _, _, name, *_ in lines] == [CARD, SHARD, "in"]
    sizes = [int(size.replace(",", "")) for size, *_ in lines]
    assert sizes[0] + sizes[1] == sizes[2] > 0


def test_offline_is_said_plainly(first: Said, hub: HubServer, here: Path) -> None:
    said = process(here, hub, "-m", "selfinstruct", "push", "first", TIDES, HF_HUB_OFFLINE="1")
    assert said == (
        2, "", f"selfinstruct: {TIDES}: HF_HUB_OFFLINE is set, so the Hub is not asked: unset it, or use --dry-run\n",
    )  # fmt: skip
    assert hub.requests == []


def test_a_dataset_is_created_in_one_commit(first: Said, selfinstruct: Say, logged_in: HubServer) -> None:
    said = selfinstruct("push", "first", TIDES, "--license", "mit", "--message", "Two tasks")
    assert said.code == 0
    repo = logged_in.repos[TIDES]
    assert [commit.message for commit in repo.commits] == ["initial commit", "Two tasks"]
    assert set(repo.files) == {".gitattributes", CARD, SHARD}
    assert not repo.private
    assert b"\nlicense: mit\n" in repo.files[CARD]
    assert b"\npretty_name: tides\n" in repo.files[CARD]


def test_private_is_private(first: Said, selfinstruct: Say, logged_in: HubServer) -> None:
    assert selfinstruct("push", "first", TIDES, "--private").code == 0
    assert logged_in.repos[TIDES].private
    assert selfinstruct("push", "first", TIDES).code == 0


def test_a_public_dataset_is_not_taken_for_private(first: Said, selfinstruct: Say, logged_in: HubServer) -> None:
    selfinstruct("push", "first", TIDES)
    refused = f"{TIDES}: is public: make it private in its settings first, or leave --private out"
    assert selfinstruct("push", "first", TIDES, "--private") == (2, "", f"selfinstruct: {refused}\n")


def test_the_same_push_again_changes_nothing(first: Said, selfinstruct: Say, logged_in: HubServer) -> None:
    selfinstruct("push", "first", TIDES)
    again = selfinstruct("push", "first", TIDES)
    assert (again.code, again.err.splitlines()[-1]) == (0, f"{TIDES} is up to date")
    assert len(logged_in.repos[TIDES].commits) == 2
    assert len(logged_in.asked("PUT")) == 1


def test_an_update_replaces_what_is_ours_and_leaves_the_rest(
    first: Said, selfinstruct: Say, logged_in: HubServer
) -> None:
    selfinstruct("push", "first", TIDES)
    repo = logged_in.repos[TIDES]
    others = {"LICENSE": b"mine", "data/train-00000-of-00001.parquet": b"theirs", "alpaca/notes.txt": b"hers"}
    repo.commit("by hand", {**repo.files, **others, "alpaca/train-00001-of-00002.parquet": b"of a longer run"})
    assert selfinstruct("push", "first", TIDES, "--license", "mit").err == f"{TIDES} updated\n"
    assert len(repo.commits) == 4
    assert set(repo.files) == {".gitattributes", CARD, SHARD, *others}


# -- what is not ours
# -----------------------------------------------------------------------------------------------------


def test_a_dataset_that_was_not_pushed_from_here_is_left_alone(
    first: Said, selfinstruct: Say, logged_in: HubServer
) -> None:
    theirs = logged_in.created(TIDES, **{CARD: "---\nlicense: mit\n---\n# Tides\n", "tides.csv": "a,b\n"})
    refused = f"{TIDES}: holds files that were not pushed from here: choose another name, or --force"
    assert selfinstruct("push", "first", TIDES) == (2, "", f"selfinstruct: {refused}\n")
    assert len(theirs.commits) == 1
    assert selfinstruct("push", "first", TIDES, "--force").code == 0
    assert theirs.files["tides.csv"] == b"a,b\n"


@pytest.mark.parametrize(
    "card", ["---\n: : :\n---\n", "no front matter", "---\nselfinstruct: 3\n---\n", "---\n- 1\n---\n"]
)
def test_a_card_that_says_nothing_is_somebody_elses(
    card: str, first: Said, selfinstruct: Say, logged_in: HubServer
) -> None:
    logged_in.created(TIDES, **{CARD: card})
    assert "were not pushed from here" in selfinstruct("push", "first", TIDES).err


def test_the_dataset_of_another_run_is_replaced_only_by_force(
    first: Said, selfinstruct: Say, here: Path, logged_in: HubServer
) -> None:
    flags = ("--seeds", seeds(here), "--run", "second", "-n", "3", "--concurrency", "1", "--quiet")
    selfinstruct("generate", "--script", answers(here), *flags)
    selfinstruct("push", "first", TIDES)
    refused = f"{TIDES}: was pushed from another run: choose another name, or replace it with --force"
    assert selfinstruct("push", "second", TIDES) == (2, "", f"selfinstruct: {refused}\n")
    assert selfinstruct("push", "second", TIDES, "--force").err == f"{TIDES} updated\n"
    assert b"\n3 tasks with 3 worked instances" in logged_in.repos[TIDES].files[CARD]


# -- what goes wrong
# ------------------------------------------------------------------------------------------------------

AGAIN = "nothing is half published, and the same command goes on where this one stopped"
FAULTS = {
    "a wrong token": ("whoami", 401, {}, "HUB: does not take the token: make one at HUB/settings/tokens, then set HF_TOKEN or run `hf auth login`"),
    "no rights to create": ("create", 403, {}, "ada/tides: this token may not write there: use one that may, or push under a name of your own (as the test says)"),
    "no rights to commit": ("commit", 403, {}, "ada/tides: this token may not write there: use one that may, or push under a name of your own (as the test says)"),
    "a name taken a moment ago": ("create", 409, {}, "ada/tides: was created a moment ago; check it, then run the same command again (as the test says)"),
    "a commit by somebody else": ("commit", 412, {}, "ada/tides: was changed by somebody a moment ago: run the same command again (as the test says)"),
    "too many requests": ("whoami", 429, {"Retry-After": "7"}, "HUB: too many requests: run the same command again in 7 s; what was uploaded is not sent again"),
    "too many commits": ("commit", 429, {"RateLimit": '"api";r=0;t=55'}, "HUB: too many requests: run the same command again in 55 s; what was uploaded is not sent again (as the test says)"),
    "a server in trouble": ("commit", 503, {}, f"HUB: is in trouble (status 503): try again later; {AGAIN}"),
    "an answer that is none": ("commit", 418, {}, "HUB: refuses (status 418) (as the test says); nothing was published"),
    "a connection that breaks": ("commit", None, {}, f"HUB: cannot be reached: Server disconnected without sending a response.; {AGAIN}"),
}  # fmt: skip
"""What is asked, the status that answers it, with which headers, and the one line that is said."""


@pytest.mark.parametrize(("path", "status", "headers", "line"), FAULTS.values(), ids=FAULTS)
def test_a_fault_is_one_line_and_nothing_is_half_published(
    path: str, status: int | None, headers: dict[str, str], line: str, first: Said, selfinstruct: Say,
    logged_in: HubServer,
) -> None:  # fmt: skip
    logged_in.then(path, status, **headers)
    said = selfinstruct("push", "first", TIDES)
    assert said == (2, "", f"selfinstruct: {line.replace('HUB', logged_in.address)}\n")
    assert all(set(repo.files) == {".gitattributes"} for repo in logged_in.repos.values())
    assert selfinstruct("push", "first", TIDES).code == 0
    assert set(logged_in.repos[TIDES].files) == {".gitattributes", CARD, SHARD}


def test_what_was_uploaded_before_a_fault_is_not_sent_again(
    first: Said, selfinstruct: Say, logged_in: HubServer
) -> None:
    logged_in.then("/commit/", 500)
    assert selfinstruct("push", "first", TIDES).code == 2
    assert len(logged_in.asked("PUT /lfs/")) == 1
    assert selfinstruct("push", "first", TIDES).code == 0
    assert len(logged_in.asked("PUT /lfs/")) == 1


def test_a_failed_update_leaves_the_dataset_as_it_was(first: Said, selfinstruct: Say, logged_in: HubServer) -> None:
    selfinstruct("push", "first", TIDES)
    before = logged_in.repos[TIDES].files
    logged_in.then("/commit/", 500)
    assert selfinstruct("push", "first", TIDES, "--license", "mit").code == 2
    assert logged_in.repos[TIDES].files == before


def test_an_interrupted_push_publishes_nothing(first: Said, hub: HubServer, here: Path) -> None:
    hub.then("PUT /lfs/", HANG)
    command = [sys.executable, "-m", "selfinstruct", "push", "first", TIDES]
    environ = {**os.environ, "HF_ENDPOINT": hub.address, "HF_TOKEN": hub.token, "HF_HOME": str(here / "hf")}
    with subprocess.Popen(command, cwd=here, env={**environ, "HF_HUB_DISABLE_XET": "1"}) as running:
        try:
            until(lambda: bool(hub.asked("PUT")))
            running.send_signal(signal.SIGINT)
            assert running.wait(30) == 130
        finally:
            running.kill()
    assert [commit.message for commit in hub.repos[TIDES].commits] == ["initial commit"]
    assert process(here, hub, "-m", "selfinstruct", "push", "first", TIDES).err == f"{TIDES} updated\n"


@pytest.mark.parametrize("path", ["/preupload/", "/objects/batch", "PUT /lfs/", "/verify"])
def test_a_passing_fault_of_an_upload_is_tried_again(
    path: str, first: Said, selfinstruct: Say, logged_in: HubServer
) -> None:
    logged_in.then(path, 429, **{"Retry-After": "3"}).then(path, 502).then(path, None)
    assert selfinstruct("push", "first", TIDES).code == 0


def test_an_upload_that_keeps_failing_ends_in_one_line(first: Said, selfinstruct: Say, logged_in: HubServer) -> None:
    for _ in range(6):
        logged_in.then("PUT /lfs/", 500)
    said = selfinstruct("push", "first", TIDES)
    line = f"selfinstruct: {logged_in.address}: is in trouble (status 500): try again later; {AGAIN}"
    assert (said.code, said.err.splitlines()[-1]) == (2, line)


def test_a_network_that_is_gone_is_one_line(first: Said, selfinstruct: Say, logged_in: HubServer, here: Path) -> None:
    with HubServer() as gone:
        port = gone.port
    from huggingface_hub import constants

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(constants, "ENDPOINT", f"http://127.0.0.1:{port}")
        said = selfinstruct("push", "first", TIDES)
    assert said.code == 2
    assert said.err == (
        f"selfinstruct: http://127.0.0.1:{port}: cannot be reached: [Errno 111] Connection refused; {AGAIN}\n"
    )


def test_without_a_token_it_says_where_one_comes_from(
    first: Said, selfinstruct: Say, logged_in: HubServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("HF_TOKEN")
    line = f"{logged_in.address}: no token: set HF_TOKEN, or log in once with `hf auth login`"
    assert selfinstruct("push", "first", TIDES) == (2, "", f"selfinstruct: {line}\n")
    assert logged_in.requests == []


def test_the_stored_login_is_used(
    first: Said, selfinstruct: Say, logged_in: HubServer, here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("HF_TOKEN")
    (here / "token").write_text(f"{logged_in.token}\n")
    assert selfinstruct("push", "first", TIDES).code == 0


@pytest.mark.parametrize("token", ["hf_wrong", "hf_…"])
def test_a_token_that_the_hub_does_not_know_is_one_line(
    token: str, first: Said, selfinstruct: Say, logged_in: HubServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_TOKEN", token)
    said = selfinstruct("push", "first", TIDES)
    assert said.code == 2
    assert said.err.startswith(f"selfinstruct: {logged_in.address}: does not take the token: ")
    assert token not in said.err


def test_a_token_that_may_only_read_publishes_nothing(first: Said, selfinstruct: Say, logged_in: HubServer) -> None:
    logged_in.role = "read"
    assert "ada/tides: this token may not write there" in selfinstruct("push", "first", TIDES).err
    assert logged_in.repos == {}


def test_a_name_of_somebody_else_is_refused(first: Said, selfinstruct: Say, logged_in: HubServer) -> None:
    assert "bob/tides: this token may not write there" in selfinstruct("push", "first", "bob/tides").err
    logged_in.created("bob/waves")
    assert "bob/waves: this token may not write there" in selfinstruct("push", "first", "bob/waves").err


def test_a_licence_that_the_hub_does_not_know_is_refused_before_anything_is_made(
    first: Said, selfinstruct: Say, logged_in: HubServer
) -> None:
    said = selfinstruct("push", "first", TIDES, "--license", "apache")
    known = '"license" must be one of [apache-2.0, cc-by-4.0, mit, other]'
    assert said == (2, "", f"selfinstruct: {logged_in.address}: refuses the card: {known}; nothing was sent\n")
    assert logged_in.repos == {}


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        ("push first tides", "tides: has no owner; write USER/tides"),
        ("push second ada/tides", "outputs/second: no run here; runs under outputs: first"),
        ("push first ada/tides --format alpca", "unknown format 'alpca'; did you mean alpaca? known: alpaca, dolly, evol, jsonl, messages, prompt-completion, self-instruct, sharegpt, text"),
        ("push first ada/tides --license other",
         "--license other needs a name: add --license-name, and --license-link to its text"),
        ("card first --license mit --license-name Mine",
         "--license-name and --license-link go with --license other: add it, or leave them out"),
        ("card first --format alpca", "unknown format 'alpca'; did you mean alpaca? known: alpaca, dolly, evol, jsonl, messages, prompt-completion, self-instruct, sharegpt, text"),
    ],
)  # fmt: skip
def test_a_mistake_is_one_line(arguments: str, line: str, first: Said, selfinstruct: Say, logged_in: HubServer) -> None:
    assert selfinstruct(*arguments.split()) == (2, "", f"selfinstruct: {line}\n")
    assert not logged_in.asked("POST")


@pytest.mark.parametrize("name", ["ada/ti des", "ada/tides/2", "ada/-tides", "ada/ti--des", "ada/tides.git"])
def test_a_name_that_can_be_none_is_one_line(name: str, first: Said, selfinstruct: Say, logged_in: HubServer) -> None:
    said = selfinstruct("push", "first", name)
    assert (said.code, said.out, said.err.count("\n"), logged_in.requests) == (2, "", 1, [])
    assert name in said.err


def test_a_run_that_kept_nothing_is_not_pushed(here: Path, selfinstruct: Say, logged_in: HubServer) -> None:
    script = write(here, "poor.jsonl", ["Hm."] * 9)
    flags = ("--seeds", seeds(here), "--concurrency", "1", "--set", "patience=2", "--quiet", "--run", "poor")
    selfinstruct("generate", "--script", script, *flags)
    nothing = "outputs/poor: nothing is kept yet, so there is nothing to export"
    assert selfinstruct("push", "poor", TIDES) == (2, "", f"selfinstruct: {nothing}\n")
    assert logged_in.repos == {}


def test_the_token_is_never_written_down(first: Said, selfinstruct: Say, logged_in: HubServer, here: Path) -> None:
    said = selfinstruct("push", "first", TIDES)
    files = [path for path in here.rglob("*") if path.is_file()]
    assert files
    assert not [path for path in files if logged_in.token.encode() in path.read_bytes()]
    assert not [name for name, content in logged_in.repos[TIDES].files.items() if logged_in.token.encode() in content]
    assert logged_in.token not in said.out + said.err
