"""What is written together is what the model writes alone."""

from pathlib import Path

import pytest

from llm.artifact import read_model
from llm.chat import Template, Turn
from llm.config import SamplingConfig
from llm.continuations import Manner, continuations, shown
from llm.examinee import Beginning, Desk, Opening
from llm.generate import generate
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
    never_stops = SamplingConfig(temperature=0.0, max_tokens=4)

    def known(given: list[int]) -> str:
        """A document that the model knows by heart."""
        told = generate(model, [tokenizer.eos, *given], never_stops, end=None)
        return tokenizer.decode([*given, *told])

    begun = [tokenizer.encode(text)[start : start + 4] for text in TEXTS for start in range(8)]
    texts = [(known(given), given) for given in begun]
    # what is written is not always cut into the tokens that it was written in
    whole = [text for text, given in texts if tokenizer.encode(text)[:4] == given]
    whole = [text for text in whole if len(tokenizer.encode(text)) == 8]
    assert whole, "no text of these comes back as it was written"
    text = whole[0]
    others = [tokenizer.decode(tokenizer.encode(text)[:6]) + " king and wall", TEXTS[0][:3]]
    same, other, short = Desk().ask("recall", folder, [Beginning(t, 4) for t in (text, *others)], 4)
    assert same[0] == 4
    assert same[1] == len(same[2])
    assert 0 <= other[0] < 4
    assert short == (-1, 0, "")
