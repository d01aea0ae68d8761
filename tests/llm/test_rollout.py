"""A batch of answers equals one text after the other, and full forward passes over them."""

from collections import Counter

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from llm.config import ModelConfig, SamplingConfig
from llm.generate import generate
from llm.model import Transformer
from llm.ppo_math import forbid, logprobs_of
from llm.rollout import UNIFORM_BITS, Answers, draw, pick, write_answers
from llm.slots import Slots
from llm.writer import Writer
from tests.shapes import SHAPES

VOCAB, CONTEXT, END, NEVER = 23, 64, 2, (0, 3)
PROMPTS = [[1, 5, 6], [4], [5, 6, 7, 8, 9, 10, 11], [9, 1], [12, 13, 14]]
KEYS = [(7, row) for row in range(len(PROMPTS))]


@pytest.fixture(autouse=True)
def _one_thread():
    torch.set_num_threads(1)


def make_model(**settings) -> Transformer:
    torch.manual_seed(3)
    shape = {"depth": 2, "width": 32, "heads": 2, "hidden": 48, "context": CONTEXT, "dropout": 0.3}
    model = Transformer(ModelConfig(**(shape | settings)), VOCAB)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.2)
    return model.eval()


def write(writer: Writer | Transformer, prompts=PROMPTS, keys=KEYS, **changes) -> Answers:
    if isinstance(writer, Transformer):
        writer = Writer(writer, "fp32")
    manner = {"max_tokens": 20, "end": END, "never": NEVER, "temperature": 1.0} | changes
    return write_answers(writer, prompts, keys=keys, **manner)


def texts(answers: Answers) -> list[list[int]]:
    """What was written behind each prompt."""
    ends = zip(answers.ids, answers.prompt, answers.length, strict=True)
    return [row[start:stop].tolist() for row, start, stop in ends]


@pytest.mark.parametrize("shape", SHAPES)
def test_without_chance_a_batch_writes_what_generate_writes(shape: str):
    model = make_model(**SHAPES[shape])
    config = SamplingConfig(temperature=0.0, max_tokens=20)
    answers = write(model, temperature=0.0)
    for text, ended, prompt in zip(texts(answers), answers.ended, PROMPTS, strict=True):
        expected = list(generate(model, prompt, config, end=END, never=NEVER))
        assert text == expected + [END] * int(ended)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("temperature", [1.0, 0.7])
def test_log_probabilities_are_those_of_a_full_forward_pass(shape: str, temperature: float):
    model = make_model(**SHAPES[shape])
    answers = write(model, temperature=temperature)
    with torch.no_grad():
        logits = forbid(model(answers.ids), NEVER)
    expected = logprobs_of(logits[:, :-1], answers.ids[:, 1:], temperature)
    for row, (start, stop) in enumerate(zip(answers.prompt, answers.length, strict=True)):
        found = answers.logprobs[row, : stop - start]
        torch.testing.assert_close(found, expected[row, start - 1 : stop - 1], rtol=0, atol=1e-5)


@pytest.mark.parametrize("temperature", [1.0, 0.3])
def test_an_answer_depends_on_its_prompt_and_key_alone(temperature: float):
    model = make_model()
    together = texts(write(model, temperature=temperature))
    assert len({len(text) for text in together}) > 2  # rows left while others went on
    order = [3, 0, 4, 1, 2]
    mixed = write(
        model, [PROMPTS[i] for i in order], [KEYS[i] for i in order], temperature=temperature
    )
    assert texts(mixed) == [together[i] for i in order]
    for prompt, key, text in zip(PROMPTS, KEYS, together, strict=True):
        assert texts(write(model, [prompt], [key], temperature=temperature)) == [text]


def test_other_keys_write_other_answers():
    model = make_model()
    many = texts(write(model, [[1, 5]] * 30, [(0, row) for row in range(30)]))
    assert len({tuple(text) for text in many}) > 25


def test_answers_end_with_the_end_or_are_cut_off():
    answers = write(make_model(), [[1, 5]] * 40, [(1, row) for row in range(40)])
    cut = 0
    for text, ended in zip(texts(answers), answers.ended.tolist(), strict=True):
        assert END not in text[:-1] and ended == (text[-1] == END)
        assert ended or len(text) == 20
        cut += not ended
    assert 0 < cut < 40


def test_nothing_stands_behind_an_answer():
    answers = write(make_model())
    assert answers.ids.size(1) == answers.length.max()
    behind = torch.arange(answers.ids.size(1)) >= answers.length[:, None]
    assert not answers.ids[behind].any()
    written = answers.length - answers.prompt
    assert not answers.logprobs[torch.arange(20) >= written[:, None]].any()
    assert answers.logprobs[torch.arange(20) < written[:, None]].all()


def test_the_prompts_are_as_they_were_given():
    answers = write(make_model())
    starts = zip(answers.ids, answers.prompt, strict=True)
    assert [row[:start].tolist() for row, start in starts] == PROMPTS


def test_forbidden_tokens_are_not_written():
    never = [0, 3, 5, 6, 7, 8, 9, 10, 11]
    answers = write(make_model(), [[1, 5]] * 30, [(2, row) for row in range(30)], never=never)
    assert not {token for text in texts(answers) for token in text} & set(never)


def test_writing_stops_when_all_have_ended():
    model, steps = make_model(), []
    writer = Writer(model, "fp32")
    step = writer.write
    writer.write = lambda ids, slots: steps.append(len(ids)) or step(ids, slots)
    answers = write(writer, max_tokens=50)
    written = (answers.length - answers.prompt).tolist()
    assert answers.ended.all() and max(written) < 50
    # every row is in the batch until it ends: the first tokens came from reading
    assert steps == [sum(n > done for n in written) for done in range(1, max(written))]


def test_one_token_needs_no_step():
    answers = write(make_model(), max_tokens=1)
    assert (answers.length == answers.prompt + 1).all()


def test_tokens_are_as_frequent_as_they_are_probable():
    model, count = make_model(), 4000
    answers = write(model, [[1, 5]] * count, [(3, row) for row in range(count)], max_tokens=1)
    with torch.no_grad():
        expected = forbid(model(torch.tensor([[1, 5]]))[0, -1], NEVER).softmax(-1)
    found = Counter(token for (token,) in texts(answers))
    for token, share in enumerate(expected.tolist()):
        deviation = (share * (1 - share) / count) ** 0.5
        assert abs(found[token] / count - share) <= 5 * deviation


def test_a_refreshed_writer_writes_as_the_new_weights_do():
    model = make_model()
    writer = Writer(model, "fp32")
    before = texts(write(writer))
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.1)
    writer.refresh(model)
    assert texts(write(writer)) == texts(write(model)) != before


def test_answers_can_be_trained_on():
    model = make_model()
    answers = write(model)
    model(answers.ids[:, :-1], answers.ids[:, 1:]).backward()
    (answers.logprobs * torch.ones(1, requires_grad=True)).sum().backward()
    assert model.embedding.weight.grad.any()


def test_bf16_thinks_as_training_under_autocast_does():
    model = make_model()
    answers = write(Writer(model, "bf16"))
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        logits = forbid(model(answers.ids), NEVER)
    expected = logprobs_of(logits[:, :-1], answers.ids[:, 1:])
    mask = torch.arange(20) < (answers.length - answers.prompt)[:, None]
    at = (answers.prompt[:, None] - 1 + torch.arange(20)).clamp(max=expected.size(1) - 1)
    difference = (answers.logprobs - expected.gather(1, at))[mask].abs()
    assert difference.mean() < 0.02 and difference.max() < 0.15


def test_a_prompt_that_leaves_no_room_for_an_answer_is_a_bug():
    with pytest.raises(AssertionError, match="65 tokens in a context of 64"):
        write(make_model(), [[1] * 45], [(0,)])


def test_an_empty_prompt_is_a_bug():
    with pytest.raises(AssertionError, match="prompt is empty"):
        write(make_model(), [[1], []], [(0,), (1,)])


# Chance


def test_numbers_depend_on_the_key_alone_and_continue_each_other():
    assert (draw((1, 2, 3), 9)[:4] == draw((1, 2, 3), 4)).all()
    assert (draw((1, 2, 3), 4) != draw((1, 2, 4), 4)).all()
    # numpy's PCG64 seeded with [1, 2, 3], its highest 23 bits
    bits = np.random.PCG64([1, 2, 3]).random_raw(2)
    assert draw((1, 2, 3), 2).tolist() == [(int(b) >> 41) / 2**23 for b in bits]


def test_the_distribution_function_is_inverted():
    shares = torch.tensor([[0.25, 0.0, 0.5, 0.25]]).repeat(5, 1)
    uniforms = torch.tensor([0.0, 0.2499, 0.25, 0.7499, 0.75])
    assert pick(shares, uniforms).tolist() == [0, 0, 2, 2, 3]


@settings(max_examples=50)
@given(seed=st.integers(0, 2**32 - 1), vocabulary=st.integers(2, 5000))
def test_the_largest_number_picks_no_token_without_a_share(seed: int, vocabulary: int):
    shares = torch.randn(1, vocabulary, generator=torch.Generator().manual_seed(seed)).softmax(-1)
    shares[0, vocabulary // 2 + 1 :] = 0.0
    largest = torch.tensor([1 - 2.0**-UNIFORM_BITS])
    assert pick(shares, largest) <= vocabulary // 2


# Slots


def test_where_a_text_left_the_last_one_takes_its_row():
    config = ModelConfig(depth=1, width=4, heads=1, hidden=4, context=8)
    slots = Slots(config, 4, 8, device=torch.device("cpu"), dtype=torch.float32)
    lengths = torch.tensor([2, 1, 3, 2])
    assert slots.join(lengths).tolist() == [0, 1, 0, 0, 1, 2, 0, 1]
    slots.attend(0, torch.arange(8.0)[:, None, None].expand(8, 3, 4))
    order = slots.leave(torch.tensor([True, False, False, True]))
    assert order.tolist() == [0, 3] and slots.lengths.tolist() == [2, 2]
    keys = slots.memory[0, 0, :2, 0, :2, 0]
    assert keys.tolist() == [[0, 1], [6, 7]]


def test_a_row_sees_its_own_tokens_and_no_others():
    config = ModelConfig(depth=1, width=4, heads=1, hidden=4, context=8)
    slots = Slots(config, 2, 8, device=torch.device("cpu"), dtype=torch.float32)
    slots.join(torch.tensor([2, 1]))
    slots.attend(0, torch.full((3, 3, 4), 1e4))  # keys and values that would be noticed
    slots.leave(torch.tensor([False, True]))
    slots.join(torch.tensor([1]))
    slots.attend(0, torch.ones(1, 3, 4))
    assert slots.grow().tolist() == [1]
    mixed = slots.attend(0, torch.full((1, 3, 4), 1.0))
    assert mixed.flatten().tolist() == [1.0] * 4
