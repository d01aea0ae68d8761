"""What the engine computes: the same as the model does alone, whoever else is served beside."""

from collections.abc import Iterator
from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from deploy.core import Core, Order
from deploy.prompts import Question, Reader
from deploy.protocol import Begun, Ended, Event, Job, Piece, Sampling
from deploy.writing import Tokens
from llm.config import SamplingConfig
from llm.generate import generate
from llm.model import Transformer
from llm.native_pool import NativePool
from llm.tokenizer import Tokenizer
from llm.writer import Writer
from tests.deploy.tiny import make_model, write_folder
from tests.shapes import SHAPES

GREEDY = Sampling(temperature=0.0, max_tokens=12)
CONTEXT = 96


@pytest.fixture(autouse=True)
def _plain() -> Iterator[None]:
    torch.set_num_threads(1)
    with torch.inference_mode():
        yield


@pytest.fixture(scope="module")
def tokens(tmp_path_factory: pytest.TempPathFactory) -> Tokens:
    folder = write_folder(tmp_path_factory.mktemp("core") / "model")
    return Tokens(Tokenizer(folder / "tokenizer.model"))


@pytest.fixture(scope="module")
def model(tokens: Tokens) -> Transformer:
    return make_model(tokens.tokenizer.vocab_size, context=CONTEXT)


class Stage:
    """A core, and what became of each job."""

    def __init__(
        self,
        model: Transformer,
        tokens: Tokens,
        *,
        precision: str = "fp32",
        slots: int = 3,
        lines: int = 4,
        chunk: int = 16,
        native: bool = True,
    ) -> None:
        with pytest.MonkeyPatch.context() as patch:
            if not native:  # as on a machine without a compiler
                patch.setattr("llm.native.library", lambda *_: None)
                patch.setattr("llm.products.library", lambda *_: None)
            writer = Writer(model, precision)  # type: ignore[arg-type]
            self.core = Core(writer, tokens, slots=slots, lines=lines, chunk=chunk)
        self.reader = Reader(tokens.tokenizer, None, model.config.context)
        self.tokens = tokens
        self.events: dict[Order, list[Event]] = {}

    def order(self, job: Job) -> Order:
        order = Order(job, self.reader.questions(job), self.tokens)
        self.core.add(order)
        self.events[order] = []
        return order

    def ask(self, prompt: list[int], sampling: Sampling = GREEDY, n: int = 1, **more) -> Order:
        return self.order(Job(id="", prompts=(tuple(prompt),), sampling=sampling, n=n, **more))

    def step(self, steps: int = 1) -> None:
        for _ in range(steps):
            for order, event in self.core.step():
                self.events[order].append(event)

    def finish(self) -> None:
        for _ in range(5000):
            if self.core.idle:
                return
            self.step()
        raise AssertionError("it does not end")

    def pieces(self, order: Order, index: int = 0) -> list[Piece]:
        found = [event for event in self.events[order] if isinstance(event, Piece)]
        return [piece for piece in found if piece.index == index]

    def begun(self, order: Order) -> Begun:
        first = self.events[order][0]
        assert isinstance(first, Begun)
        return first


def written(order: Order, index: int = 0) -> list[int]:
    """The tokens of a choice."""
    return order.choices[index].text.tokens


def alone(model: Transformer, tokens: Tokens, prompt: list[int], count: int) -> list[int]:
    """What `llm.generate` writes, the end included."""
    config = SamplingConfig(temperature=0.0, max_tokens=count)
    never = tokens.tokenizer.unwritten
    with torch.inference_mode(False), torch.no_grad():
        eos = tokens.tokenizer.eos
        found = list(generate(model, prompt, config, end=eos, never=never))
    return found if len(found) == count else [*found, eos]


PROMPTS = st.lists(st.integers(8, 300), min_size=1, max_size=70)


@st.composite
def crowds(draw: st.DrawFn) -> list[tuple[list[int], int, int]]:
    """Prompts, some of which begin alike; tokens to write; steps until the next one comes."""
    prompts: list[list[int]] = []
    for _ in range(draw(st.integers(2, 8))):
        start: list[int] = []
        if prompts and draw(st.booleans()):
            earlier = draw(st.sampled_from(prompts))
            start = earlier[: draw(st.integers(0, len(earlier)))]
        prompts.append((start + draw(PROMPTS))[:80])
    counts = st.integers(1, 12)
    return [(prompt, draw(counts), draw(st.integers(0, 6))) for prompt in prompts]


@pytest.mark.parametrize("shape", SHAPES)
@settings(max_examples=8, deadline=None)
@given(
    crowd=crowds(),
    slots=st.integers(1, 4),
    lines=st.integers(1, 6),
    chunk=st.integers(1, 90),
    native=st.booleans(),
)
def test_every_text_is_what_the_model_writes_alone(
    tokens: Tokens, shape: str, crowd: list, slots: int, lines: int, chunk: int, native: bool
) -> None:
    model = make_model(tokens.tokenizer.vocab_size, context=CONTEXT, **SHAPES[shape])
    stage = Stage(model, tokens, slots=slots, lines=lines, chunk=chunk, native=native)
    orders = []
    for prompt, count, steps in crowd:
        orders.append(stage.ask(prompt, replace(GREEDY, max_tokens=count)))
        stage.step(steps)
    stage.finish()
    for order, (prompt, count, _) in zip(orders, crowd, strict=True):
        assert written(order) == alone(model, tokens, prompt, count)
        assert isinstance(stage.events[order][-1], Ended)


@settings(max_examples=15, deadline=None)
@given(
    crowd=crowds(),
    slots=st.integers(1, 4),
    lines=st.integers(1, 6),
    chunk=st.integers(1, 90),
    native=st.booleans(),
)
def test_log_probabilities_are_those_of_a_full_forward_pass(
    tokens: Tokens,
    model: Transformer,
    crowd: list,
    slots: int,
    lines: int,
    chunk: int,
    native: bool,
) -> None:
    stage = Stage(model, tokens, slots=slots, lines=lines, chunk=chunk, native=native)
    orders = []
    for at, (prompt, count, steps) in enumerate(crowd):
        sampling = Sampling(temperature=1.3, top_p=0.9, seed=at, max_tokens=count)
        orders.append(stage.ask(prompt, sampling, logprobs=2, echo=bool(at % 2)))
        stage.step(steps)
    stage.finish()
    for at, order in enumerate(orders):
        prompt = list(order.questions[0].ids)
        ids = prompt + written(order)
        expected = model(torch.tensor([ids]))[0].log_softmax(-1)
        told = [one for piece in stage.pieces(order) for one in piece.logprobs or ()]
        first = 0 if at % 2 else len(prompt)
        for place, one in enumerate(told, first):
            if place == 0:
                assert one.logprob is None
                continue
            row = expected[place - 1]
            assert one.logprob == pytest.approx(row[ids[place]].item(), abs=1e-4)
            assert [top[2] for top in one.top] == pytest.approx(row.topk(2)[0].tolist(), abs=1e-4)
        ended = ids[-1] == tokens.tokenizer.eos  # the end is not told
        assert len(told) == len(ids) - first - ended


def bits(stage: Stage, order: Order) -> list[float | None]:
    return [one.logprob for piece in stage.pieces(order) for one in piece.logprobs or ()]


@pytest.mark.parametrize("native", [True, False], ids=["native", "torch"])
@pytest.mark.parametrize("precision", ["fp32", "bf16", "int8"])
@settings(max_examples=15, deadline=None)
@given(
    crowd=crowds(),
    at=st.integers(0, 8),
    prompt=PROMPTS,
    shared=st.integers(0, 80),
    slots=st.integers(1, 4),
    chunk=st.integers(1, 90),
    shape=st.sampled_from(sorted(SHAPES)),
)
def test_same_seed_same_bits_whoever_else_is_served(
    tokens: Tokens,
    precision: str,
    native: bool,
    crowd: list,
    at: int,
    prompt: list,
    shared: int,
    slots: int,
    chunk: int,
    shape: str,
) -> None:
    model = make_model(tokens.tokenizer.vocab_size, context=CONTEXT, **SHAPES[shape])
    sampling = Sampling(temperature=0.9, seed=7, max_tokens=15, ignore_end=True)
    quiet = Stage(model, tokens, precision=precision, native=native)
    prompt = (crowd[0][0][:shared] + prompt)[:80]
    first = quiet.ask(prompt, sampling, logprobs=0)
    quiet.finish()
    busy = Stage(model, tokens, precision=precision, slots=slots, chunk=chunk, native=native)
    second = None
    for number, (other, count, steps) in enumerate(crowd):
        if number == at:
            second = busy.ask(prompt, sampling, logprobs=0)
        busy.ask(other, Sampling(seed=number, max_tokens=count))
        busy.step(steps)
    second = second or busy.ask(prompt, sampling, logprobs=0)
    busy.finish()
    assert written(second) == written(first)
    assert bits(busy, second) == bits(quiet, first)


@pytest.mark.parametrize("native", [True, False], ids=["native", "torch"])
@pytest.mark.parametrize("precision", ["fp32", "bf16", "int8"])
@pytest.mark.parametrize("shape", ["humpty", "one_key", "qwen"])
def test_long_texts_keep_their_bits_beside_longer_ones(
    tokens: Tokens, shape: str, precision: str, native: bool
) -> None:
    """Sums of more than 256 terms, which matrix libraries cut up as they like."""
    model = make_model(tokens.tokenizer.vocab_size, context=768, **SHAPES[shape])
    sampling = Sampling(temperature=0.9, seed=7, max_tokens=4, ignore_end=True)
    prompt = [8 + number * 37 % 300 for number in range(270)]
    found = []
    for others in ([], [700, 90]):
        stage = Stage(model, tokens, precision=precision, native=native, chunk=800)
        for count in others:
            stage.ask([9 + number * 29 % 300 for number in range(count)], sampling)
        order = stage.ask(prompt, sampling, logprobs=0)
        stage.finish()
        found.append((written(order), bits(stage, order)))
    assert found[0] == found[1]


@pytest.mark.parametrize("precision", ["fp32", "bf16", "int8"])
@pytest.mark.parametrize("shape", SHAPES)
def test_in_c_remembered_answers_have_the_bits_of_answers_read_again(
    tokens: Tokens, shape: str, precision: str
) -> None:
    model = make_model(tokens.tokenizer.vocab_size, context=CONTEXT, **SHAPES[shape])
    writer = Writer(model, precision)  # type: ignore[arg-type]
    if not isinstance(writer.pool(1), NativePool):
        pytest.skip("no compiler, or heads that are looked at in torch")
    if writer.least == 2 and precision != "fp32":
        pytest.skip("a processor that does not multiply bf16 or bytes")
    if Writer(model, precision).least == 2 and precision != "fp32":  # type: ignore[arg-type]
        pytest.skip("no compiler, or a processor that does not multiply bf16 or bytes")
    sampling = Sampling(seed=7, max_tokens=20, ignore_end=True)
    stage = Stage(model, tokens, precision=precision)
    first = stage.ask(list(range(10, 40)), sampling)
    stage.finish()
    longer = [*range(10, 40), *written(first), 50, 51]
    second = stage.ask(longer, sampling, logprobs=0)
    stage.finish()
    assert stage.begun(second).cached_tokens == 49
    fresh = Stage(model, tokens, precision=precision)
    again = fresh.ask(longer, sampling, logprobs=0)
    fresh.finish()
    assert bits(stage, second) == bits(fresh, again)


@pytest.mark.parametrize("shape", ["humpty", "mixtral"])
def test_any_number_of_threads_computes_the_same_bits(tokens: Tokens, shape: str) -> None:
    model = make_model(tokens.tokenizer.vocab_size, context=CONTEXT, **SHAPES[shape])
    found = []
    for threads in (1, 2, 3):
        torch.set_num_threads(threads)
        stage = Stage(model, tokens, precision="bf16")
        sampling = Sampling(seed=1, max_tokens=9, ignore_end=True)
        orders = [stage.ask([10, 11, at] * 9, sampling, logprobs=0) for at in range(20, 24)]
        stage.finish()
        found.append([bits(stage, order) for order in orders])
    assert found[0] == found[1] == found[2]


def test_many_choices_read_their_prompt_once(tokens: Tokens, model: Transformer) -> None:
    prompt = list(range(10, 50))
    sampling = Sampling(seed=5, max_tokens=8, ignore_end=True)
    stage = Stage(model, tokens, slots=3, lines=4, chunk=16)
    computed: list[int] = []
    features = stage.core.writer.features
    stage.core.writer.features = lambda ids, *rest: (  # type: ignore[method-assign]
        computed.append(len(ids)) or features(ids, *rest)
    )
    together = stage.ask(prompt, sampling, n=5)
    stage.finish()
    texts = [written(together, index) for index in range(5)]
    # the two that came later took it over from the others and read its last token again
    assert sum(computed) == 40 + 2 + 5 * 7
    assert len({tuple(text) for text in texts}) > 1
    again = stage.ask(prompt, sampling, n=5)
    stage.finish()
    assert [written(again, index) for index in range(5)] == texts


def test_a_conversation_goes_on_where_it_stood(tokens: Tokens, model: Transformer) -> None:
    stage = Stage(model, tokens, slots=2, lines=3)
    prompt = list(range(10, 40))
    first = stage.ask(prompt)
    stage.finish()
    longer = [*prompt, *written(first)[:-1], 50, 51]
    second = stage.ask(longer, replace(GREEDY, max_tokens=3))
    stage.finish()
    assert stage.begun(first).cached_tokens == 0
    assert stage.begun(second).cached_tokens == len(longer) - 2
    assert first.choices[0].text.line == second.choices[0].text.line
    assert written(second) == alone(model, tokens, longer, 3)


def test_a_system_prompt_in_use_is_copied(tokens: Tokens, model: Transformer) -> None:
    stage = Stage(model, tokens, slots=3, lines=3)
    system = list(range(10, 40))
    first = stage.ask([*system, 60], replace(GREEDY, max_tokens=30))
    stage.step(8)
    second = stage.ask([*system, 70, 71])
    stage.finish()
    assert stage.begun(second).cached_tokens == len(system)
    assert written(first) == alone(model, tokens, [*system, 60], 30)
    assert written(second) == alone(model, tokens, [*system, 70, 71], 12)


def test_a_cancelled_job_frees_its_slot_before_the_next_step(
    tokens: Tokens, model: Transformer
) -> None:
    stage = Stage(model, tokens, slots=1, lines=1)
    forever = replace(GREEDY, max_tokens=90, ignore_end=True)
    first, second = stage.ask([10, 11], forever), stage.ask([12, 13], GREEDY)
    stage.step(3)
    assert not stage.events[second]
    stage.core.cancel(first)
    stage.step()
    assert stage.begun(second)
    stage.finish()
    assert written(second) == alone(model, tokens, [12, 13], 12)


def test_a_long_prompt_holds_up_neither_writers_nor_short_prompts(
    tokens: Tokens, model: Transformer
) -> None:
    stage = Stage(model, tokens, slots=3, lines=3, chunk=16)
    writer = stage.ask([10, 11], replace(GREEDY, max_tokens=60, ignore_end=True))
    stage.step(2)
    long = stage.ask(list(range(8, 88)), GREEDY)
    short = stage.ask([12, 13, 14], GREEDY)
    before = len(written(writer))
    stage.step()
    assert len(written(writer)) == before + 1
    assert len(written(short)) == 1 and not written(long)


def test_an_empty_answer_is_an_answer(tokens: Tokens, model: Transformer) -> None:
    stage = Stage(model, tokens)
    order = stage.ask([10, 11], replace(GREEDY, max_tokens=0))
    stage.finish()
    assert [type(event) for event in stage.events[order]] == [Begun, Ended]


def test_prompts_that_are_echoed_stand_before_each_choice(
    tokens: Tokens, model: Transformer
) -> None:
    stage = Stage(model, tokens)
    job = Job(
        id="",
        prompts=("the king", "an egg"),
        sampling=replace(GREEDY, max_tokens=2),
        n=2,
        echo=True,
        logprobs=0,
    )
    order = stage.order(job)
    stage.finish()
    for index, text in enumerate(["the king", "the king", "an egg", "an egg"]):
        first = stage.pieces(order, index)[0]
        assert first.text == text and first.tokens == 0
        assert "".join(one.token for one in first.logprobs or ()) == text
        # before the text stands the end of the last one, so even its first token has a probability
        assert all(one.logprob is not None for one in first.logprobs or ())


def test_a_failed_step_gives_up_what_runs_and_nothing_else(
    tokens: Tokens, model: Transformer
) -> None:
    stage = Stage(model, tokens, slots=1, lines=2)
    first, second = stage.ask([10, 11]), stage.ask([12, 13])
    stage.step(2)
    stage.core.memory.memory.fill_(float("nan"))
    assert stage.core.abandon() == [first]
    stage.finish()
    assert written(second) == alone(model, tokens, [12, 13], 12)


def test_a_question_keeps_what_the_caller_did_not_write(tokens: Tokens) -> None:
    reader = Reader(tokens.tokenizer, None, CONTEXT)
    (question,) = reader.questions(Job(id="", prompts=("the king",)))
    assert isinstance(question, Question)
    assert question.ids == [tokens.tokenizer.eos, *tokens.tokenizer.encode("the king")]
    assert question.hidden == 1


@pytest.mark.parametrize("shape", SHAPES)
def test_8_bits_think_nearly_as_32_do(tokens: Tokens, shape: str) -> None:
    model = make_model(tokens.tokenizer.vocab_size, context=CONTEXT, **SHAPES[shape])
    prompt = [8 + number * 37 % 300 for number in range(90)]
    found = {}
    for precision in ("fp32", "bf16", "int8"):
        stage = Stage(model, tokens, precision=precision)
        order = stage.ask(prompt, replace(GREEDY, max_tokens=1), echo=True, logprobs=0)
        stage.finish()
        found[precision] = torch.tensor([value for value in bits(stage, order)[1:90]])
    exact, spread = found["fp32"], found["fp32"].std()
    assert spread > 0.9
    # a token that 8 bits send to another expert is off by more than rounding
    assert (found["bf16"] - exact).abs().median() < 0.02 * spread
    assert (found["int8"] - exact).abs().median() < 0.05 * spread
    assert abs((found["int8"] - exact).median()) < 0.02 * spread
