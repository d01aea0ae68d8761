"""An encoder: every token sees those before and behind it, and the masked ones are found out.

The blocks are the decoder's (pre-norm, where BERT's are post-norm), attention being told by its
mask that nothing is hidden. The embedding has one row more than the tokenizer has tokens, the mask.
"""

from torch import Tensor, ones

from llm.attention import KVCache, places_in
from llm.config import ModelConfig
from llm.hidden import rows_of_embedding
from llm.model import Transformer


class Encoder(Transformer):
    """Tells what stands where the mask is; `weights` say of which tokens."""

    def __init__(self, config: ModelConfig, vocab_size: int) -> None:
        super().__init__(config, rows_of_embedding(config, vocab_size))
        self.mask = vocab_size
        """Id of the mask."""

    def features(
        self, ids: Tensor, cache: KVCache | None = None, documents: Tensor | None = None
    ) -> Tensor:
        """(B, T) -> what the head reads (B, T, D).

        documents: (B, T), a number per document, none of which sees another.
        """
        assert cache is None, "an encoder does not write on"
        x, rotation = self.positions(self.embedding(ids), 0, ids.size(1), places_of(documents))
        x = self.dropout(x)
        mask = seen_by_all(ids) if documents is None else same_document(documents)
        for block in self.blocks:
            x = block(x, rotation, None, mask)
        return self.norm(x)


def places_of(documents: Tensor | None) -> Tensor | None:
    """Each token's place in its own document, if there are several."""
    return None if documents is None else places_in(documents)


def seen_by_all(ids: Tensor) -> Tensor:
    """The mask that hides nothing: (1, 1, 1, T)."""
    return ones((1, 1, 1, ids.size(1)), dtype=ids.dtype, device=ids.device).bool()


def same_document(documents: Tensor) -> Tensor:
    """Each token sees its own document: (B, T) -> (B, 1, T, T)."""
    return documents[:, None, :, None] == documents[:, None, None, :]
