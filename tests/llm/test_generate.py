"""Generation equals asking the model for its last `context` tokens each time; stop strings."""

import codecs
from dataclasses import dataclass, replace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from llm.config import ModelConfig, SamplingConfig
from llm.errors import SpecError
from llm.generate import StopStrings, generate, write
from llm.model import Transformer
from llm.sampling import sample

VOCAB, CONTEXT = 23, 8
GREEDY = SamplingConfig(temperature=0.0, max_tokens=20)
SAMPLED = SamplingConfig(temperature=1.0, top_k=9, top_p=0.9, max_tokens=20, seed=5)


@pytest.fixture(autouse=True)
def _one_thread():
    torch.set_num_threads(1)


def make_model(
    positions: str = "rotary", context: int = CONTEXT, vocab: int = VOCAB
) -> Transformer:
    torch.manual_seed(3)
    settings = {"depth": 2, "width": 32, "heads": 2, "hidden": 48, "dropout": 0.3}
    model = Transformer(ModelConfig(**settings, context=context, positions=positions), vocab)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.2)
    return model


@torch.no_grad()
def naive(model: Transformer, prompt: list[int], sampling: SamplingConfig) -> list[int]:
    """The slow way: no cache, the last `context` tokens at every step."""
    model = model.eval()
    generator = torch.Generator().manual_seed(sampling.seed)
    ids = list(prompt)
    for _ in range(sampling.max_tokens):
        logits = model(torch.tensor([ids[-model.config.context :]]))[0, -1]
        ids.append(sample(logits, sampling, generator))
    return ids[len(prompt) :]


@pytest.mark.parametrize("positions", ["rotary", "learned", "sinusoidal"])
@pytest.mark.parametrize("sampling", [GREEDY, SAMPLED], ids=["greedy", "sampled"])
@pytest.mark.parametrize("length", [1, 7, 8, 9, 21])
def test_generation_equals_the_naive_loop_across_the_border(positions, sampling, length):
    model, prompt = make_model(positions), [(3 * i + 1) % VOCAB for i in range(length)]
    assert list(generate(model, prompt, sampling, end=None)) == naive(model, prompt, sampling)


@pytest.mark.parametrize("context", [1, 2])
def test_the_smallest_contexts_slide_too(context):
    model = make_model(context=context)
    assert list(generate(model, [1, 2, 3], SAMPLED, end=None)) == naive(model, [1, 2, 3], SAMPLED)


def test_only_the_last_context_tokens_of_a_prompt_count():
    model, tail = make_model(), [5, 6, 7, 8, 9, 10, 11, 12]
    long = list(generate(model, [1, 2, 3, *tail], GREEDY, end=None))
    assert long == list(generate(model, tail, GREEDY, end=None))


def test_the_prompt_is_left_as_it_was():
    prompt = [1, 2, 3]
    list(generate(make_model(), prompt, GREEDY, end=None))
    assert prompt == [1, 2, 3]


def test_an_empty_prompt_is_a_bug():
    with pytest.raises(AssertionError, match="prompt is empty"):
        next(generate(make_model(), [], GREEDY, end=None))


def test_generation_stops_before_the_end_token():
    model = make_model()
    whole = list(generate(model, [1], SAMPLED, end=None))
    end = whole[6]
    assert list(generate(model, [1], SAMPLED, end=end)) == whole[: whole.index(end)]


def test_same_seed_same_tokens_other_seed_others():
    model = make_model()
    first, again, other = (
        list(generate(model, [1], replace(SAMPLED, seed=seed), end=None)) for seed in (1, 1, 2)
    )
    assert first == again != other


@pytest.mark.parametrize("training", [True, False])
def test_the_models_mode_is_untouched_between_and_after_tokens(training):
    model = make_model().train(training)
    tokens = generate(model, [1], GREEDY, end=None)
    for _ in range(3):
        next(tokens)
        assert all(module.training == training for module in model.modules())
        assert torch.is_grad_enabled() and not torch.is_inference_mode_enabled()


def test_a_training_step_is_possible_while_text_is_being_generated():
    model = make_model().train()
    tokens = generate(model, [1], GREEDY, end=None)
    next(tokens)
    ids = torch.tensor([[1, 2, 3]])
    model(ids, ids).backward()
    assert model.embedding.weight.grad.any()
    next(tokens)


def test_generation_draws_nothing_from_the_global_generator():
    model, before = make_model(), torch.get_rng_state()
    list(generate(model, [1], SAMPLED, end=None))
    assert torch.equal(torch.get_rng_state(), before)


def test_generation_works_under_autocast():
    with torch.autocast("cpu", torch.bfloat16):
        assert len(list(generate(make_model(), [1], SAMPLED, end=None))) == 20


def test_a_token_that_is_never_to_be_written_is_not():
    model = make_model()
    common = list(generate(model, [1], SAMPLED, end=None))
    rest = list(generate(model, [1], SAMPLED, end=None, never=common[:3]))
    assert len(rest) == 20 and not set(rest) & set(common[:3])


# Writing


@dataclass(frozen=True)
class Bytes:
    """A tokenizer whose tokens are bytes, after the end-of-text token 0."""

    eos: int = 0
    unwritten: tuple[int, ...] = ()

    def encode(self, text: str) -> list[int]:
        return [byte + 1 for byte in text.encode()]


class BytesDecoder:
    """Bytes to characters as they come; remembers whether it continues a prompt."""

    def __init__(self, tokenizer: Bytes, *, continues: bool, broken: str) -> None:
        self.utf8 = codecs.getincrementaldecoder("utf-8")(broken)
        BytesDecoder.continued = continues

    def feed(self, token: int) -> str:
        return self.utf8.decode(b"" if token == 0 else bytes([token - 1]))


@pytest.fixture(autouse=True)
def _fake_decoder(monkeypatch):
    monkeypatch.setattr("llm.generate.Decoder", BytesDecoder)


class Scripted(torch.nn.Module):
    """A model that goes on with a script, whatever it is given; greedy sampling follows it."""

    precision = torch.float32

    def __init__(self, script: list[int]) -> None:
        super().__init__()
        self.script, self.seen = iter(script), []
        self.config = ModelConfig(depth=1, width=2, heads=1, hidden=2, context=64)
        self.embedding = torch.nn.Embedding(257, 2)
        self.cache = Transformer.cache.__get__(self)

    def features(self, ids, cache):
        self.seen += ids[0].tolist()
        cache.layers[0].length += ids.size(1)
        return ids[..., None]

    def logits(self, features):
        return torch.nn.functional.one_hot(torch.tensor(next(self.script)), 257).float()


def written(text: str, prompt: str = "", **settings) -> list[str]:
    tokenizer = Bytes()
    model = Scripted([*tokenizer.encode(text), tokenizer.eos])
    config = SamplingConfig(**({"temperature": 0.0, "max_tokens": 500} | settings))
    return list(write(model, tokenizer, prompt, config))


def test_the_prompt_follows_an_end_of_text_token():
    tokenizer = Bytes()
    model = Scripted([tokenizer.eos])
    assert list(write(model, tokenizer, "ab", SamplingConfig(temperature=0.0))) == []
    assert model.seen == [0, 98, 99]


def test_an_empty_prompt_is_the_end_of_text_token_alone():
    model = Scripted([0])
    list(write(model, Bytes(), "", SamplingConfig(temperature=0.0)))
    assert model.seen == [0]


def test_the_decoder_knows_whether_text_begins_or_goes_on():
    written("a", prompt="b")
    assert BytesDecoder.continued
    written("a", prompt="")
    assert not BytesDecoder.continued


def test_text_comes_in_whole_characters():
    text = "aä€😀 中文"
    assert written(text) == list(text)


def test_writing_stops_at_the_end_of_text():
    assert "".join(written("once\0")) == "once\0"


def test_bytes_that_make_no_character_are_left_out():
    model = Scripted([0x61 + 1, 0xE4 + 1, 0xB8 + 1, 0x62 + 1, 0xFF + 1, 0x63 + 1, 0])
    assert "".join(write(model, Bytes(), "x", SamplingConfig(temperature=0.0))) == "abc"


def test_max_tokens_in_the_middle_of_a_character_write_no_half_of_it():
    assert written("ab€", max_tokens=4) == ["a", "b"]


def test_stop_strings_across_tokens_are_not_written():
    assert written("hello END of it", stop=("END",)) == [*"hello "]


def test_what_only_looked_like_a_stop_string_is_written():
    assert "".join(written("an EN, an EN", stop=("END",))) == "an EN, an EN"


def test_stop_strings_of_several_bytes_a_character():
    assert "".join(written("guten Tag, schöne Grüße!", stop=("Grüße",))) == "guten Tag, schöne "


def test_a_stop_string_in_the_prompt_stops_nothing():
    assert "".join(written("go on", prompt="END", stop=("END",))) == "go on"


# Stop strings alone


def passed(pieces: list[str], stops: tuple[str, ...]) -> tuple[str, bool]:
    stop, text = StopStrings(stops), ""
    for piece in pieces:
        text += stop.feed(piece)
        if stop.found:
            break
    return text + stop.finish(), stop.found


def reference(text: str, stops: tuple[str, ...]) -> tuple[str, bool]:
    """By definition: the shortest beginning that ends in stop strings, without the longest one."""
    for end in range(len(text) + 1):
        if ending := [s for s in stops if text[:end].endswith(s)]:
            return text[: end - max(map(len, ending))], True
    return text, False


LETTERS = st.text(alphabet="ab€", max_size=12)


@given(
    pieces=st.lists(LETTERS, max_size=8),
    stops=st.lists(st.text(alphabet="ab€", min_size=1, max_size=4), max_size=3).map(tuple),
)
def test_however_text_is_cut_the_same_is_passed_on(pieces, stops):
    assert passed(pieces, stops) == reference("".join(pieces), stops)


@given(text=LETTERS, stop=st.text(alphabet="ab€", min_size=1, max_size=4))
def test_no_more_is_held_back_than_could_become_a_stop_string(text, stop):
    held = StopStrings((stop,))
    held.feed(text)
    assert held.found or held.held == "" or stop.startswith(held.held)
    assert len(held.held) < len(stop) or held.found


def test_held_back_text_comes_as_soon_as_it_is_no_stop_string():
    stop = StopStrings(("END",))
    assert [stop.feed(piece) for piece in ("a", "E", "N", "x", "E")] == ["a", "", "", "ENx", ""]
    assert stop.finish() == "E"


def test_without_stop_strings_nothing_is_held_back():
    assert StopStrings(()).feed("any") == "any"


def test_the_string_that_is_complete_first_stops():
    assert passed(["xabc"], ("xabc", "ab")) == passed(list("xabc"), ("xabc", "ab")) == ("x", True)


def test_an_empty_stop_string_is_the_users_error():
    with pytest.raises(SpecError, match=r"sampling\.stop.*empty string.*remove it"):
        StopStrings(("END", ""))
