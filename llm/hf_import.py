"""A model of transformers made an artifact of ours, which is trained on, aligned, served.

Looked at before anything is written: every tensor is there, of the right shape. The embedding gets
a row for each token of the tokenizer: rows that no token uses are left out, tokens without a row
(those for turns) get the mean of all others, so that no text makes them likelier than it did.
"""

from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from llm.artifact import write_shape
from llm.errors import ArtifactError
from llm.hf_folder import read_config, tokenizer_file, weight_files
from llm.hf_names import IGNORED, Entry, entries
from llm.hf_tokenizer import TEMPLATE, is_our_template, write_hf_tokenizer
from llm.tokenizer_file import read_tokenizer, take_over

OF_TOKENS = ("embedding.weight", "head.weight")
"""Tensors with a row for each token."""

AGAIN = "copy or fetch the folder again, whole"


def import_model(source: Path, folder: Path, context: int = 0) -> dict[str, Any]:
    """Fill an artifact's folder; returns what there is to say about the model.

    context: tokens that it sees at once; 0: as many as it was made for.
    """
    family, model, values = read_config(source, context)
    weights = Weights(source)
    rows = values.get("vocab_size")
    if not isinstance(rows, int) or rows < 1:
        raise ArtifactError(
            f"{source / 'config.json'}: vocab_size {rows!r} is not allowed; must be a whole number "
            f"above 0; {AGAIN}"
        )
    wanted = weights.checked(entries(model, family, rows), model.tied)
    taken = take_over(tokenizer_file(source), folder)
    tokens = read_tokenizer(taken).vocab_size
    made = {entry.ours: weights.read(entry) for entry in wanted}
    for name in OF_TOKENS:
        if name in made:
            made[name] = with_rows(made[name], tokens)
    write_shape(folder, model, taken, tokens)
    template = source / TEMPLATE
    if template.exists() and is_our_template(template.read_text(), taken):
        write_hf_tokenizer(taken, folder, model.context)  # it was taught to talk here
    temporary = folder / ".model.safetensors.tmp"
    save_file(made, temporary, metadata={"format": "pt"})
    temporary.replace(folder / "model.safetensors")
    return {
        "vocab_size": tokens,
        "parameters": sum(tensor.numel() for tensor in made.values()),
        "architecture": values.get("architectures", [family])[0],
        "model": asdict(model),
    }


def with_rows(table: Tensor, rows: int) -> Tensor:
    """A table of tokens with as many rows as there are tokens: (V, D) -> (rows, D)."""
    missing = rows - len(table)
    if missing <= 0:
        return table[:rows].contiguous()
    return torch.cat((table, table.mean(0, keepdim=True).expand(missing, -1)))


class Weights:
    """The tensors of a folder, by the names of transformers; read one at a time, in fp32."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        files = weight_files(folder)
        self._open: dict[str, Any] = {}
        for name in sorted(set(files.values())):
            try:
                self._open[name] = safe_open(folder / name, framework="pt")
            except (SafetensorError, OSError) as error:
                raise ArtifactError(
                    f"{folder / name}: cannot be read ({error}); {AGAIN}"
                ) from error
        self._files = (
            files if "" not in files else dict.fromkeys(self._open[files[""]].keys(), files[""])
        )

    def checked(self, wanted: Iterable[Entry], tied: bool) -> list[Entry]:
        """Refuse a folder that lacks a tensor, has one of another shape, or has further ones."""
        used, found = set(), []
        for entry in wanted:  # not a list yet: a config can ask for any number of layers
            found.append(entry)
            for number, name in enumerate(entry.theirs):
                used.add(self._name(name, entry, number))
        strange = [
            name
            for name in self._files
            if name not in used and not name.endswith(IGNORED) and not (tied and "lm_head" in name)
        ]
        if strange:
            raise ArtifactError(
                f"{self.folder / self._files[strange[0]]}: {strange[0]} is no part of such a "
                "model; allowed: the tensors of a decoder as config.json describes it; merge "
                "adapters into it beforehand (merge_and_unload), leave other heads out"
            )
        return found

    def read(self, entry: Entry) -> Tensor:
        """One of ours."""
        made = entry.join(self._tensor)[: entry.shape[0]].contiguous()  # a context cut short
        if not bool(made.isfinite().all()):
            raise ArtifactError(
                f"{self.folder}: {entry.theirs[0]} has values that are not finite; {AGAIN}"
            )
        return made

    def _tensor(self, name: str) -> Tensor:
        """One of theirs."""
        found = self._found(name)
        assert found is not None, "it was checked"
        return self._open[self._files[found]].get_tensor(found).float()

    def _name(self, name: str, entry: Entry, number: int) -> str:
        """What a tensor is called in its file, if it is as it should be."""
        found = self._found(name)
        if found is None:
            raise ArtifactError(
                f"{self.folder}: the tensor {name} is missing; allowed: all that config.json "
                f"describes; {AGAIN}"
            )
        shape = tuple(self._open[self._files[found]].get_slice(found).get_shape())
        kind = self._open[self._files[found]].get_slice(found).get_dtype()
        wanted = entry.shape_of(number)
        if entry.ours == "positions.weight" and len(shape) == 2 and shape[0] > wanted[0]:
            wanted = (shape[0], wanted[1])  # of a context that is cut short
        if shape != wanted or kind not in ("F32", "F16", "BF16", "F64"):
            raise ArtifactError(
                f"{self.folder / self._files[found]}: {found} is {kind} of shape {list(shape)}; "
                f"must be F32, F16 or BF16 of shape {list(wanted)}, as config.json says; {AGAIN}"
            )
        return found

    def _found(self, name: str) -> str | None:
        """Files of a bare model lack the first part of the names."""
        bare = name.partition(".")[2]
        return next((one for one in (name, bare) if one in self._files), None)
