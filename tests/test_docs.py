"""Every block and every command of README.md and jobs/docs is tried; none is left out.

A page is played from top to bottom in a folder of its own (`stage`), which has the specs, some
text, conversations and comparisons. A YAML block is checked as a spec, a fragment inside of one;
whose first line is `# NAME` is also a file that later commands use. A Python block is executed; it
asks a server without a model. A command is one of

- what answers here: it is run, exits with 0 (or with what its comment says: `# exit code 2`), and
  prints what a console block shows, line by line (`...` stands for anything);
- what takes minutes or a cluster: its options are parsed, its spec is checked with its overrides,
  and tests/tried.py names the test that does the same at toy size;
- a test, a benchmark or a target of make: it exists;
- somebody else's program (OUTSIDE): the files of ours that it is given exist.

A command that is none of them fails with its file and line. Commands inside of sentences are held
to the same, but for running them.
"""

import importlib.util
import json
import random
import re
import shlex
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import typer
import yaml
from typer.testing import CliRunner

from deploy.app import make_app
from deploy.config import ServeConfig
from deploy.keys import KeyRing
from deploy.protocol import ModelCard
from jobs.cli import app
from jobs.load import load
from jobs.spec import SpecFile
from tests.deploy.serving import served
from tests.deploy.stub import Stub
from tests.markdown import PAGES, ROOT, Block, Command, blocks, commands, named, spans
from tests.tasks import sentence
from tests.tried import OUTSIDE, TRIED_BY

KEY = "hk-" + 40 * "a"

PROGRAM = typer.main.get_command(app)

PLAYED = "jobs/docs/recipes/own-data.md"
"""The page whose run is real, at toy size."""

SMALL = [
    "storage=runs",
    "cluster.workers=1",
    "cluster.cpus_per_worker=1",
    "stages.tokenizer.vocab_size=300",
    "stages.pretrain.model={depth: 1, width: 32, heads: 2, context: 64}",
    "stages.pretrain.batch=4",
    "stages.pretrain.steps=6",
    "stages.pretrain.optim.warmup=1",
    "stages.sft.epochs=1",
    "stages.generate.sampling.max_tokens=8",
]
"""Laid over its spec."""

ANSWERS = {
    *("check", "diff", "doctor", "init", "key", "migrate", "plan", "render", "schema", "version")
}
"""Commands that need no model."""

OF_A_RUN = {"run", "generate", "chat", "top", "audit", "report", "lineage"}
"""Commands that are run for the page that is played."""


# -- blocks ----------------------------------------------------------------------------------------


@pytest.fixture
def stage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder as somebody has it who follows a page: the checkout's files, and data."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HUMPTY_API_KEY", KEY)
    for folder in ("jobs", "jobs/tiny", "deploy"):
        (tmp_path / folder).mkdir()
        for path in (ROOT / folder).iterdir():
            if path.is_file() and path.suffix != ".py":
                shutil.copy(path, tmp_path / folder)
    write_data(tmp_path)
    return tmp_path


def write_data(folder: Path) -> None:
    """A few paragraphs, conversations and comparisons, under the names that the pages use."""
    source = random.Random(7)
    for name, begin in (("text", "The king says"), ("chinese", "话说")):
        (folder / name).mkdir()
        texts = [f"{begin} {sentence(source)}." for _ in range(400)]
        (folder / name / "a.txt").write_text("\n\n".join(texts))
    chats = [{"question": f"Who sat {n} times?", "answer": "Humpty"} for n in range(40)]
    pairs = [{"prompt": f"Who sat {n}?", "chosen": "Humpty", "rejected": "x"} for n in range(40)]
    for name, rows in (("chats", chats), ("pairs", pairs)):
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))


@pytest.mark.parametrize("page", [page for page in PAGES if named(page) != PLAYED], ids=named)
def test_what_a_page_shows_works(page: Path, stage: Path) -> None:
    for block in blocks(page):
        play(block, [])


@pytest.mark.ray
@pytest.mark.slow
def test_a_model_of_ones_own_text_is_made_as_the_page_says(ray_cluster: None, stage: Path) -> None:
    for block in blocks(ROOT / PLAYED):
        play(block, SMALL)


def play(block: Block, small: list[str]) -> None:
    """One block of a page; `small` is laid over the spec of runs that are real."""
    match block.language:
        case "sh" | "console":
            for command in commands(block):
                play_command(command, small)
        case "yaml":
            play_yaml(block)
        case "python":
            play_python(block)
        case "text":
            pass
        case other:
            pytest.fail(f"{block.place}: a block of {other!r} is tried by nothing")


# -- YAML and Python -------------------------------------------------------------------------------

AROUND = """
name: around
data: {shards: text}
stages:
  corpus: {kind: corpus, sources: {a: {shards: text}}}
  tokenizer: {kind: tokenizer}
  pretrain: {kind: pretrain, tokenizer: tokenizer}
  sft: {kind: sft, from: pretrain, data: [{shards: chats.jsonl}]}
  reward: {kind: reward, from: sft, data: [{shards: pairs.jsonl}]}
  ppo: {kind: ppo, from: sft, reward: reward, data: [{shards: chats.jsonl}]}
"""
"""What a fragment stands in; its own stages and keys win."""

TOP = set(SpecFile.__dataclass_fields__)


def play_yaml(block: Block) -> None:
    """A whole spec is loaded as it is; a fragment, stages or keys of the top, inside another."""
    written = yaml.safe_load(block.text)
    path = Path(title(block) or "block.yaml")
    if {"name", "stages"} <= written.keys():
        path.write_text(block.text)
    else:
        around = yaml.safe_load(AROUND)
        inside = written if written.keys() <= TOP else {"stages": written}
        built_on = around["stages"] if "stages" in inside else {"tokenizer": {"kind": "tokenizer"}}
        stages = {**built_on, **inside.pop("stages", {})}
        path.write_text(yaml.safe_dump({**around, **inside, "stages": stages}))
    try:
        load(str(path))
    except Exception as error:
        pytest.fail(f"{block.place}: {error}")


def play_python(block: Block) -> None:
    """Executed; the server that it asks has no model but answers as one."""
    if name := title(block):
        Path(name).write_text(block.text)
    with answering() as url:
        text = block.text.replace("http://127.0.0.1:8000", url)
        exec(compile(text, block.place, "exec"), {"__name__": "page"})


@contextmanager
def answering() -> Iterator[str]:
    """The URL of a server with the names of our models and none of them."""
    cards = [ModelCard(name, "a1b2c3", 0, 256, True, 320) for name in ("ppo", "sft")]
    with served(make_app(Stub(*cards), ServeConfig(), keys=KeyRing.of_plain(KEY))) as url:
        yield url


def title(block: Block) -> str | None:
    """The file that a block is: `# NAME.yaml` in its first line."""
    found = re.match(r"# (\S+\.(?:yaml|py))\s", block.text)
    return found[1] if found else None


# -- commands --------------------------------------------------------------------------------------


def play_command(command: Command, small: list[str]) -> None:
    """Run it, or find who does."""
    words, target = words_of(command)
    match words:
        case ["python", "-m", "jobs", verb, *arguments]:
            assert_parses(command, [verb, *arguments])
            if small and verb in OF_A_RUN | ANSWERS:
                extra = small if arguments and arguments[0].startswith("mine.yaml") else []
                answered(command, [verb, *arguments, *extra], target)
            elif verb in ANSWERS and not tried_by(words[3:]):
                answered(command, [verb, *arguments], target)
            else:
                checked(command, arguments)
                assert_tried(command, words[3:])
        case ["curl", *arguments]:
            asked(command, arguments)
        case _:
            look_up(command, words)


def words_of(command: Command) -> tuple[list[str], str | None]:
    """The words of a command and the file that its output goes to."""
    words = shlex.split(command.text, comments=True)
    while re.match(r"[A-Z_]+=", words[0]):
        words.pop(0)
    words[0] = words[0].removeprefix(".venv/bin/")
    if words[0] == "humpty":
        words[:1] = ["python", "-m", "jobs"]
    if len(words) > 2 and words[-2] == ">":
        return words[:-2], words[-1]
    return words, None


def assert_parses(command: Command, words: list[str]) -> None:
    """The verb exists, with these options."""
    if not words or words[0].startswith("-"):
        return
    assert words[0] in PROGRAM.commands, f"{command.place}: no command is called {words[0]}"
    try:
        PROGRAM.commands[words[0]].make_context(words[0], list(words[1:]))
    except Exception as error:
        if "--help" not in words:
            pytest.fail(f"{command.place}: {error}")


def answered(command: Command, words: list[str], target: str | None) -> None:
    """It ends as the page says, and prints what the page shows."""
    environment = {"COLUMNS": "80", "NO_COLOR": "1"}
    done = CliRunner().invoke(app, words, env=environment, input="Who sat 3 times?\n")
    found = re.search(r"# exit code (\d)", command.text)
    wanted = int(found[1]) if found else 0
    trace = repr(done.exception) if done.exception else ""
    assert done.exit_code == wanted, f"{command.place}: {done.output}{trace}"
    if target:
        Path(target).parent.mkdir(exist_ok=True)
        Path(target).write_text(done.output)
    printed = [line.rstrip() for line in done.output.splitlines() if line.strip()]
    for line in filter(str.strip, command.output):
        pattern = ".*".join(map(re.escape, line.rstrip().split("...")))
        fits = any(re.fullmatch(pattern, one) for one in printed)
        assert fits, f"{command.place}: {line!r} is not printed, but\n{done.output}"


def checked(command: Command, arguments: list[str]) -> None:
    """A spec of ours holds together with the overrides behind it."""
    specs = [one for one in arguments if re.fullmatch(r"(jobs/(tiny/)?)?[\w-]+\.yaml", one)]
    specs = [one for one in specs if Path(one).exists()]
    if specs:
        overrides = [one for one in arguments if re.match(r"[a-z_]+(\.[\w-]+)*=", one)]
        try:
            load(specs[0], overrides)
        except Exception as error:
            pytest.fail(f"{command.place}: {error}")


def tried_by(words: list[str]) -> str | None:
    """The test of a command, by as many of its words as are known."""
    if words[0] == "doctor" and "--address" in words:
        return TRIED_BY["doctor --address"]
    keys = (" ".join(words[:count]) for count in (2, 1))
    return next((TRIED_BY[key] for key in keys if key in TRIED_BY), None)


def assert_tried(command: Command, words: list[str]) -> None:
    """A test does the same."""
    test = tried_by(words)
    assert test, f"{command.place}: `{' '.join(words)}` is run by no test; see TRIED_BY"
    assert_exists(command, test)


@pytest.mark.parametrize("test", sorted(set(TRIED_BY.values())))
def test_a_test_that_tries_a_command_exists(test: str) -> None:
    assert_exists(Command("TRIED_BY", ""), test)


def assert_exists(command: Command, test: str) -> None:
    """A test, or a file of them, is there."""
    file, _, name = test.partition("::")
    assert (ROOT / file).exists(), f"{command.place}: there is no {file}"
    if name:
        source = (ROOT / file).read_text()
        assert f"def {name}(" in source, f"{command.place}: {file} has no {name}"


def asked(command: Command, arguments: list[str]) -> None:
    """What curl asks our server, which answers."""
    import httpx2 as httpx

    url = next(one for one in arguments if one.startswith("http"))
    headers = dict(
        arguments[at + 1].replace("$HUMPTY_API_KEY", KEY).split(": ", 1)
        for at, one in enumerate(arguments)
        if one == "-H"
    )
    body = arguments[arguments.index("-d") + 1] if "-d" in arguments else None
    with answering() as here:
        to = url.replace("http://127.0.0.1:8000", here)
        reply = httpx.request("POST" if body else "GET", to, headers=headers, content=body)
    assert reply.status_code == 200, f"{command.place}: {reply.text}"


def look_up(command: Command, words: list[str]) -> None:
    """What is not run here is there, and so are the files that it is given."""
    place = command.place
    match words:
        case ["make", name, *_]:
            assert re.search(rf"(?m)^{name}:", (ROOT / "Makefile").read_text()), place
        case ["python", "-m", "pytest", *arguments] | ["pytest", *arguments]:
            for one in arguments:
                if "/" in one:
                    assert_exists(command, one)
        case ["python", "-m", "tests.bench", *names]:
            for name in names:
                assert (ROOT / f"tests/bench/{name}.py").exists(), f"{place}: no benchmark {name}"
        case ["python", "-m", module, *_]:
            assert importlib.util.find_spec(module), f"{place}: no module {module}"
        case [program, *arguments] if program in OUTSIDE | {"torchrun"}:
            if program == "torchrun" or " ".join(words[:2]) in TRIED_BY:
                assert_tried(command, words)
            if program in ("ray", "sbatch") and "jobs/" in command.text:
                checked(command, arguments[1:])
            for one in filter(is_ours, arguments):
                assert Path(one).exists(), f"{place}: there is no {one}"
        case _:
            pytest.fail(f"{place}: `{' '.join(words)}` is in no class of commands")


LATER = ("serve.yaml", "manifests/rayservice.yaml")
"""Written once there is a model: tests/jobs/test_serving.py, tests/jobs/test_render.py."""


def is_ours(argument: str) -> bool:
    """Whether an argument is a file of the checkout, or one that an earlier command has written."""
    return argument.endswith((".yaml", ".sh", "Dockerfile")) and argument not in LATER


# -- commands in sentences -------------------------------------------------------------------------

TOLD = re.compile(r"(?:[A-Z_]+=\S+ )?(?:\.venv/bin/)?python -m \S+.*|make \w+")


def told() -> Iterator[Command]:
    """Every command in inline code."""
    for page in PAGES:
        for line, span in spans(page):
            if TOLD.fullmatch(span):
                yield Command(f"{named(page)}:{line}", span)


@pytest.mark.parametrize("command", list(told()), ids=lambda one: one.place)
def test_a_command_in_a_sentence_can_be_given(command: Command, stage: Path) -> None:
    words, _ = words_of(command)
    match words:
        case ["python", "-m", "jobs", verb]:
            assert verb.startswith("-") or verb in PROGRAM.commands, command.place
        case ["python", "-m", "jobs", *rest]:
            assert_parses(command, rest)
            checked(command, rest)
        case _:
            look_up(command, words)
