"""Models go to transformers and come from there with the same logits and the same choices."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file

from llm.artifact import read_model, write_model, write_shape
from llm.chat import Template, Turn
from llm.chat_artifact import is_chat, write_chat_shape
from llm.config import ModelConfig, RopeConfig, SamplingConfig, TokenizerConfig
from llm.errors import ArtifactError
from llm.exchange_config import ExportConfig
from llm.generate import generate
from llm.hf_export import export_model
from llm.hf_import import import_model
from llm.model import Transformer
from llm.reward import Normaliser, Scorer, read_scorer, write_scorer
from llm.tokenizer import Tokenizer
from llm.tokenizer_file import read_tokenizer, take_over
from llm.tokenizer_trainer import train
from tests.hostile import hostile
from tests.llm.foreign import SAMPLE, write_foreign

SIZE: dict[str, Any] = {"depth": 2, "width": 32, "heads": 4, "hidden": 48, "context": 96}

GPT2 = {"positions": "learned", "norm": "layernorm", "mlp": "gelu_tanh"}

LLAMA_3 = RopeConfig(
    base=5e5,
    scaling="llama3",
    factor=8.0,
    original_context=32,
    low_freq_factor=1.0,
    high_freq_factor=4.0,
)

OURS: dict[str, tuple[str, dict[str, Any]]] = {
    "the default": ("LlamaForCausalLM", {}),
    "llama 3": ("LlamaForCausalLM", {"kv_heads": 2, "rope": LLAMA_3, "tied": False}),
    "biases": ("LlamaForCausalLM", {"bias": True, "norm_eps": 1e-6}),
    "geglu": ("LlamaForCausalLM", {"mlp": "geglu", "rope": RopeConfig(scaling="linear", factor=2)}),
    "qwen 2": ("Qwen2ForCausalLM", {"kv_heads": 1, "qkv_bias": True}),
    "qwen 3": ("Qwen3ForCausalLM", {"kv_heads": 2, "qk_norm": True}),
    "mistral": ("MistralForCausalLM", {"kv_heads": 2, "window": 7, "tied": False}),
    "mixtral": ("MixtralForCausalLM", {"kv_heads": 2, "experts": 5, "window": 9}),
    "gpt 2": ("GPT2LMHeadModel", {**GPT2, "bias": True}),
    "gpt 2 without biases": ("GPT2LMHeadModel", {**GPT2, "tied": False, "mlp": "gelu"}),
}


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: Any) -> Tokenizer:
    path = tmp_path_factory.mktemp("tokenizer") / "trained.model"
    train(
        SAMPLE, TokenizerConfig(model="unigram", vocab_size=345, byte_fallback=True), path, seed=0
    )
    return Tokenizer(path)


def artifact(folder: Path, tokenizer: Tokenizer, chat: bool = False, **shape: Any) -> Path:
    """A model with weights of a size that shows every mistake."""
    config = ModelConfig(**{**SIZE, **shape})
    torch.manual_seed(1)
    model = Transformer(config, tokenizer.vocab_size)
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    folder.mkdir(parents=True)
    if chat:
        write_chat_shape(folder, config, tokenizer)
    else:
        write_shape(folder, config, tokenizer.path, tokenizer.vocab_size)
    write_model(folder, model)
    return folder


def exported(source: Path, folder: Path, **config: Any) -> Path:
    folder.mkdir()
    export_model(source, folder, ExportConfig(**config))
    return folder


def theirs_of(folder: Path) -> Any:
    model, report = transformers.AutoModelForCausalLM.from_pretrained(
        folder, output_loading_info=True
    )
    assert not any(report[key] for key in ("missing_keys", "unexpected_keys", "mismatched_keys"))
    return model.eval()


def assert_same(ours: Transformer, theirs: Any, vocab: int) -> None:
    """Logits to 1e-4, and 64 greedy tokens."""
    ids = torch.randint(vocab, (2, 31), generator=torch.Generator().manual_seed(2))
    with torch.inference_mode():
        ahead, there = ours(ids), theirs(ids).logits[..., :vocab]
    torch.testing.assert_close(ahead[..., :vocab], there, atol=1e-4, rtol=0)
    prompt = ids[:1, :9]
    greedy = SamplingConfig(temperature=0, max_tokens=64)
    written = list(generate(ours, prompt[0].tolist(), greedy, end=None))
    theirs.generation_config.eos_token_id = None
    settings = transformers.GenerationConfig(max_new_tokens=64, do_sample=False)
    told = theirs.generate(
        prompt, attention_mask=torch.ones_like(prompt), generation_config=settings, pad_token_id=0
    )
    assert written == told[0, 9:].tolist()


@pytest.mark.parametrize("kind", OURS)
def test_our_model_computes_the_same_in_transformers_and_back(
    kind: str, tokenizer: Tokenizer, tmp_path: Path
) -> None:
    architecture, shape = OURS[kind]
    source = artifact(tmp_path / "ours", tokenizer, **shape)
    folder = exported(source, tmp_path / "theirs")
    theirs = theirs_of(folder)
    assert type(theirs).__name__ == architecture
    ours, _ = read_model(source)
    assert_same(ours, theirs, tokenizer.vocab_size)
    (tmp_path / "back").mkdir()
    import_model(folder, tmp_path / "back")
    again, _ = read_model(tmp_path / "back")
    ids = torch.arange(40)[None]
    with torch.inference_mode():
        torch.testing.assert_close(
            again(ids)[..., : tokenizer.vocab_size], ours(ids), atol=1e-5, rtol=0
        )


THEIRS: dict[str, Any] = {
    "llama": lambda **more: transformers.LlamaConfig(
        num_key_value_heads=2,
        rope_parameters={
            "rope_type": "llama3",
            "rope_theta": 5e5,
            "factor": 8.0,
            "low_freq_factor": 1.0,
            "high_freq_factor": 4.0,
            "original_max_position_embeddings": 32,
        },
        **more,
    ),
    "qwen2": lambda **more: transformers.Qwen2Config(num_key_value_heads=2, **more),
    "qwen3": lambda **more: transformers.Qwen3Config(head_dim=8, num_key_value_heads=2, **more),
    "mistral": lambda **more: transformers.MistralConfig(
        num_key_value_heads=2, sliding_window=7, **more
    ),
    "mixtral": lambda **more: transformers.MixtralConfig(
        num_key_value_heads=2, num_local_experts=5, **more
    ),
    "gpt2": lambda **more: transformers.GPT2Config(
        n_embd=32, n_layer=2, n_head=4, n_positions=96, vocab_size=more["vocab_size"]
    ),
}


def write_theirs(folder: Path, kind: str, vocab: int, **saving: Any) -> Any:
    """A folder as transformers writes it, with random weights."""
    config = THEIRS[kind](
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=4,
        intermediate_size=48,
        max_position_embeddings=96,
        vocab_size=vocab,
    )
    torch.manual_seed(3)
    model = transformers.AutoModelForCausalLM.from_config(config).eval()
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    model.save_pretrained(folder, **saving)
    return model


@pytest.mark.parametrize("kind", THEIRS)
def test_their_model_computes_the_same_here(kind: str, tmp_path: Path) -> None:
    size = write_foreign(tmp_path / "theirs", "gpt2").get_vocab_size()
    rows = size + 7 if kind == "qwen2" else size  # some have rows that no token uses
    theirs = write_theirs(tmp_path / "theirs", kind, rows, max_shard_size="20KB")
    assert len(list((tmp_path / "theirs").glob("*.safetensors"))) > 1
    (tmp_path / "ours").mkdir()
    figures = import_model(tmp_path / "theirs", tmp_path / "ours")
    ours, tokenizer = read_model(tmp_path / "ours")
    assert figures["vocab_size"] == tokenizer.vocab_size == size + 4
    assert_same(ours, theirs, size)


def test_a_chat_model_talks_there_as_here(tokenizer: Tokenizer, tmp_path: Path) -> None:
    source = artifact(tmp_path / "ours", tokenizer, chat=True)
    folder = exported(source, tmp_path / "theirs", shard_mb=1)
    template = Template(tokenizer)
    theirs = transformers.AutoTokenizer.from_pretrained(folder)
    for text in hostile(500, seed=3):
        turns = (Turn("user", text), Turn("assistant", text))
        messages = [{"role": turn.role, "content": turn.text} for turn in turns]
        ids = theirs.apply_chat_template(messages, tokenize=True)["input_ids"]
        assert ids == template.render(turns).ids.tolist()
    settings = transformers.GenerationConfig.from_pretrained(folder)
    assert settings.eos_token_id == [template.end, tokenizer.eos]
    assert theirs.eos_token_id == template.end


def test_a_reward_model_is_a_classifier_there(tokenizer: Tokenizer, tmp_path: Path) -> None:
    source = artifact(tmp_path / "ours", tokenizer, tied=False)
    scorer = Scorer(read_model(source)[0])
    torch.nn.init.normal_(scorer.head.weight)
    torch.nn.init.constant_(scorer.head.bias, 0.7)
    write_scorer(source, scorer, Normaliser(mean=-1.5, std=3.0))
    folder = exported(source, tmp_path / "theirs")
    theirs = transformers.AutoModelForSequenceClassification.from_pretrained(folder).eval()
    ours, normaliser = read_scorer(source)
    pad = tokenizer.controls["<|pad|>"]
    ids = torch.randint(
        8, tokenizer.vocab_size, (3, 20), generator=torch.Generator().manual_seed(5)
    )
    lengths = torch.tensor([20, 7, 13])
    ids[torch.arange(20) >= lengths[:, None]] = pad
    with torch.inference_mode():
        rewards = normaliser(ours.rewards(ids, lengths))
        scores = theirs(ids, attention_mask=(ids != pad).long()).logits[:, 0]
    torch.testing.assert_close(scores + theirs.config.reward_offset, rewards, atol=1e-4, rtol=0)


@pytest.mark.parametrize("foreign", [False, True])
def test_a_chat_model_comes_back_as_it_was(
    foreign: bool, tokenizer: Tokenizer, tmp_path: Path
) -> None:
    if foreign:
        write_foreign(tmp_path / "theirs", "llama3")
        (tmp_path / "taken").mkdir()
        file = tmp_path / "theirs" / "tokenizer.json"
        tokenizer = read_tokenizer(take_over(file, tmp_path / "taken"))
    source = artifact(tmp_path / "ours", tokenizer, chat=True)
    folder = exported(source, tmp_path / "there")
    (tmp_path / "back").mkdir()
    import_model(folder, tmp_path / "back")
    assert is_chat(tmp_path / "back")
    for name in ("model.json", tokenizer.path.name, "chat_template.jinja", "tokenizer.json"):
        if name != "trained.model":
            assert (tmp_path / "back" / name).read_bytes() == (source / name).read_bytes(), name
    again, same = read_model(tmp_path / "back")
    assert same.vocab_size == tokenizer.vocab_size
    for key, tensor in read_model(source)[0].state_dict().items():
        assert torch.equal(again.state_dict()[key], tensor)


def test_500_hostile_texts_give_the_same_ids(tokenizer: Tokenizer, tmp_path: Path) -> None:
    folder = exported(artifact(tmp_path / "ours", tokenizer), tmp_path / "theirs")
    theirs = transformers.AutoTokenizer.from_pretrained(folder)
    for text in hostile(500, seed=4):
        assert theirs(text, split_special_tokens=True)["input_ids"] == tokenizer.encode(text)
    assert theirs.chat_template is None


def test_bf16_files_hold_the_rounded_weights(tokenizer: Tokenizer, tmp_path: Path) -> None:
    source = artifact(tmp_path / "ours", tokenizer)
    folder = exported(source, tmp_path / "theirs", dtype="bf16")
    theirs = transformers.AutoModelForCausalLM.from_pretrained(folder)
    assert theirs.dtype == torch.bfloat16
    ours, _ = read_model(source)
    rounded = {name: one.bfloat16().float() for name, one in ours.state_dict().items()}
    ours.load_state_dict(rounded)
    assert_same(ours, theirs.float().eval(), tokenizer.vocab_size)


def test_large_models_come_in_several_files(
    tokenizer: Tokenizer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("llm.hf_export.MEGABYTE", 20_000)
    source = artifact(tmp_path / "ours", tokenizer)
    folder = exported(source, tmp_path / "theirs", shard_mb=1)
    sizes = [path.stat().st_size for path in folder.glob("model-*-of-*.safetensors")]
    assert len(sizes) > 3
    index = json.loads((folder / "model.safetensors.index.json").read_text())
    assert set(index["weight_map"].values()) == {path.name for path in folder.glob("model-*")}
    assert_same(read_model(source)[0], theirs_of(folder), tokenizer.vocab_size)


def test_what_has_no_counterpart_is_not_exported(tokenizer: Tokenizer, tmp_path: Path) -> None:
    source = artifact(tmp_path / "ours", tokenizer, positions="sinusoidal")
    target = tmp_path / "theirs"
    with pytest.raises(ArtifactError, match=r"positions 'sinusoidal' has no counterpart.*'rotary'"):
        exported(source, target)
    assert not list(target.iterdir())


def changed(folder: Path, **values: Any) -> None:
    """Change config.json; None takes a field away."""
    path = folder / "config.json"
    config = {**json.loads(path.read_text()), **values}
    path.write_text(json.dumps({key: one for key, one in config.items() if one is not None}))


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (
            {"model_type": "mamba"},
            r"config\.json: model_type 'mamba' is not supported; allowed: gpt2",
        ),
        ({"hidden_act": "relu"}, r"hidden_act 'relu' is not supported; allowed: silu"),
        ({"head_dim": 16}, r"head_dim 16 is not supported; allowed: hidden_size"),
        ({"num_hidden_layers": None}, "num_hidden_layers None is not supported; allowed: a whole"),
        ({"num_hidden_layers": 3}, r"tensor model\.layers\.2\.input_layernorm\.weight is missing"),
        ({"num_hidden_layers": 1}, r"model\.layers\.1\.\S+ is no part of such a model"),
        ({"intermediate_size": 40}, r"gate_proj\.weight is F32 of shape \[48, 32\]; must be .*40"),
        ({"rope_parameters": {"rope_type": "yarn"}}, "rope_type 'yarn' is not supported; allowed:"),
        ({"num_hidden_layers": 10**9}, r"tensor model\.layers\.2\.\S+ is missing"),
        ({"rms_norm_eps": "small"}, "rms_norm_eps 'small' is not supported; allowed: a number"),
        ({"rope_parameters": {"rope_type": "linear"}}, "factor None is not supported; allowed:"),
        ({"rope_parameters": "linear"}, "a field is of another type than transformers writes"),
        ({"quantization_config": {"bits": 4}}, "quantization_config .* is not supported"),
    ],
)
def test_what_is_not_supported_is_said_and_nothing_is_written(
    values: dict[str, Any], message: str, tmp_path: Path
) -> None:
    size = write_foreign(tmp_path / "theirs", "gpt2").get_vocab_size()
    write_theirs(tmp_path / "theirs", "llama", size)
    changed(tmp_path / "theirs", **values)
    (tmp_path / "ours").mkdir()
    with pytest.raises(ArtifactError, match=message):
        import_model(tmp_path / "theirs", tmp_path / "ours")
    assert not list((tmp_path / "ours").iterdir())


def test_weights_that_are_no_weights_are_refused(tmp_path: Path) -> None:
    folder = tmp_path / "theirs"
    size = write_foreign(folder, "gpt2").get_vocab_size()
    write_theirs(folder, "llama", size)
    weights = folder / "model.safetensors"
    tensors = load_file(weights)
    tensors["model.norm.weight"][0] = torch.nan
    save_file(tensors, weights)
    (tmp_path / "ours").mkdir()
    with pytest.raises(ArtifactError, match=r"norm\.weight has values that are not finite"):
        import_model(folder, tmp_path / "ours")
    weights.write_bytes(weights.read_bytes()[:99])
    with pytest.raises(ArtifactError, match=r"model\.safetensors: cannot be read"):
        import_model(folder, tmp_path / "ours")
    weights.rename(folder / "pytorch_model.bin")
    with pytest.raises(ArtifactError, match=r"pytorch_model\.bin: weights in a pickle"):
        import_model(folder, tmp_path / "ours")


def test_a_context_can_be_cut_short(tmp_path: Path) -> None:
    size = write_foreign(tmp_path / "theirs", "gpt2").get_vocab_size()
    theirs = write_theirs(tmp_path / "theirs", "gpt2", size)
    (tmp_path / "ours").mkdir()
    import_model(tmp_path / "theirs", tmp_path / "ours", context=40)
    ours, _ = read_model(tmp_path / "ours")
    ids = torch.arange(40)[None]
    with torch.inference_mode():
        torch.testing.assert_close(ours(ids)[..., :size], theirs(ids).logits, atol=1e-4, rtol=0)
    with pytest.raises(ArtifactError, match="context 97 is not allowed; the model was made for 96"):
        import_model(tmp_path / "theirs", tmp_path / "ours", context=97)
