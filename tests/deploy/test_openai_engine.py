"""The whole road with a real engine: OpenAI's client and lm-eval against the model itself.

lm-eval runs where HUMPTY_LM_EVAL names a Python whose environment has it:
pip install "lm-eval[api]==0.4.12" transformers
"""

import json
import os
import subprocess
from collections.abc import AsyncIterator, Iterator, Mapping
from pathlib import Path
from random import Random
from typing import Any

import pytest
import torch

from deploy.app import make_app
from deploy.config import EngineConfig, ServeConfig
from deploy.engine import Engine
from deploy.protocol import Event, Job, ModelCard
from llm.artifact import read_model
from llm.chat import Template, Turn
from llm.config import SamplingConfig
from llm.generate import StopStrings, generate
from llm.model import Transformer
from llm.tokenizer import Decoder, Tokenizer
from tests.deploy.serving import served
from tests.deploy.tiny import TEXTS, write_folder

openai = pytest.importorskip("openai", reason="needs OpenAI's client: pip install openai")

HELLO: list[Any] = [{"role": "user", "content": "the king and all"}]


class Alone:
    """A backend of one engine, without Ray between."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine

    def models(self) -> Mapping[str, ModelCard]:
        return {self.engine.card.id: self.engine.card}

    def generate(self, model: str, job: Job) -> AsyncIterator[Event]:
        return self.engine.generate(job)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_folder(tmp_path_factory.mktemp("engine") / "model", context=128)


@pytest.fixture(scope="module")
def model(folder: Path) -> tuple[Transformer, Tokenizer]:
    return read_model(folder)


@pytest.fixture(scope="module")
def engine(folder: Path) -> Engine:
    config = EngineConfig(slots=4, tokens=4 * 128, chunk=32, precision="fp32", cpus=1)
    return Engine(folder, "tiny", config, threads=1)


@pytest.fixture(scope="module")
def url(engine: Engine) -> Iterator[str]:
    app = make_app(Alone(engine), ServeConfig(auth=False))
    with served(app, engine.start, lambda: engine.stop(0.0)) as url:
        yield url


@pytest.fixture
def client(url: str) -> Any:
    return openai.OpenAI(base_url=url + "/v1", api_key="none", max_retries=0)


def logprobs_of(model: Transformer, ids: list[int]) -> list[float]:
    """Of each token but the first, from the whole text at once."""
    with torch.no_grad():
        logits = model(torch.tensor([ids]))[0].float()
    logprobs = logits.log_softmax(-1)[:-1]
    return [float(row[id]) for row, id in zip(logprobs, ids[1:], strict=True)]


def spelled(tokenizer: Tokenizer, ids: list[int], *, continues: bool) -> str:
    """What is shown of tokens, of which these models write many that make no characters."""
    decoder = Decoder(tokenizer, continues=continues, broken="ignore")
    return "".join(map(decoder.feed, ids))


def test_temperature_zero_writes_what_the_model_writes(
    client: Any, model: tuple[Transformer, Tokenizer]
) -> None:
    transformer, tokenizer = model
    template = Template(tokenizer)
    prompt = template.prompt((Turn("user", HELLO[0]["content"]),))
    greedy = SamplingConfig(temperature=0.0, max_tokens=30)
    ids = list(generate(transformer, prompt, greedy, end=template.end, never=template.never))
    answer = client.chat.completions.create(
        model="tiny", messages=HELLO, temperature=0, max_tokens=30
    )
    assert answer.choices[0].message.content == spelled(tokenizer, ids, continues=False)
    assert answer.usage.prompt_tokens == len(prompt)
    assert answer.usage.completion_tokens == len(ids)


def test_a_stream_says_what_a_whole_answer_says(client: Any) -> None:
    asked: dict[str, Any] = {"model": "tiny", "messages": HELLO, "seed": 5, "n": 3}
    asked |= {"temperature": 0.8, "max_tokens": 20}
    whole = client.chat.completions.create(**asked)
    texts = ["", "", ""]
    for chunk in client.chat.completions.create(**asked, stream=True):
        for choice in chunk.choices:
            texts[choice.index] += choice.delta.content or ""
    assert texts == [choice.message.content for choice in whole.choices]


def test_a_history_is_not_read_twice(client: Any) -> None:
    def tell(messages: list[Any]) -> Any:
        return client.chat.completions.create(model="tiny", messages=messages, max_tokens=4)

    first = tell([{"role": "system", "content": "an egg sat on a wall"}, *HELLO])
    again = tell([{"role": "system", "content": "an egg sat on a wall"}, *HELLO])
    assert again.usage.prompt_tokens_details.cached_tokens >= first.usage.prompt_tokens // 2


def test_echo_tells_the_models_own_logprobs(
    client: Any, model: tuple[Transformer, Tokenizer]
) -> None:
    transformer, tokenizer = model
    ids = [tokenizer.eos, *tokenizer.encode(TEXTS[2])]
    answer = client.completions.create(
        model="tiny", prompt=ids, echo=True, logprobs=2, max_tokens=0
    )
    told = answer.choices[0].logprobs
    assert told.token_logprobs[0] is None
    assert told.token_logprobs[1:] == pytest.approx(logprobs_of(transformer, ids), abs=1e-4)
    assert answer.usage.completion_tokens == 0
    assert answer.choices[0].text == tokenizer.decode(ids)
    for logprob, top in zip(told.token_logprobs[1:], told.top_logprobs[1:], strict=True):
        assert 2 <= len(top) <= 3
        assert logprob in top.values()


def test_one_token_follows_an_echo_even_if_the_text_ends_there(
    client: Any, model: tuple[Transformer, Tokenizer]
) -> None:
    """lm-eval takes the last token off unseen."""
    transformer, tokenizer = model
    ids = [tokenizer.eos, *tokenizer.encode(TEXTS[1])]
    ends = {str(tokenizer.eos): 100}
    answer = client.completions.create(
        model="tiny", prompt=ids, echo=True, logprobs=1, max_tokens=1, logit_bias=ends
    )
    told = answer.choices[0].logprobs.token_logprobs
    assert told[1:-1] == pytest.approx(logprobs_of(transformer, ids), abs=1e-4)


def test_bias_stop_and_length_do_what_they_say(
    client: Any, model: tuple[Transformer, Tokenizer]
) -> None:
    token = model[1].encode("egg")[-1]
    forced = client.completions.create(
        model="tiny", prompt="an", logit_bias={str(token): 100}, max_tokens=3
    )
    written = forced.choices[0]
    assert written.text.count("g") >= 1
    assert written.finish_reason == "length"
    stop = written.text.strip()[:2]
    stopped = client.completions.create(
        model="tiny", prompt="an", logit_bias={str(token): 100}, max_tokens=3, stop=[stop]
    )
    assert stop not in stopped.choices[0].text
    assert stopped.choices[0].finish_reason == "stop"


def test_a_full_context_is_refused_or_shortened(client: Any) -> None:
    turns: list[Any] = [{"role": "user", "content": TEXTS[0]} for _ in range(12)]
    with pytest.raises(openai.BadRequestError) as refused:
        client.chat.completions.create(model="tiny", messages=turns)
    assert refused.value.code == "context_length_exceeded"
    assert "128" in refused.value.message
    shortened = client.chat.completions.create(
        model="tiny", messages=turns, max_tokens=4, extra_body={"truncation": "auto"}
    )
    assert shortened.model_extra["truncation"]["dropped_messages"] > 0


def test_leaving_frees_the_slot(client: Any, engine: Engine) -> None:
    for _ in range(8):  # twice as many as there are slots
        stream = client.completions.create(
            model="tiny",
            prompt="the",
            max_tokens=120,
            stream=True,
            extra_body={"ignore_eos": True},
        )
        next(iter(stream))
        stream.close()
    assert client.completions.create(model="tiny", prompt="the", max_tokens=1).choices


# --- lm-eval


QUESTIONS = 12

UNTIL = ("\n", "e", "Question:", "A:", "B:")

TASKS = {
    "humpty_choice": """
task: humpty_choice
dataset_path: json
dataset_kwargs: {{data_files: {{test: {data}}}}}
test_split: test
output_type: multiple_choice
doc_to_text: "{{{{question}}}}"
doc_to_choice: "{{{{choices}}}}"
doc_to_target: "{{{{label}}}}"
metric_list:
  - metric: acc
  - metric: acc_norm
""",
    "humpty_write": """
task: humpty_write
dataset_path: json
dataset_kwargs: {{data_files: {{test: {data}}}}}
test_split: test
output_type: generate_until
doc_to_text: "{{{{question}}}}"
doc_to_target: "{{{{choices[0]}}}}"
generation_kwargs: {{until: {until}, max_gen_toks: 8}}
metric_list:
  - metric: exact_match
""",
}


def write_tasks(folder: Path) -> None:
    draw = Random(4)
    words = " ".join(TEXTS).split()
    rows = [
        {
            "question": " ".join(draw.choices(words, k=6)),
            "choices": [" ".join(draw.choices(words, k=2)) for _ in range(3)],
            "label": draw.randrange(3),
        }
        for _ in range(QUESTIONS)
    ]
    data = folder / "questions.jsonl"
    data.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))
    for name, task in TASKS.items():
        (folder / f"{name}.yaml").write_text(task.format(data=data, until=json.dumps(UNTIL)))


@pytest.fixture(scope="module")
def evaluated(
    url: str, folder: Path, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, list[dict[str, Any]]]:
    """What lm-eval asked and got, by task."""
    python = os.environ.get("HUMPTY_LM_EVAL")
    if not python:
        pytest.skip("HUMPTY_LM_EVAL names no Python with lm-eval 0.4.12")
    place = tmp_path_factory.mktemp("lm_eval")
    write_tasks(place)
    arguments = f"model=tiny,base_url={url}/v1/completions,tokenizer={folder},num_concurrent=2"
    command = [python, "-m", "lm_eval", "--model", "local-completions"]
    command += ["--model_args", arguments, "--tasks", ",".join(TASKS), "--batch_size", "4"]
    command += ["--include_path", str(place), "--output_path", str(place / "out")]
    command += ["--log_samples"]
    environment = os.environ | {"HF_HUB_OFFLINE": "1", "HF_DATASETS_OFFLINE": "1"}
    environment["HF_HOME"] = str(place / "cache")
    run = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300)
    assert run.returncode == 0, run.stderr[-3000:]
    samples = {}
    for name in TASKS:
        (path,) = (place / "out").rglob(f"samples_{name}_*.jsonl")
        samples[name] = [json.loads(line) for line in path.read_text().splitlines()]
    return samples


@pytest.mark.slow
def test_lm_eval_scores_as_the_model_itself_does(
    evaluated: dict[str, list[dict[str, Any]]], model: tuple[Transformer, Tokenizer]
) -> None:
    transformer, tokenizer = model
    samples = evaluated["humpty_choice"]
    assert len(samples) == QUESTIONS
    for sample in samples:
        scores = []
        for asked, got in zip(sample["arguments"].values(), sample["resps"], strict=True):
            question, choice = asked["arg_0"], asked["arg_1"]
            ids = tokenizer.encode(question + choice)
            read = len(tokenizer.encode(question))
            scores.append(sum(logprobs_of(transformer, ids)[read - 1 :]))
            assert float(got[0][0]) == pytest.approx(scores[-1], abs=1e-3)
        best = scores.index(max(scores))
        assert sample["acc"] == float(best == sample["doc"]["label"])


@pytest.mark.slow
def test_lm_eval_gets_the_text_that_the_model_writes(
    evaluated: dict[str, list[dict[str, Any]]], model: tuple[Transformer, Tokenizer]
) -> None:
    transformer, tokenizer = model
    greedy = SamplingConfig(temperature=0.0, max_tokens=8)
    for sample in evaluated["humpty_write"]:
        prompt = tokenizer.encode(sample["arguments"]["gen_args_0"]["arg_0"])
        ids = list(
            generate(transformer, prompt, greedy, end=tokenizer.eos, never=tokenizer.unwritten)
        )
        stops = StopStrings(UNTIL)
        text = stops.feed(spelled(tokenizer, ids, continues=True)) + stops.finish()
        assert sample["resps"][0][0] == text
