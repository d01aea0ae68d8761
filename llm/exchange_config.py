"""What imports and exports can be told: frozen records, neither torch nor ray."""

from typing import Literal

from llm.config import Count, CountOrZero, record


@record
class ImportConfig:
    """A model of transformers, taken over."""

    folder: str
    """Folder with config.json, safetensors and tokenizer: of Llama, Mistral, Qwen 2 or 3, GPT-2."""
    context: CountOrZero = 0
    """Tokens that the model is to see at once; 0: as many as it was made for."""


@record
class ExportConfig:
    """A model written in a form that others read."""

    format: Literal["transformers", "gguf"] = "transformers"
    """A folder for transformers, vLLM and so on; or one file for llama.cpp."""
    dtype: Literal["fp32", "bf16", "fp16"] = "fp32"
    """Numbers in the file; fp32 writes what was learned, the others round it."""
    shard_mb: Count = 5000
    """Largest file of weights, in MB; transformers only."""
    license: str = ""
    """How others may use it, as Hugging Face names licences: apache-2.0, mit; empty: not told."""
