"""The average of the weights: by hand, in validations and as the finished model, after a fall."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import nn

from llm.ema import SLOT, average, averaged
from llm.fell import Fell
from tests.tasks import losses, run_plain, write_task


def test_the_average_by_hand():
    # After update 0: 2. Then decay min(0.5, 2 / 11): 2 + 9/11 (4 - 2); then min(0.5, 3 / 12).
    layer = nn.Linear(1, 1, bias=False)
    optimizer = torch.optim.AdamW(layer.parameters())
    layer(torch.ones(1, 1)).sum().backward()
    optimizer.step()
    found = []
    for step, value in enumerate((2.0, 4.0, 6.0)):
        nn.init.constant_(layer.weight, value)
        average(optimizer, 0.5, step)
        found.append(optimizer.state[layer.weight][SLOT].item())
    second = 2 + 9 / 11 * 2
    assert found == pytest.approx([2, second, second + 0.75 * (6 - second)])


def test_inside_the_model_has_the_averages_and_behind_it_its_own_weights():
    layer = nn.Linear(3, 3)
    optimizer = torch.optim.AdamW(layer.parameters())
    layer(torch.ones(1, 3)).sum().backward()
    with averaged(optimizer):  # there are none yet
        pass
    optimizer.step()
    average(optimizer, 0.9, 0)
    kept = layer.weight.detach().clone()
    optimizer.step()
    own = layer.weight.detach().clone()
    with averaged(optimizer):
        assert torch.equal(layer.weight, kept)
    assert torch.equal(layer.weight, own)
    assert torch.equal(optimizer.state[layer.weight][SLOT], kept)


@pytest.mark.slow
def test_a_run_that_fell_has_the_same_average_and_it_is_the_finished_model(tmp_path: Path):
    task = write_task(tmp_path, steps=12, save_every=4, validate_every=6)
    record = json.loads(task.read_text())
    record["train"]["optim"]["ema"] = 0.9
    task.write_text(json.dumps(record))
    run_plain(task, tmp_path / "one")

    def fall(event: dict) -> None:
        if event["event"] == "step" and event["step"] == 10:
            raise OSError("fell")

    with pytest.raises(Fell):
        run_plain(task, tmp_path / "two", fall)
    run_plain(task, tmp_path / "two")
    assert losses(tmp_path / "one") == losses(tmp_path / "two")
    made = [load_file(tmp_path / name / "model.safetensors") for name in ("one", "two")]
    last = tmp_path / "one/checkpoints/step-000012"
    weights, state = (load_file(last / f"{n}.safetensors") for n in ("model", "optimizer"))
    for name, value in made[0].items():
        assert torch.equal(value, made[1][name])
        assert torch.equal(value, state[f"{name}/{SLOT}"])
        assert not torch.equal(value, weights[name])
