"""What is written together is what the model writes alone."""

from pathlib import Path

import pytest

from llm.artifact import read_model
from llm.chat import Template, Turn
from llm.config import SamplingConfig
from llm.continuations import Manner, continuations, shown
from llm.examinee import Beginning, Desk, Opening
from llm.generate import generate, write
from llm.tokenizer import Decoder
from tests.deploy.tiny import TEXTS, write_folder


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_folder(tmp_path_factory.mktemp("written") / "model", context=48)


def test_texts_of_many_lengths_go_on_as_each_would_alone(folder: Path) -> None:
    model, tokenizer = read_model(folder)
    greedy = SamplingConfig(temperature=0.0, max_tokens=12)
    prompts = [text[:length] for text in TEXTS for length in (3, 9, 20)]
    ids = [tokenizer.encode(prompt) for prompt in prompts]
    found = continuations(model, tokenizer, ids, Manner(12), None)
    for prompt, text in zip(ids, found, strict=True):
        alone = generate(model, prompt, greedy, end=tokenizer.eos, never=tokenizer.unwritten)
        assert text == shown(tokenizer, list(alone))


def test_a_stop_text_ends_a_text_and_is_left_out(folder: Path) -> None:
    model, tokenizer = read_model(folder)
    ids = [tokenizer.encode(TEXTS[0])]
    (whole,) = continuations(model, tokenizer, ids, Manner(20), None)
    stop = whole[5:7]
    (cut,) = continuations(model, tokenizer, ids, Manner(20, (stop,)), None)
    assert cut == whole[: whole.index(stop)]


def test_a_chat_model_is_asked_by_its_template_and_a_prompt_that_is_too_long_loses_its_beginning(
    folder: Path,
) -> None:
    model, tokenizer = read_model(folder)
    template = Template(tokenizer)
    turns = (Turn("user", " ".join(TEXTS[:2] * 3)),)
    prompt = template.prompt(turns)
    assert len(prompt) > 40
    (found,) = Desk().ask("write", folder, [Opening("unread", turns)], Manner(8))
    greedy = SamplingConfig(temperature=0.0, max_tokens=8)
    never = [id for id in template.never if id != tokenizer.eos]
    ids = []
    for id in generate(model, prompt[-40:], greedy, end=template.end, never=never):
        if id == tokenizer.eos:
            break
        ids.append(id)
    decoder = Decoder(tokenizer, continues=True, broken="ignore")
    assert found == "".join(map(decoder.feed, ids))


def test_a_document_is_recalled_as_far_as_it_is_written_down(folder: Path) -> None:
    model, tokenizer = read_model(folder)
    given = tokenizer.encode(TEXTS[0])[:4]
    greedy = SamplingConfig(temperature=0.0, max_tokens=8)
    told = list(generate(model, [tokenizer.eos, *given], greedy, end=None))
    known = tokenizer.decode([*given, *told])
    if tokenizer.encode(known) != [*given, *told]:
        pytest.fail("choose another text: this one is cut into other tokens than it was made of")
    words = "".join(write(model, tokenizer, TEXTS[1], SamplingConfig(max_tokens=1)))
    other = tokenizer.decode([*given, *told[:3]]) + "zzzzzzzzzzzzz" + words
    asked = [Beginning(known, 4), Beginning(other, 4), Beginning(TEXTS[0][:3], 4)]
    whole, part, short = Desk().ask("recall", folder, asked, 8)
    assert whole[0] == 8
    assert part[0] < 8
    assert short == (-1, 0, "")
