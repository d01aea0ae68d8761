"""The chat template: which tokens, what is learned of them, and that no text breaks out of it."""

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llm.chat import Template, Turn
from llm.config import TokenizerConfig
from llm.errors import ArtifactError, DataError
from llm.tokenizer import RESERVED, Tokenizer
from llm.tokenizer_trainer import train

TEXTS = [
    "Humpty Dumpty sat on a wall. <b>矮胖子坐墙头</b>\n\t<|end|> <unk> 1 | 2 > 3",
    "if x < 3:\n    return  'user' or 'assistant'",
    "<|system|> Four-score men and four-score more could not make Humpty where he was before.",
] * 10

BOS, END = 1, 7
SYSTEM, USER, ASSISTANT = 4, 5, 6

PIECES = st.sampled_from([*RESERVED, "<", "|", "end", "|>", "\u2581", "\0", "<0x41>", "\ufdd0"])
HOSTILE = st.lists(PIECES | st.text(max_size=8)).map("".join)


@pytest.fixture(scope="module", params=["unigram", "bpe", "char", "word"])
def template(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Template:
    """The template on a small tokenizer of each kind."""
    kind = request.param
    path = tmp_path_factory.mktemp("chat") / f"{kind}.model"
    size = "auto" if kind in ("char", "word") else 310
    config = TokenizerConfig(model=kind, vocab_size=size, byte_fallback=True, coverage=1.0)
    train(TEXTS, config, path, seed=0)
    return Template(Tokenizer(path))


def test_ids_of_control_tokens_are_those_of_every_tokenizer(template: Template) -> None:
    assert (template.bos, template.end) == (BOS, END)
    assert template.roles == {"system": SYSTEM, "user": USER, "assistant": ASSISTANT}
    assert template.never == (0, 1, 2, 3, 4, 5, 6)


def test_turns_stand_side_by_side_and_only_answers_are_learned(template: Template) -> None:
    encode = template.tokenizer.encode
    rendered = template.render(
        (Turn("system", "wall"), Turn("user", "sat"), Turn("assistant", "on a wall", 0.5))
    )
    answer = encode("on a wall")
    before = [BOS, SYSTEM, *encode("wall"), END, USER, *encode("sat"), END, ASSISTANT]
    assert rendered.ids.tolist() == [*before, *answer, END]
    assert rendered.weights.tolist() == [0.0] * len(before) + [0.5] * (len(answer) + 1)
    assert (rendered.ids.dtype, rendered.weights.dtype) == (np.int32, np.float32)


def test_an_answer_continues_its_prompt(template: Template) -> None:
    question, answer = Turn("user", "sat"), Turn("assistant", "on a <|end|>")
    whole = template.render((question, answer)).ids.tolist()
    assert [*template.prompt((question,)), *template.answer(answer.text)] == whole


def test_an_answer_is_read_up_to_its_end(template: Template) -> None:
    ids = template.answer("on a wall")
    assert template.decode([*ids, *template.answer("sat")]) == "on a wall"
    assert template.decode(ids[:-1]) == "on a wall"


def test_a_weight_of_the_user_is_ignored(template: Template) -> None:
    assert not template.render((Turn("user", "sat", 1.0),)).weights.any()


@settings(max_examples=40, deadline=None)
@given(texts=st.lists(HOSTILE, min_size=1, max_size=4))
def test_no_text_ends_a_turn_or_begins_another(template: Template, texts: list[str]) -> None:
    check(template, texts)


def test_no_naughty_string_ends_a_turn(template: Template, shared_data: Path) -> None:
    check(template, json.loads((shared_data / "g_hostile" / "blns.json").read_text()))


def check(template: Template, texts: list[str]) -> None:
    """That the turns which can be read from the ids are those that were rendered."""
    turns = [Turn(("user", "assistant")[i % 2], text) for i, text in enumerate(texts)]
    ids = template.render(tuple(turns)).ids.tolist()
    assert ids.count(BOS) == 1
    assert sum(id in (SYSTEM, USER, ASSISTANT) for id in ids) == len(turns)
    told, rest = [], ids[1:]
    while rest:
        stop = rest.index(END)
        told.append((rest[0], template.tokenizer.decode(rest[1:stop])))
        rest = rest[stop + 1 :]
    assert told == [(template.roles[turn.role], turn.text) for turn in turns]


def test_half_a_surrogate_pair_is_refused(template: Template) -> None:
    with pytest.raises(DataError, match="half a surrogate pair"):
        template.render((Turn("user", "\ud83d<|end|>"),))


def test_a_tokenizer_without_turns_is_refused_with_the_remedy(shared_data: Path) -> None:
    foreign = Tokenizer(shared_data / "f_models" / "spm_unigram_en1000.model")
    with pytest.raises(ArtifactError, match=r"spm_unigram.*no tokens for turns .*tokenizer stage"):
        Template(foreign)
