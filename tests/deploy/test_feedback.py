"""The feedback store: nothing lost or doubled, whatever falls; training reads it as it is."""

import json
import os
import random
import signal
import subprocess
import sys
import threading
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cluster.examples import ExampleSource, Group, Writer
from deploy.feedback import FeedbackConflict, FeedbackFull, FeedbackStore
from deploy.judgements import JUDGEMENT, objection
from llm.align_config import ChatDataConfig, PreferenceDataConfig
from llm.chat import Turn
from llm.config import TokenizerConfig
from llm.conversations import read_conversations
from llm.errors import DataError
from llm.rankings import Ranking, read_rankings
from llm.rows import row_units
from llm.tokenizer_trainer import train as train_tokenizer
from tests.conftest import ROOT
from tests.tasks import WORDS

ASKED = [{"role": "user", "content": "Hi"}]

HI = (Turn("user", "Hi"),)


def said(kind: str, id: str, **fields: Any) -> Any:
    """A judgement as the page sends it, read as the server reads it."""
    common = {"consent": True, "model": "chat", "artifact": "a1", "prompt": ASKED}
    return JUDGEMENT.validate_json(json.dumps({"kind": kind, "id": id, **common, **fields}))


def rating(id: str, answer: str, value: int, **fields: Any) -> Any:
    return said("rating", id, answer=answer, rating=value, **fields)


def withdrawal(id: str, *forget: str) -> Any:
    return JUDGEMENT.validate_json(json.dumps({"kind": "withdrawal", "id": id, "forget": forget}))


@pytest.fixture
def store(tmp_path: Path) -> Iterator[FeedbackStore]:
    opened = FeedbackStore(tmp_path / "feedback")
    yield opened
    opened.close()


def rows(store: FeedbackStore, folder: str) -> list[dict[str, Any]]:
    """Everything in a folder that training reads."""
    files = sorted((store.folder / folder).glob("*.jsonl"))
    return [json.loads(line) for path in files for line in path.read_text().splitlines()]


def ids(folder: Path) -> list[str]:
    """The ids in the journal, in order."""
    return [json.loads(line)["id"] for line in (folder / "journal.jsonl").read_bytes().splitlines()]


def reopened(store: FeedbackStore) -> FeedbackStore:
    """The same folder, opened by the next process."""
    store.close()
    store.__init__(store.folder)  # type: ignore[misc]
    return store


def rankings(folder: Path, schema: Any) -> list[Ranking]:
    """What the reward stage makes of a folder."""
    config = PreferenceDataConfig(shards=(str(folder),), schema=schema)
    return [one for unit in row_units(config) for one in read_rankings(unit, config)]


# -- what training reads ---------------------------------------------------------------------------


def test_a_ranking_is_read_as_one(store: FeedbackStore) -> None:
    store.put(said("ranking", "ranking-1", answers=["a", "b", "c"], ranks=[2, 1, 2]))
    assert rankings(store.folder / "rankings", "ranking") == [
        Ranking(HI, ("a", "b", "c"), (-2.0, -1.0, -2.0))
    ]


def test_thumbs_of_one_prompt_become_a_comparison_however_they_came(store: FeedbackStore) -> None:
    other = [{"role": "user", "content": "Bye"}]
    store.put(rating("rating-01", "good", 1))
    store.put(rating("rating-02", "whatever", 1, prompt=other))
    store.put(rating("rating-03", "bad", -1))
    assert rankings(store.folder / "ratings", "ratings") == [
        Ranking(HI, ("good", "bad"), (1.0, -1.0))
    ]


def test_prompts_that_share_a_file_do_not_tear_each_other_apart(
    store: FeedbackStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("deploy.feedback.BUCKETS", 4)
    prompts = [f"question {i}" for i in range(20)]
    for round, value in (("up", 1), ("dn", -1)):
        for i, text in enumerate(prompts):
            prompt = [{"role": "user", "content": text}]
            store.put(rating(f"{round}-{i:08}", round, value, prompt=prompt))
    found = rankings(store.folder / "ratings", "ratings")
    assert sorted(one.prompt[0].text for one in found) == sorted(prompts)
    assert all(one.answers == ("up", "dn") for one in found)


def test_an_edit_is_a_conversation_and_a_comparison(store: FeedbackStore) -> None:
    before = [*ASKED, {"role": "assistant", "content": "Yo"}, {"role": "user", "content": "And?"}]
    store.put(said("edit", "edit-0001", answer="No", edited="Yes", prompt=before))
    (ranking,) = rankings(store.folder / "rankings", "ranking")
    assert ranking.answers == ("Yes", "No") and ranking.scores == (-1.0, -2.0)
    config = ChatDataConfig(shards=(str(store.folder / "chats"),))
    (chat,) = [c for unit in row_units(config) for c in read_conversations(unit, config)]
    assert [turn.text for turn in chat] == ["Hi", "Yo", "And?", "Yes"]
    assert [turn.weight for turn in chat if turn.role == "assistant"] == [0.0, 1.0]


def test_rows_tell_where_they_come_from(store: FeedbackStore) -> None:
    sampling = {"temperature": 0.7, "top_p": None, "seed": 3}
    store.put(rating("rating-01", "good", 1, sampling=sampling))
    (row,) = rows(store, "ratings")
    assert row["model"] == "chat" and row["artifact"] == "a1" and row["time"] > 1.6e9
    assert row["sampling"] == {"temperature": 0.7, "seed": 3}


def test_stages_make_examples_of_it(store: FeedbackStore, tmp_path: Path) -> None:
    store.put(said("ranking", "ranking-1", answers=["egg", "wall"], ranks=[1, 2]))
    store.put(rating("rating-01", "egg men", 1))
    store.put(rating("rating-02", "men wall", -1))
    store.put(said("edit", "edit-0001", answer="wall", edited="egg"))
    tokenizer = tmp_path / "tokenizer.model"
    shape = TokenizerConfig(model="char", byte_fallback=False, coverage=1.0)
    train_tokenizer([WORDS + " Hi"] * 20, shape, tokenizer, seed=0)
    folder = str(store.folder)
    preferences = (
        PreferenceDataConfig(shards=(f"{folder}/rankings",), schema="ranking"),
        PreferenceDataConfig(shards=(f"{folder}/ratings",), schema="ratings"),
    )
    chats = (ChatDataConfig(shards=(f"{folder}/chats",)),)
    cases: Any = (("comparison", preferences, 3), ("chat", chats, 1))
    for kind, data, expected in cases:
        source = ExampleSource(kind, data, str(tokenizer), 64, 0.0)
        groups = [Group(i, tuple(row_units(config))) for i, config in enumerate(data)]
        writer = Writer(source, groups, tmp_path / kind)
        (tmp_path / kind).mkdir()
        for number in range(len(groups)):
            writer.write(number)
        parts = [json.loads(path.read_text()) for path in (tmp_path / kind).glob("part-*.json")]
        assert sum(part["train"] for part in parts) == expected
        assert all(part["skipped"] == {} for part in parts)


TEXTS = st.text(min_size=1, max_size=40).filter(str.strip)


@settings(max_examples=25, deadline=None)
@given(prompt=TEXTS, answers=st.lists(TEXTS, min_size=2, max_size=4, unique=True))
def test_whatever_people_write_is_read_as_they_wrote_it(prompt: str, answers: list[str]) -> None:
    asked = [{"role": "user", "content": prompt}]
    ranks = list(range(1, len(answers) + 1))
    with TemporaryDirectory() as folder:
        store = FeedbackStore(folder)
        store.put(said("ranking", "ranking-1", prompt=asked, answers=answers, ranks=ranks))
        reopened(store).close()
        (found,) = rankings(store.folder / "rankings", "ranking")
    assert found.prompt == (Turn("user", prompt),) and found.answers == tuple(answers)


def test_many_at_once_are_all_kept_once(store: FeedbackStore) -> None:
    judgements = [rating(f"rating-{i % 40:04}", f"answer {i % 40}", 1) for i in range(120)]
    with ThreadPoolExecutor(8) as pool:
        new = list(pool.map(store.put, judgements))
    assert sum(new) == 40 and len(set(ids(store.folder))) == len(ids(store.folder)) == 40
    assert len(rows(store, "ratings")) == 40


# -- once, and only once ---------------------------------------------------------------------------


def test_what_is_sent_twice_is_kept_once(store: FeedbackStore) -> None:
    assert store.put(rating("rating-01", "good", 1))
    assert not store.put(rating("rating-01", "good", 1))
    assert len(rows(store, "ratings")) == 1 and store.summary()["rating"] == 1


def test_another_judgement_under_the_same_id_is_a_conflict(store: FeedbackStore) -> None:
    store.put(rating("rating-01", "good", 1))
    with pytest.raises(FeedbackConflict):
        store.put(rating("rating-01", "good", -1))
    assert [row["rating"] for row in rows(store, "ratings")] == [1]


def test_a_changed_mind_replaces_what_was_said(store: FeedbackStore) -> None:
    store.put(rating("rating-01", "good", 1))
    store.put(rating("rating-02", "good", -1, replaces="rating-01"))
    store.put(rating("rating-03", "good", 1, replaces="rating-02"))
    assert [row["id"] for row in rows(store, "ratings")] == ["rating-03"]
    assert store.summary()["rating"] == 1


def test_nobody_replaces_what_was_said_of_another_prompt(store: FeedbackStore) -> None:
    store.put(rating("rating-01", "good", 1))
    other = [{"role": "user", "content": "Something else"}]
    store.put(rating("rating-02", "bad", -1, prompt=other, replaces="rating-01"))
    assert len(rows(store, "ratings")) == 2


def test_what_is_withdrawn_is_nowhere_any_more(store: FeedbackStore) -> None:
    store.put(rating("rating-01", "secret words", 1))
    store.put(rating("rating-02", "other words", 1))
    store.put(withdrawal("withdraw-1", "rating-01"))
    everything = b"".join(path.read_bytes() for path in store.folder.rglob("*") if path.is_file())
    assert b"secret" not in everything and b"other words" in everything
    assert store.summary() == {"rating": 1, "ranking": 0, "edit": 0, "withdrawal": 1}


def test_what_a_withdrawn_judgement_had_replaced_does_not_hold_again(store: FeedbackStore) -> None:
    store.put(rating("rating-01", "good", 1))
    store.put(rating("rating-02", "good", -1, replaces="rating-01"))
    store.put(withdrawal("withdraw-1", "rating-02"))
    assert rows(store, "ratings") == [] and store.summary()["rating"] == 0
    assert not reopened(store).put(rating("rating-01", "good", 1))


def test_what_was_withdrawn_does_not_come_back(store: FeedbackStore) -> None:
    store.put(withdrawal("withdraw-1", "rating-01"))
    assert not store.put(rating("rating-01", "late", 1))
    reopened(store)
    assert not store.put(rating("rating-01", "late", 1)) and rows(store, "ratings") == []


# -- crashes ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("torn", [b'{"id":"half', b'{"id":\0\0\0\0}\n', b"\0\0\0"])
def test_a_torn_last_line_is_cut_off(store: FeedbackStore, torn: bytes) -> None:
    store.put(rating("rating-01", "good", 1))
    journal = store.folder / "journal.jsonl"
    whole = journal.read_bytes()
    journal.write_bytes(whole + torn)
    reopened(store).put(rating("rating-02", "bad", -1))
    assert journal.read_bytes().startswith(whole) and ids(store.folder) == [
        "rating-01",
        "rating-02",
    ]


def test_damage_further_up_is_told_with_its_line(store: FeedbackStore) -> None:
    store.put(rating("rating-01", "good", 1))
    store.put(rating("rating-02", "bad", 1))
    journal = store.folder / "journal.jsonl"
    whole = journal.read_bytes()
    journal.write_bytes(b'{"kind":"rating"}\n' + whole)
    with pytest.raises(DataError, match=r"journal\.jsonl, line 1: is no judgement"):
        reopened(store)
    journal.write_bytes(whole)
    store.__init__(store.folder)  # type: ignore[misc]  # the refusal left no lock behind


def test_files_for_training_are_made_again_from_the_journal(store: FeedbackStore) -> None:
    store.put(rating("rating-01", "good", 1))
    (path,) = (store.folder / "ratings").glob("*.jsonl")
    whole = path.read_bytes()
    for damage in (whole[:-9], whole + whole, b""):
        path.write_bytes(damage)
        reopened(store)
        assert path.read_bytes() == whole
    path.unlink()
    reopened(store)
    assert path.read_bytes() == whole


def test_a_full_disk_leaves_no_half_record(
    store: FeedbackStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    store.put(rating("rating-01", "good", 1))
    before = (store.folder / "journal.jsonl").read_bytes()
    monkeypatch.setattr(os, "fsync", lambda _: (_ for _ in ()).throw(OSError(28, "no space")))
    with pytest.raises(OSError, match="no space"):
        store.put(rating("rating-02", "bad", -1))
    monkeypatch.undo()
    assert (store.folder / "journal.jsonl").read_bytes() == before
    assert store.put(rating("rating-02", "bad", -1))


def test_a_failure_behind_the_journal_is_mended_when_it_is_sent_again(
    store: FeedbackStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: Any) -> None:
        raise OSError(28, "no space")

    monkeypatch.setattr("deploy.feedback.write_atomic", fail)
    with pytest.raises(OSError, match="no space"):
        store.put(rating("rating-01", "good", 1))
    monkeypatch.undo()
    assert not store.put(rating("rating-01", "good", 1))
    assert [row["id"] for row in rows(store, "ratings")] == ["rating-01"]


def test_a_second_writer_is_refused_and_told_who_writes(store: FeedbackStore) -> None:
    with pytest.raises(DataError, match=rf"process {os.getpid()} on .* is writing feedback there"):
        FeedbackStore(store.folder)


def test_a_folder_elsewhere_is_refused() -> None:
    with pytest.raises(DataError, match="local or mounted folder"):
        FeedbackStore("s3://bucket/feedback")


def test_a_store_has_a_bound(tmp_path: Path) -> None:
    store = FeedbackStore(tmp_path, most_bytes=1000)
    with pytest.raises(FeedbackFull):
        store.put(rating("rating-01", "x" * 1000, 1))
    store.put(rating("rating-02", "short", 1))
    store.close()


@pytest.mark.parametrize(
    ("kind", "fields", "param"),
    [
        ("ranking", {"answers": ["a", "b"], "ranks": [1, 2, 3]}, "ranks"),
        ("edit", {"answer": "a", "edited": "a"}, "edited"),
        ("edit", {"answer": "a", "edited": "  "}, "edited"),
        (
            "rating",
            {"answer": "a", "rating": 1, "prompt": [{"role": "system", "content": ""}]},
            "prompt",
        ),
    ],
)
def test_what_says_nothing_is_refused(kind: str, fields: dict[str, Any], param: str) -> None:
    found = objection(said(kind, "judgement-1", **fields))
    assert found and found[0] == param


# -- killed at any moment, over HTTP ---------------------------------------------------------------

SERVER = """
import sys, uvicorn, socket
from deploy.app import make_app
from deploy.config import ServeConfig
from deploy.feedback import FeedbackStore
from tests.deploy.stub import Stub
listening = socket.create_server(("127.0.0.1", 0))
app = make_app(Stub(), ServeConfig(auth=False), feedback=FeedbackStore(sys.argv[1]))
print(listening.getsockname()[1], flush=True)
uvicorn.Server(uvicorn.Config(app, log_level="error")).run([listening])
"""


def serve(folder: Path) -> tuple[subprocess.Popen[str], str]:
    """A server with its store there, and its address."""
    process = subprocess.Popen(
        [sys.executable, "-c", SERVER, str(folder)], stdout=subprocess.PIPE, text=True, cwd=ROOT
    )
    assert process.stdout
    return process, f"http://127.0.0.1:{int(process.stdout.readline())}"


def post(url: str, judgement: dict[str, Any]) -> None:
    body = json.dumps(judgement).encode()
    headers = {"content-type": "application/json"}
    with urllib.request.urlopen(urllib.request.Request(url + "/feedback", body, headers)) as reply:
        assert reply.status == 200


@pytest.mark.slow
def test_a_writer_killed_at_any_moment_has_all_that_it_acknowledged_once(tmp_path: Path) -> None:
    folder, source = tmp_path / "feedback", random.Random(4)
    acknowledged: set[str] = set()
    sent = 0
    for _ in range(4):
        process, url = serve(folder)
        last = sent + source.randint(3, 9)
        killer = threading.Timer(source.uniform(0, 0.02), process.kill)
        try:
            while True:
                sent += 1
                if sent == last:
                    killer.start()  # while the next ones are being written
                id, prompt = f"judgement-{sent}", [{"role": "user", "content": f"{sent % 9}"}]
                common = {
                    "id": id,
                    "consent": True,
                    "model": "m",
                    "artifact": "a",
                    "prompt": prompt,
                }
                post(url, {"kind": "edit", "answer": "a" * 500, "edited": f"b{sent}", **common})
                acknowledged.add(id)
        except OSError:
            pass  # it was killed
        killer.join()
        assert process.wait() == -signal.SIGKILL
    store = FeedbackStore(folder)
    kept = ids(folder)
    assert len(kept) == len(set(kept)) and acknowledged <= set(kept) and len(acknowledged) > 10
    assert len(kept) <= len(acknowledged) + 4  # on disk, but the answer did not arrive
    for name in ("rankings", "chats"):
        assert sorted(row["id"] for row in rows(store, name)) == sorted(kept)
    assert len(rankings(folder / "rankings", "ranking")) == len(kept)
    store.close()
