"""Several pretrainings in one plot."""

from types import SimpleNamespace
from typing import Any

from jobs.report_compared import FIGURES, compared, compared_section
from tests.made_runs import held_out


def trained(name: str, *values: dict[str, Any]) -> Any:
    return SimpleNamespace(name=name, log=held_out(*values))


def run_of(*stages: Any) -> Any:
    return SimpleNamespace(of=lambda kind: list(stages) if kind == "pretrain" else [])


def test_two_pretrainings_are_curves_of_one_plot_with_their_names():
    small = trained("small", {"bpb": 4.0}, {"bpb": 3.0}, {"bpb": 2.5})
    large = trained("<large>", {"bpb": 4.0}, {"bpb": 2.0})
    other = trained("other", {"filled": 0.5})
    [section] = compared_section(run_of(small, large, other))
    assert section.count("<svg") == 1 and "Bits per byte" in section
    assert ">small<" in section and "&lt;large&gt;" in section and "other" not in section
    assert "2.5 / 2" in section, "where they have come to"


def test_losses_are_compared_of_those_that_fill_in_alone():
    first = trained("first", {"bpb": 4.0, "loss": 9.0}, {"bpb": 3.0, "loss": 8.0})
    masked = trained("masked", {"loss": 9.0}, {"loss": 7.0})
    gaps = trained("gaps", {"loss": 9.0}, {"loss": 6.5})
    assert not list(compared_section(run_of(first, masked)))
    [section] = compared_section(run_of(first, masked, gaps))
    assert "7 / 6.5" in section and ">first<" not in section


def test_one_pretraining_is_compared_with_nothing():
    alone = trained("alone", {"bpb": 4.0}, {"bpb": 3.0})
    assert not list(compared_section(run_of(alone)))
    assert compared([alone], FIGURES[0]) == ""
