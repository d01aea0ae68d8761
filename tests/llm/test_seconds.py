"""Step times by arithmetic: numbers worked by hand, and trainings that others published."""

from dataclasses import replace
from statistics import mean

import pytest

from llm.config import ModelConfig
from llm.errors import SpecError
from llm.gpus import GPUS, known_gpu
from llm.memory import Kernels, Layout
from llm.seconds import Machine, compute_seconds, machine_of, rate
from llm.size import flops_per_token, parameters
from tests.published import LLAMA_8B, LLAMA_70B, PUBLISHED

MODEL = ModelConfig(depth=2, width=64, heads=1, hidden=192, context=128)
FLAT = Machine(products=((1.0, 1e9),), bandwidth=1e9, attention=1.0, handing_out=0.0)


def test_speeds_between_two_sizes_lie_on_a_line_of_logarithms():
    curve = ((100.0, 1e9), (400.0, 4e9))
    assert [rate(curve, size) for size in (50, 100, 400, 1000)] == [1e9, 1e9, 4e9, 4e9]
    assert rate(curve, 200) == pytest.approx(2e9)


def test_products_and_attention_are_palms_count_of_flops():
    layout = Layout(micro_batch=3, rounds=2)
    parts = compute_seconds(MODEL, 500, layout, Kernels(), FLAT)
    flops = 6 * MODEL.context * flops_per_token(MODEL, 500)
    assert (parts["products"] + parts["attention"]) * 1e9 == pytest.approx(flops)


def test_computing_a_layer_again_costs_a_third_of_its_products():
    def products(recompute):
        layout = Layout(micro_batch=1, recompute=recompute)
        return compute_seconds(MODEL, 0, layout, Kernels(), FLAT)["products"]

    assert products("full") == pytest.approx(4 / 3 * products("none"))
    assert products("selective") == pytest.approx(7 / 6 * products("none"))


def test_a_gpu_waits_for_operations_only_as_far_as_it_has_nothing_to_do():
    layout = Layout(micro_batch=1)
    slow = replace(FLAT, handing_out=1e-6)
    alone = compute_seconds(MODEL, 500, layout, Kernels(), replace(slow, meanwhile=False))
    assert alone["operations"] == pytest.approx(640e-6)  # 2 x 220 + 200
    assert compute_seconds(MODEL, 500, layout, Kernels(), slow)["operations"] == 0
    idle = replace(slow, products=((1.0, 1e18),), bandwidth=1e18)
    parts = compute_seconds(MODEL, 500, layout, Kernels(), idle)
    assert sum(parts.values()) == pytest.approx(640e-6)


def test_a_compiler_spares_memory():
    def passing(compiled):
        machine = replace(machine_of(GPUS["h100"], compiled), handing_out=0.0)
        return compute_seconds(MODEL, 500, Layout(micro_batch=1), Kernels(), machine)["memory"]

    assert passing(True) < passing(False) / 2


def test_the_stand_ins_for_llama_have_its_size():
    """8,030,261,248 and 70,553,706,496: meta-llama/Meta-Llama-3-8B and 70B."""
    assert sum(parameters(LLAMA_8B, 128_256).values()) == 8_030_261_248
    assert sum(parameters(LLAMA_70B, 128_256).values()) == pytest.approx(70_553_706_496, rel=1e-3)


@pytest.mark.parametrize("one", PUBLISHED, ids=lambda one: one.name)
def test_published_step_times_within_30_percent(one):
    assert one.predicted_seconds == pytest.approx(one.seconds, rel=0.30)


def test_published_step_times_within_15_percent_on_average():
    errors = [abs(one.predicted_seconds / one.seconds - 1) for one in PUBLISHED]
    assert mean(errors) < 0.15


def test_data_sheets_promise_more_than_was_ever_reached():
    assert all(gpu.best < gpu.peak for gpu in GPUS.values())


def test_an_unknown_gpu_is_told_with_those_that_are_known():
    with pytest.raises(SpecError, match=r"--gpu v100: not known; there are a100-40, a100, h100, "):
        known_gpu("v100")
    assert known_gpu("H100") is GPUS["h100"]
