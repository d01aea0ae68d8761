from pathlib import Path

import numpy as np
import pytest
import torch

from llm.artifact import read_model
from llm.data import Cursor
from llm.dpo import DpoPolicy, DpoRecipe, answer_logprobs
from llm.metrics import read_log
from llm.model import Transformer
from llm.outside import Outside
from llm.reference import Reference, kept, read_values
from llm.reward_data import answers_of
from llm.run import Run
from llm.world import CPU
from tests.comparisons import ALONE, SHAPE, again, make_task, run, weights


def test_log_probability_is_of_the_answers_tokens_alone(tmp_path: Path) -> None:
    recipe = DpoRecipe(make_task(tmp_path / "run", "dpo"), ALONE)
    model, one = recipe.module.model, recipe.comparisons[0]
    found = answer_logprobs(model, answers_of([one, recipe.comparisons[1]], CPU))
    for sequence, logprob in zip(one.sequences, found.tolist(), strict=False):
        ids = torch.tensor(sequence)[None].long()
        rows = model(ids).log_softmax(-1)[0]
        each = [rows[t - 1, ids[0, t]].item() for t in range(one.prompt, len(sequence))]
        assert ids[0, one.prompt - 1] == recipe.template.roles["assistant"]
        assert ids[0, -1] == recipe.template.end
        assert logprob == pytest.approx(sum(each), abs=1e-4)


def test_training_starts_with_no_gain_and_ends_with_peoples_choices(tmp_path: Path) -> None:
    task = make_task(tmp_path / "run", "dpo", count=192, epochs=4, prompts=("egg",))
    recipe, figures = run(task, DpoRecipe)
    assert figures["accuracy"] > 0.9 and figures["low"] > 0.8 and figures["margin"] > 0.5
    events = read_log(tmp_path / "run" / "metrics.jsonl")
    first = next(event for event in events if event["event"] == "validation")
    assert first["margin"] == 0 and first["accuracy"] == 0.5
    assert first["loss"] == pytest.approx(np.log(2))
    assert {event["prompt"] for event in events if event["event"] == "sample"} == {"egg"}
    read, _ = read_model(tmp_path / "run")
    assert np.array_equal(weights(read), weights(recipe.module))
    assert (tmp_path / "run" / "chat_template.jinja").exists()


def test_update_does_not_depend_on_the_micro_batch(tmp_path: Path) -> None:
    task = make_task(tmp_path / "one", "dpo", count=20)
    small, _ = run(again(task, tmp_path / "one", micro_batch=1), DpoRecipe)
    whole, _ = run(again(task, tmp_path / "two", micro_batch=8), DpoRecipe)
    assert np.allclose(weights(small.module), weights(whole.module), atol=1e-5)


def test_a_run_that_goes_on_keeps_the_reference_it_began_with(tmp_path: Path) -> None:
    task = make_task(tmp_path / "one", "dpo", count=40)
    task = again(task, tmp_path / "one", checkpoint=type(task.train.checkpoint)(every=2))
    whole, _ = run(task, DpoRecipe)
    halted = again(task, tmp_path / "two")

    def fall(event: dict[str, object]) -> None:
        if event["event"] == "step" and event["step"] == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(halted, DpoRecipe, fall)
    resumed = DpoRecipe(halted, ALONE)
    assert np.array_equal(resumed.reference.values, whole.reference.values)
    Run(halted, resumed, ALONE, Outside()).run()
    assert np.array_equal(weights(resumed.module), weights(whole.module))


def test_kept_numbers_are_worked_out_once(tmp_path: Path) -> None:
    path, calls = tmp_path / "kept" / "train.safetensors", []

    def work() -> np.ndarray:
        calls.append(1)
        return np.array([1.0, -2.5, 3.25])

    for _ in range(2):
        assert kept(path, 3, work, ALONE.world).tolist() == [1.0, -2.5, 3.25]
    assert len(calls) == 1
    path.write_bytes(path.read_bytes()[:-4])  # half a file, as another program may leave it
    assert read_values(path, 3) is None
    assert kept(path, 3, work, ALONE.world).tolist() == [1.0, -2.5, 3.25] and len(calls) == 2
    assert kept(tmp_path / "none", 0, work, ALONE.world).tolist() == []


def test_reference_is_found_by_comparison() -> None:
    reference = Reference(np.arange(7.0), np.array([2, 3, 2]))
    assert len(reference) == 3
    assert reference.of([2, 0]).tolist() == [5, 6, 0, 1]
    assert reference.of([]).tolist() == []


def test_behind_the_last_epoch_there_is_nothing_to_learn(tmp_path: Path) -> None:
    recipe = DpoRecipe(make_task(tmp_path / "run", "dpo"), ALONE)
    portion = next(iter(recipe.portions(Cursor(1, 0))))
    assert portion.weight == 0 and portion.tokens == 0 and len(portion) == 4
    loss = recipe.module(**portion.arguments(CPU, 0))
    loss.backward()
    gradients = [p.grad for p in recipe.module.parameters()]
    assert loss.item() == 0 and all(g is not None and not g.any() for g in gradients)


def test_nothing_is_dropped_in_training() -> None:
    shape = type(SHAPE)(**{**vars(SHAPE), "dropout": 0.5})
    policy = DpoPolicy(Transformer(shape, 20), 0.1, 0.0).train()
    ids = torch.arange(12).view(1, 12)
    assert torch.equal(policy.model(ids), policy.model(ids))
