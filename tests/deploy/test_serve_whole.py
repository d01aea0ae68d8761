"""Everything together, as a cluster runs it: Ray's proxy, keys, a real engine, feedback."""

import asyncio
import json
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

ray = pytest.importorskip("ray")

from deploy.engine import Engine  # noqa: E402
from deploy.keys import new_key  # noqa: E402
from deploy.protocol import Job, Piece, Sampling  # noqa: E402
from deploy.serve import Server  # noqa: E402
from deploy.service import ENGINE, KeySpec, ModelSource  # noqa: E402
from tests.deploy.services import config, service, small_cluster  # noqa: E402
from tests.deploy.tiny import write_folder  # noqa: E402
from tests.load import chat, crowd  # noqa: E402

pytestmark = [pytest.mark.ray, pytest.mark.slow]

PLAIN, LINE = new_key("tester")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_folder(tmp_path_factory.mktemp("models") / "abc", context=128)


@pytest.fixture(scope="module")
def logs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("logs")


@pytest.fixture(scope="module")
def server(folder: Path, logs: Path) -> Iterator[Server]:
    keys = logs / "keys"
    keys.write_text(LINE + "\n")
    closed = replace(config(slots=4), auth=True)
    with (
        small_cluster(),
        service(
            [ModelSource("humpty", str(folder), 1)],
            closed,
            engine=ENGINE,
            listens=False,
            keys=KeySpec(file=str(keys)),
            feedback=str(logs / "feedback"),
            log=str(logs / "serve.log"),
        ) as server,
    ):
        yield server


def ask(server: Server, path: str, key: str | None, body: dict[str, Any] | None = None) -> Any:
    headers = {"Content-Type": "application/json"}
    if key:
        headers["Authorization"] = f"Bearer {key}"
    data = json.dumps(body).encode() if body else None
    return urllib.request.urlopen(urllib.request.Request(server.url + path, data, headers))


def test_without_a_key_nobody_is_answered(server: Server) -> None:
    for key in (None, "hk-wrong"):
        with pytest.raises(urllib.error.HTTPError) as refused:
            ask(server, "/v1/models", key)
        assert refused.value.code == 401
        assert json.load(refused.value)["error"]["code"] == "invalid_api_key"
    assert json.load(ask(server, "/v1/models", PLAIN))["data"][0]["id"] == "humpty"


def test_the_text_is_the_engines_own(server: Server, folder: Path) -> None:
    body = {"model": "humpty", "prompt": "the king", "max_tokens": 24, "temperature": 0}
    answer = json.load(ask(server, "/v1/completions", PLAIN, body))
    assert answer["choices"][0]["text"] == asyncio.run(written(folder))
    assert answer["system_fingerprint"].endswith("abc")


async def written(folder: Path) -> str:
    """What the engine writes without anything around it."""
    engine = Engine(folder, "humpty", config(slots=4).engine, threads=1)
    await engine.start()
    job = Job(
        id="j", prompts=("the king",), sampling=Sampling(temperature=0, max_tokens=24, seed=1)
    )
    text = "".join([event.text async for event in engine.generate(job) if isinstance(event, Piece)])
    await engine.stop(0)
    return text


def test_streams_pass_rays_proxy(server: Server) -> None:
    body = chat("humpty", 20, ignore_eos=True)
    tally = asyncio.run(crowd(server.url, clients=8, requests=24, body=body, key=PLAIN))
    assert tally.statuses == {200: 24} and not tally.broken


def test_the_log_names_the_key_and_tells_neither_it_nor_a_prompt(
    server: Server, logs: Path
) -> None:
    secret = "Rapunzel let down your hair"
    body = {"model": "humpty", "prompt": secret, "max_tokens": 2}
    ask(server, "/v1/completions", PLAIN, body).read()
    told = (logs / "serve.log").read_text()
    assert "key=tester POST /v1/completions 200" in told
    assert PLAIN not in told and "Rapunzel" not in told
