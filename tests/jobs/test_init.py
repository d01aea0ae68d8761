"""`init`: what it finds, what it asks, and that whatever it writes passes check and plan."""

import csv
import gzip
import json
import os
import pty
import random
import re
import select
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from typer.testing import CliRunner

from jobs.cli import app
from jobs.estimate import ASSUMED_FLOPS_PER_GPU
from jobs.facts import gather
from jobs.found import look
from jobs.found_rows import rows_at, sets_at
from jobs.init import Wishes, init
from jobs.load import load
from jobs.machine import Machine, gpu_memories
from jobs.plan import resolve
from jobs.planned import Plan
from jobs.rules import RESERVED_TOKENS
from jobs.sized import characters_for
from jobs.stages import PretrainStage, TokenizerStage
from llm.errors import DataError, SpecError
from llm.filesystem import find

ROOT = Path(__file__).parents[2]
WORDS = ["the", "quick", "brown", "fox", "jumps", "over", "dogs", "while", "rain", "falls"]
HAN = "天地玄黄宇宙洪荒日月盈昃辰宿列张寒来暑往秋收冬藏云腾致雨露结为霜金生丽水玉出昆冈"

runner = CliRunner()


def prose(size: int, words: list[str] = WORDS, gap: str = " ") -> str:
    """Paragraphs of made-up sentences."""
    draw = random.Random(3)
    paragraphs: list[str] = []
    while sum(map(len, paragraphs)) < size:
        paragraphs.append(gap.join(draw.choices(words, k=40)) + ".")
    return "\n\n".join(paragraphs) + "\n"


def rows(path: Path, made: list[dict]) -> Path:
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in made))
    return path


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def made(*text: str, **wishes: object) -> tuple[Plan, str]:
    """The plan and the file of `init --yes`."""
    init(Wishes(text=tuple(text), name="made", yes=True, force=True, **wishes))  # type: ignore[arg-type]
    spec = load("made.yaml")
    return resolve(spec, gather(spec)), Path("made.yaml").read_text()


def pretraining(plan: Plan) -> PretrainStage:
    stage = plan.by_name["pretrain"].stage
    assert isinstance(stage, PretrainStage)
    return stage


# -- what is found ---------------------------------------------------------------------------------


def test_the_key_of_a_text_is_the_usual_one_or_the_longest(here: Path) -> None:
    rows(here / "a.jsonl", [{"id": "x" * 900, "text": prose(200)}])
    rows(here / "b.jsonl", [{"titel": "kurz", "inhalt": prose(200)}])
    with (here / "c.csv").open("w", newline="") as file:
        csv.writer(file).writerows([["name", "story"], ["a", prose(300)]])
    keys = {source.kind + source.text for source in look([str(here)]).sources}
    assert keys == {"jsonltext", "jsonlinhalt", "csvstory"}


def test_an_encoding_is_found_and_several_are_detected(here: Path) -> None:
    text = prose(4000, list(HAN), "").replace(".", "的是不了在人有")
    (here / "one.txt").write_bytes(text.encode("gb18030"))
    assert look([str(here)]).sources[0].encoding == "gb18030"
    (here / "two.txt").write_text(text)
    assert look([str(here)]).sources[0].encoding == "detect"


def test_size_and_number_of_documents_are_about_right(here: Path) -> None:
    documents = [{"text": prose(2000)[:1500], "note": "n" * 300} for _ in range(3000)]
    path = rows(here / "many.jsonl", documents)
    packed = here / "packed.jsonl.gz"
    packed.write_bytes(gzip.compress(path.read_bytes()))
    for one in (path, packed):
        [source] = look([str(one)]).sources
        assert source.count == pytest.approx(3000, rel=0.1)
        assert source.bytes == pytest.approx(4_500_000, rel=0.1)


def test_languages_are_told_by_share(here: Path) -> None:
    (here / "en.txt").write_text(prose(6000))
    zh = "我们今天在学校里学习中文，老师说这本书很有意思，大家都喜欢读。\n\n" * 60
    (here / "zh.txt").write_text(zh)
    found = look([str(here)]).languages
    assert set(found) >= {"en", "zh"} and sum(found.values()) == pytest.approx(1)


def test_what_is_no_text_is_left_out_and_named_and_never_read(here: Path) -> None:
    (here / "good.txt").write_text(prose(3000))
    (here / "bad.txt").write_bytes(bytes(range(256)) * 50)
    (here / "a.png").write_bytes(b"\x89PNG\r\n\x1a\n" + bytes(900))
    found = look([str(here)])
    assert found.left_out == ("1 file .png: not text", "1 file .txt: not text")
    assert found.sources[0].shards == (str(here / "good.txt"),)


def test_markdown_is_read_by_a_glob(here: Path) -> None:
    (here / "docs").mkdir()
    (here / "docs" / "a.md").write_text(prose(3000))
    _, text = made("docs")
    assert 'shards: "docs/**/*.md"\n  format: txt\n' in text


CHATS = {
    "messages": {"messages": [{"role": "user", "content": "Hi?"}, {"role": "bot", "content": "y"}]},
    "sharegpt": {
        "conversations": [{"from": "human", "value": "a?"}, {"from": "gpt", "value": "b"}]
    },
    "alpaca": {"instruction": "Say it", "input": "", "output": "it"},
    "question_answer": {"question": "Why?", "answer": "So"},
}
COMPARED = {
    "pairs": {"prompt": "Hi?", "chosen": "a", "rejected": "b"},
    "transcripts": {
        "chosen": "\n\nHuman: q\n\nAssistant: a",
        "rejected": "\n\nHuman: q\n\nAssistant: b",
    },
    "choice": {"prompt": "q", "first": "a", "second": "b", "preference": 2},
    "ranking": {"prompt": "q", "answers": ["a", "b", "c"]},
    "ratings": {"prompt": "q", "answer": "a", "rating": 3},
}


@pytest.mark.parametrize(("schema", "row"), [*CHATS.items(), *COMPARED.items()])
def test_the_schema_of_rows_is_recognised(schema: str, row: dict, here: Path) -> None:
    several = [row, {**row, "answer": "better", "rating": 5}] if schema == "ratings" else [row] * 3
    found = rows_at(find(str(rows(here / "rows.jsonl", several))).files[0])
    assert found and (found.schema, found.columns) == (schema, {})
    assert found.compares == (schema in COMPARED)


def test_columns_with_other_names_are_mapped(here: Path) -> None:
    rows(here / "qa.jsonl", [{"prompt": "Why?", "completion": "So"}])
    rows(here / "pairs.jsonl", [{"question": "q", "response_j": "a", "response_k": "b"}])
    [talks] = sets_at("qa.jsonl", compares=False)
    [pairs] = sets_at("pairs.jsonl", compares=True)
    assert (talks.schema, talks.columns) == (
        "question_answer",
        {"question": "prompt", "answer": "completion"},
    )
    assert pairs.columns == {"prompt": "question", "chosen": "response_j", "rejected": "response_k"}
    with pytest.raises(DataError, match=r"qa\.jsonl: holds no comparisons: only conversations are"):
        sets_at("qa.jsonl", compares=True)


# -- what is written -------------------------------------------------------------------------------


def test_conversations_that_lie_with_the_text_are_not_text(here: Path) -> None:
    (here / "all").mkdir()
    (here / "all" / "a.jsonl").write_text(json.dumps({"text": prose(50_000)}) + "\n")
    rows(here / "all" / "talks.jsonl", [CHATS["alpaca"]] * 9)
    rows(here / "all" / "pairs.jsonl", [COMPARED["pairs"]] * 9)
    plan, text = made("all")  # for: chat, since there are conversations
    assert [one.name for one in plan.stages] == [
        *("tokenizer", "pretrain", "sft", "dpo", "generate", "serve")
    ]
    assert "shards: all/a.jsonl\n" in text
    assert "- {shards: all/talks.jsonl, schema: alpaca}" in text
    assert "- {shards: all/pairs.jsonl, schema: pairs}" in text


def test_a_messy_text_is_cleaned_first_and_the_reason_is_said(here: Path) -> None:
    (here / "in").mkdir()
    (here / "in" / "a.jsonl").write_text(json.dumps({"text": prose(40_000)}) + "\n{broken\n")
    plan, text = made("in")
    assert plan.stages[0].name == "corpus"
    assert "# records that cannot be read, such as " in text
    assert "data:\n  shards" not in text


@pytest.mark.parametrize("minutes", ["5", "3h"])
def test_the_plan_takes_about_as_long_as_was_said(minutes: str, here: Path) -> None:
    (here / "a.txt").write_text(prose(1_000_000))
    plan, _ = made("a.txt", minutes=minutes)
    wanted = float(minutes.removesuffix("h")) * (3600 if minutes.endswith("h") else 60)
    estimate = plan.by_name["pretrain"].estimate
    assert estimate and 0.4 * wanted < estimate.seconds <= wanted


def test_more_time_makes_a_larger_model_and_more_text_more_tokens(here: Path) -> None:
    (here / "a.txt").write_text(prose(1_000_000))
    (here / "b.txt").write_text(prose(100_000))
    long, short = (pretraining(made("a.txt", minutes=m)[0]) for m in ("10h", "5"))
    assert long.model.depth > short.model.depth
    small = pretraining(made("b.txt", minutes="10h")[0])
    assert small.tokens < long.tokens and small.model.depth < long.model.depth


def test_chinese_gets_room_for_its_characters(here: Path) -> None:
    draw = random.Random(1)
    signs = [chr(draw.randrange(0x4E00, 0x5E00)) for _ in range(3000)]
    (here / "zh.txt").write_text(prose(60_000, signs, ""))
    plan, text = made("zh.txt")
    vocab = plan.by_name["tokenizer"].vocab_size
    assert vocab and vocab > 3000 and vocab % 256 == 0
    assert re.search(r'prompt: "[\u4e00-\u5e00]{4}"', text)


def test_too_little_text_for_longer_tokens_is_cut_into_characters(here: Path) -> None:
    (here / "verse.txt").write_text(prose(2000))
    plan, _ = made("verse.txt")
    tokenizer = plan.by_name["tokenizer"].stage
    assert isinstance(tokenizer, TokenizerStage) and tokenizer.model == "char"


@pytest.mark.parametrize("purpose", ["text", "fill", "chat"])
def test_pydoc_is_enough_for_every_purpose(purpose: str) -> None:
    plan, text = made("pydoc://", purpose=purpose)
    last = {"text": "pretrain", "fill": "pretrain", "chat": "dpo"}[purpose]
    assert plan.by_name["generate"].written.from_ == last  # type: ignore[union-attr]
    assert ("[MASK]" in text) == (purpose == "fill")


def test_names_with_anything_in_them_are_quoted(here: Path) -> None:
    folder = here / '蛋头: "先生" #1 {x}'
    folder.mkdir()
    (folder / "a.txt").write_text(prose(3000))
    plan, _ = made(str(folder))
    assert plan.spec.data and plan.spec.data.shards == (str(folder),)


def test_gpus_get_a_worker_each_and_a_larger_model(
    here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (here / "a.txt").write_text(prose(1_000_000))
    small = pretraining(made("a.txt", minutes="5")[0])
    gpus = Machine(32, 2 * 80 << 30, 2, 10**12, 2 * ASSUMED_FLOPS_PER_GPU, False)
    monkeypatch.setattr("jobs.init.this_machine", lambda storage: gpus)
    plan, text = made("a.txt", minutes="5")
    assert "workers: 2" in text and "gpus_per_worker: 1" in text
    assert pretraining(plan).model.depth > small.model.depth
    estimate = plan.by_name["pretrain"].estimate
    assert estimate and estimate.speed == "if a GPU does 50 TFLOP/s"


def test_gpus_are_asked_for_their_memory(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tool = here / "nvidia-smi"
    tool.write_text("#!/bin/sh\nprintf '81559\\n81559\\n'\n")
    tool.chmod(0o755)
    monkeypatch.setenv("PATH", str(here), prepend=os.pathsep)
    assert gpu_memories() == [81559 << 20] * 2


# -- real data -------------------------------------------------------------------------------------

PLACES = [
    ("a_pretrain/en", "fill"),
    ("a_pretrain/zh", "chat"),
    ("a_pretrain/en/c4_demo.jsonl", "text"),
    ("a_pretrain/en/wiki_demo.txt", "text"),
    ("a_pretrain/zh/poetry_tang.jsonl.gz", "text"),
    ("a_pretrain/zh/xiyouji.txt", "fill"),
    ("b_nursery", "chat"),
    ("g_hostile", "text"),
    ("g_hostile/blns.txt", "text"),
    ("g_hostile/warc", "text"),
]


@pytest.mark.parametrize(("place", "purpose"), PLACES)
def test_specs_for_real_data_pass_check_and_plan(
    place: str, purpose: str, shared_data: Path
) -> None:
    chats = (str(shared_data / "c_sft" / "alpaca_zh_demo.json"),)
    compared = (str(shared_data / "d_pref" / "dpo_zh_demo.json"),)
    sets = {"chats": chats, "comparisons": compared} if purpose == "chat" else {}
    plan, _ = made(str(shared_data / place), purpose=purpose, minutes="5", **sets)
    assert plan.by_name["pretrain"].kind == "pretrain"


@pytest.mark.parametrize("name", ["poetry_tang.jsonl.gz", "xiyouji.txt", "tech_docs_zh.jsonl.gz"])
def test_the_vocabulary_has_room_for_the_characters_of_all_the_text(
    name: str, shared_data: Path
) -> None:
    path = shared_data / "a_pretrain" / "zh" / name
    plan, _ = made(str(path))
    tokenizer = plan.by_name["tokenizer"].stage
    assert isinstance(tokenizer, TokenizerStage)
    text = path.read_text() if name.endswith("txt") else gzip.decompress(path.read_bytes()).decode()
    documents = (
        [text]
        if name.endswith("txt")
        else [json.loads(row)["text"] for row in text.split("\n") if row]
    )
    needed = characters_for(documents, tokenizer.coverage)
    assert needed + 256 + RESERVED_TOKENS < tokenizer.vocab_size


def test_schemas_of_real_rows_are_recognised(shared_data: Path) -> None:
    found = {
        Path(one.path).name: (one.schema, one.rows)
        for folder, compares in (("c_sft", False), ("d_pref", True))
        for one in sets_at(str(shared_data / folder), compares)
    }
    assert found["alpaca_en_demo.json"] == ("alpaca", 999)
    assert found["gsm8k_train.jsonl.gz"] == ("question_answer", 7473)
    assert found["seed_tasks_en_175.jsonl"] == ("alpaca", 175)
    assert found["hh_harmless_dev.jsonl.gz"] == ("transcripts", 1650)
    assert found["dpo_zh_demo.json"][0] == "pairs"
    assert found["alpaca_eval_pairs_dev.jsonl.gz"][0] == "choice"
    assert "llamafactory_dataset_info.json" not in found


# -- errors, one line each -------------------------------------------------------------------------


def test_what_gives_no_text_is_said_in_one_line(here: Path) -> None:
    (here / "empty").mkdir()
    (here / "none").mkdir()
    (here / "empty" / "a.txt").touch()
    (here / "blank.txt").write_text(" \n\n")
    (here / "binary.bin").write_bytes(bytes(9000))
    rows(here / "numbers.jsonl", [{"a": 1}])
    for place, why in {
        "nowhere": "there is no such file or folder",
        "none": "no file is there",
        "empty": "the file is empty",
        "blank.txt": "nothing but white space",
        "binary.bin": "not text",
        "numbers.jsonl": "no text under its keys a",
    }.items():
        done = runner.invoke(app, ["init", place, "--yes"])
        assert done.exit_code == 1
        assert why in done.stderr and done.stderr.count("\n") == 1, done.stderr
    assert not list(here.glob("*.yaml"))


def test_a_file_that_is_there_stays_unless_force_is_said(here: Path) -> None:
    (here / "a.txt").write_text(prose(3000))
    (here / "mine.yaml").write_text("precious")
    command = ["init", "a.txt", "--yes", "--name", "mine"]
    refused = runner.invoke(app, command)
    assert (refused.exit_code, (here / "mine.yaml").read_text()) == (2, "precious")
    assert "mine.yaml: is there already" in refused.stderr and "--force" in refused.stderr
    forced = runner.invoke(app, [*command, "--force"])
    assert forced.exit_code == 0 and load("mine.yaml").name == "mine"
    assert forced.stdout.endswith(
        "Next:\n  python -m jobs plan mine.yaml\n  python -m jobs run mine.yaml\n"
    )


def test_without_a_terminal_it_says_which_options_to_give(here: Path) -> None:
    done = runner.invoke(app, ["init", "--minutes", "5"])
    assert done.exit_code == 2
    assert "--text FOLDER (or pydoc://) --for text|fill|chat --name NAME, or --yes" in done.stderr
    assert "--minutes" not in done.stderr


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"minutes": "soon"}, "--minutes: 'soon'"),
        ({"minutes": "0"}, "--minutes: '0'"),
        ({"minutes": "nan"}, "--minutes: 'nan'"),
        ({"purpose": "dance"}, "--for: 'dance' is not allowed; give one of text, fill, chat"),
        ({"purpose": "chat"}, "--chats: a model that answers needs conversations"),
    ],
)
def test_an_option_that_will_not_do_is_named(options: dict, said: str, here: Path) -> None:
    (here / "a.txt").write_text(prose(3000))
    with pytest.raises(SpecError, match=re.escape(said)):
        made("a.txt", **options)


# -- a terminal ------------------------------------------------------------------------------------


def on_its_own() -> None:
    """A session of its own that hears Ctrl-C, which is ignored in the background of a shell."""
    os.setsid()
    signal.signal(signal.SIGINT, signal.SIG_DFL)


class Typing:
    """`init` on a terminal of its own, and somebody who types."""

    def __init__(self, folder: Path, *arguments: str) -> None:
        self.master, terminal = pty.openpty()
        environment = {**os.environ, "PYTHONPATH": str(ROOT), "TERM": "dumb", "NO_COLOR": "1"}
        self.process = subprocess.Popen(
            [sys.executable, "-m", "jobs", "init", *arguments],
            cwd=folder,
            env=environment,
            stdin=terminal,
            stdout=terminal,
            stderr=terminal,
            preexec_fn=on_its_own,
        )
        os.close(terminal)
        self.seen = ""

    def until(self, text: str) -> None:
        """Read what is shown until a text is in it that was not before."""
        begun = time.monotonic()
        while text not in self.seen:
            assert time.monotonic() - begun < 100, self.seen
            self.seen += self.read()
        self.seen = self.seen.partition(text)[2]

    def read(self) -> str:
        try:
            ready, _, _ = select.select([self.master], [], [], 1.0)
            return os.read(self.master, 4096).decode(errors="replace") if ready else ""
        except OSError:  # the other end is closed
            return ""

    def type(self, text: str) -> None:
        os.write(self.master, text.encode())


def test_questions_are_asked_again_until_the_answer_will_do(here: Path) -> None:
    (here / "texts").mkdir()
    (here / "texts" / "a.txt").write_text(prose(3000))
    typing = Typing(here)
    typing.until("1. Where is the text?")
    typing.until("[texts] ")
    typing.type("nowhere\n")
    typing.until("there is no such file or folder")
    typing.until("[texts] ")
    typing.type("\n")
    typing.until("2. What shall it do?")
    typing.until("[text] ")
    typing.type("\n")
    typing.until("3. How long may it take?")
    typing.until("[20] ")
    typing.type("2\n")
    typing.until("4. What is it called?")
    typing.until("[texts] ")
    typing.type("mine\n")
    typing.until("mine.yaml is written and valid")
    assert typing.process.wait(100) == 0
    assert load(str(here / "mine.yaml")).name == "mine"


def test_ctrl_c_in_the_questions_writes_nothing(here: Path) -> None:
    (here / "a.txt").write_text(prose(3000))
    typing = Typing(here, "a.txt")
    typing.until("What shall it do?")
    typing.until("[text] ")
    typing.process.send_signal(signal.SIGINT)
    typing.until("nothing was written")
    assert typing.process.wait(100) == 130
    assert sorted(path.name for path in here.iterdir()) == ["a.txt"]
