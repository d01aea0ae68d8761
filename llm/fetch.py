"""A model's folder at a URI, brought to this machine once."""

import hashlib
import shutil
import tempfile
from pathlib import Path
from urllib.parse import unquote

from llm.errors import ArtifactError, DataError
from llm.filesystem import find, is_uri, open_file

NEEDED = ("model.safetensors", "model.json")
TOKENIZERS = ("tokenizer.model", "tokenizer.foreign")
"""One of them."""
MANIFEST = "manifest.json"
"""Says what the model was made of; its answers carry the fingerprint that is in it."""
WANTED = (
    *(*NEEDED, *TOKENIZERS, MANIFEST),
    *("chat_template.jinja", "tokenizer.json", "tokenizer_config.json"),
)

CACHE = Path.home() / ".cache" / "humpty" / "models"


def fetch(place: str, cache: Path = CACHE) -> Path:
    """The folder of a model; one at a URI is copied, under a name that its content decides.

    `place/` may be a folder of this machine, file://, s3://, gs:// or whatever `llm.filesystem`
    opens. Raises ArtifactError for what is no model.
    """
    if not is_uri(place) or place.startswith("file://"):
        return checked(Path(unquote(place.removeprefix("file://"))).absolute(), place)
    try:
        there = {file.path.rpartition("/")[2]: file for file in find(place).files}
    except DataError as error:
        raise ArtifactError(str(error).removeprefix("shards: ")) from error
    of_model = {name: there[name] for name in WANTED if name in there}
    missing(place, of_model)
    identity = "\n".join(f"{file.path} {file.bytes} {file.version}" for file in of_model.values())
    target = cache / hashlib.sha256(identity.encode()).hexdigest()[:12]
    if not target.exists():
        cache.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=cache, prefix=".") as folder:
            for name, file in of_model.items():
                with open_file(file.path) as source, (Path(folder) / name).open("wb") as copy:
                    shutil.copyfileobj(source, copy, 1 << 20)
            shutil.copytree(folder, target.with_suffix(".new"), dirs_exist_ok=True)
        target.with_suffix(".new").rename(target)
    return target


def checked(folder: Path, place: str) -> Path:
    """A folder that holds a model."""
    if not folder.is_dir():
        raise ArtifactError(f"{place}: there is no such folder; give one that a stage has written")
    missing(place, {one.name for one in folder.iterdir()})
    return folder


def missing(place: str, there: object) -> None:
    """Refuse what lacks a file that every model has."""
    lacking = [name for name in NEEDED if name not in there]  # type: ignore[operator]
    if not any(name in there for name in TOKENIZERS):  # type: ignore[operator]
        lacking.append(TOKENIZERS[0])
    if lacking:
        raise ArtifactError(
            f"{place}: is no model: it has no {', '.join(lacking)}; give the folder of a finished "
            "stage pretrain, sft, dpo or ppo: runs/NAME/STAGE/FINGERPRINT"
        )
