"""Encoders and encoder-decoders give what transformers' models give with the same weights, in fp32.

Of theirs those whose norms stand before layers, like ours: RoBERTa-PreLayerNorm and T5 1.1. What
ours do not have is taken out of theirs, and each test says what that is.
"""

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from llm.config import ModelConfig
from llm.encoder import Encoder
from llm.encoder_decoder import EncoderDecoder
from llm.presets import PRESETS

transformers = pytest.importorskip("transformers")

WIDTH, HEADS, HIDDEN, DEPTH, CONTEXT, VOCAB = 32, 4, 48, 2, 24, 29
COMMON: dict[str, Any] = {
    "depth": DEPTH,
    "width": WIDTH,
    "heads": HEADS,
    "hidden": HIDDEN,
    "context": CONTEXT,
}


@pytest.fixture(autouse=True)
def _a_seed():
    torch.manual_seed(0)


def magnified(model: nn.Module) -> nn.Module:
    """Fresh weights are small: mistakes show where they are not."""
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.2)
    return model.eval()


ROBERTA_NAMES = {
    "attention.LayerNorm": "attention_norm",
    "attention.output.dense": "attention.out",
    "intermediate.LayerNorm": "mlp_norm",
    "intermediate.dense": "mlp.up",
    "output.dense": "mlp.out",
}


def from_roberta(model: nn.Module) -> dict[str, Tensor]:
    """Our names for the weights of RoBERTa-PreLayerNorm; kinds of tokens are all 0."""
    state = model.state_dict()
    kinds = state["embeddings.token_type_embeddings.weight"][0]
    made = {
        "embedding.weight": state["embeddings.word_embeddings.weight"],
        "positions.weight": state["embeddings.position_embeddings.weight"] + kinds,
        "norm.weight": state["LayerNorm.weight"],
        "norm.bias": state["LayerNorm.bias"],
    }
    for layer in range(DEPTH):
        here, there = f"blocks.{layer}.", f"encoder.layer.{layer}."
        for kind in ("weight", "bias"):
            parts = [f"{there}attention.self.{one}.{kind}" for one in ("query", "key", "value")]
            made[f"{here}attention.qkv.{kind}"] = torch.cat([state[part] for part in parts])
            for name, own in ROBERTA_NAMES.items():
                made[f"{here}{own}.{kind}"] = state[f"{there}{name}.{kind}"]
    return made


@torch.no_grad()
def test_an_encoder_reads_as_roberta_with_norms_before_layers():
    """Theirs also normalises embeddings, which the test makes undone."""
    config = transformers.RobertaPreLayerNormConfig(
        vocab_size=VOCAB + 1,
        hidden_size=WIDTH,
        num_hidden_layers=DEPTH,
        num_attention_heads=HEADS,
        intermediate_size=HIDDEN,
        max_position_embeddings=CONTEXT,
        type_vocab_size=1,
        layer_norm_eps=1e-12,
    )
    theirs = magnified(transformers.RobertaPreLayerNormModel(config, add_pooling_layer=False))
    theirs.embeddings.LayerNorm = nn.Identity()
    ours = Encoder(ModelConfig(**COMMON, **PRESETS["bert"]), VOCAB).eval()
    ours.load_state_dict(from_roberta(theirs))
    ids = torch.randint(VOCAB + 1, (3, CONTEXT))
    expected = theirs(ids, position_ids=torch.arange(CONTEXT)[None]).last_hidden_state
    torch.testing.assert_close(ours.features(ids), expected, atol=1e-4, rtol=0)
    logits = expected @ theirs.embeddings.word_embeddings.weight.T
    torch.testing.assert_close(ours(ids), logits, atol=1e-4, rtol=0)


def from_t5(model: nn.Module) -> dict[str, Tensor]:
    """Our names for the weights of T5, which does not divide scores: its queries are longer."""
    state, longer = model.state_dict(), (WIDTH // HEADS) ** 0.5
    made = {"embedding.weight": state["shared.weight"], "head.weight": state["lm_head.weight"]}
    for side, mlp in (("encoder", 1), ("decoder", 2)):
        made[f"{side}.norm.weight"] = state[f"{side}.final_layer_norm.weight"]
        for layer in range(DEPTH):
            here, there = f"{side}.blocks.{layer}.", f"{side}.block.{layer}.layer."
            own = f"{there}0.SelfAttention."
            qkv = [
                state[own + "q.weight"] * longer,
                state[own + "k.weight"],
                state[own + "v.weight"],
            ]
            made[here + "attention.qkv.weight"] = torch.cat(qkv)
            made[here + "attention.out.weight"] = state[own + "o.weight"]
            made[here + "attention_norm.weight"] = state[there + "0.layer_norm.weight"]
            made[here + "mlp_norm.weight"] = state[f"{there}{mlp}.layer_norm.weight"]
            for ours, name in (("gate", "wi_0"), ("up", "wi_1"), ("out", "wo")):
                weight = state[f"{there}{mlp}.DenseReluDense.{name}.weight"]
                made[f"{here}mlp.{ours}.weight"] = weight
            if side == "decoder":
                across = f"{there}1.EncDecAttention."
                both = [state[across + "k.weight"], state[across + "v.weight"]]
                made[here + "cross.query.weight"] = state[across + "q.weight"] * longer
                made[here + "cross.memory.weight"] = torch.cat(both)
                made[here + "cross.out.weight"] = state[across + "o.weight"]
                made[here + "cross_norm.weight"] = state[there + "1.layer_norm.weight"]
    return made


@torch.no_grad()
def test_an_encoder_decoder_writes_as_t5():
    """Theirs adds biases by distance, where ours turns queries and keys: both are taken out."""
    config = transformers.T5Config(
        d_model=WIDTH,
        d_kv=WIDTH // HEADS,
        d_ff=HIDDEN,
        num_layers=DEPTH,
        num_heads=HEADS,
        feed_forward_proj="gated-gelu",
        tie_word_embeddings=False,
        dropout_rate=0.0,
    )
    choice = ModelConfig(**COMMON, **PRESETS["t5"], positions="none")
    ours = EncoderDecoder(choice, VOCAB).eval()
    config.vocab_size = ours.vocab_size
    theirs = magnified(transformers.T5ForConditionalGeneration(config))
    for side in (theirs.encoder, theirs.decoder):
        side.block[0].layer[0].SelfAttention.relative_attention_bias.weight.zero_()
    ours.load_state_dict(from_t5(theirs))
    read, begun = torch.randint(VOCAB, (3, CONTEXT)), torch.randint(VOCAB, (3, 11))
    real = torch.ones_like(read).bool()
    real[1, 17:] = False
    logits = ours(read, begun, real=real)
    expected = theirs(read, attention_mask=real.long(), decoder_input_ids=begun).logits
    torch.testing.assert_close(logits, expected, atol=1e-4, rtol=0)
