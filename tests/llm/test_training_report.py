"""report.html of any training: by the keys that are there, at any time, whatever the texts."""

import json
import math
from html.parser import HTMLParser
from pathlib import Path

import pytest

from llm.answers import Answered
from llm.errors import ArtifactError
from llm.metrics import Event
from llm.page import POLICY
from llm.training_report import progress, report_page, spread, write_report

HOSTILE = "<script>alert(1)</script>\u202e\x00<img src=x onerror=y> \"'&amp;"

PPO_STEP = {
    "reward": 1.0,
    "score": 0.8,
    "kl": 2.0,
    "coefficient": 0.1,
    "entropy": 1.5,
    "length": 12.0,
    "ended": 0.9,
    "same": 0.1,
    "clip_fraction": 0.1,
    "approx_kl": 0.01,
    "explained_variance": math.nan,
    "policy_loss": -0.1,
    "value_loss": 0.2,
    "mismatch": 1e-4,
    "phases": {"rollout": 1.0, "logprobs": 0.5, "reward": 0.25, "update": 1.0},
}
COMMON = {"lr": 1e-4, "grad_norm": 1.0, "tokens_per_second": 1000.0}
INTERVAL = {"accuracy": 0.7, "low": 0.65, "high": 0.75, "pairs": 300}

TRAININGS: dict[str, tuple[Event, Event, set[str]]] = {
    "pretrain": (
        {"loss": 3.0, "mfu": 0.4, "data_wait": 0.0},
        {"loss": 3.1, "bpb": 1.2},
        {"Loss", "Bits per byte", "Learning rate", "Gradient norm", "Use of the machine"},
    ),
    "sft": ({"loss": 2.0}, {"loss": 2.1, "perplexity": 8.2}, {"Loss", "Perplexity"}),
    "reward": (
        {"loss": 0.6},
        {**INTERVAL, "calibration": 0.1, "length_correlation": 0.2, "length_baseline": 0.5},
        {"Loss", "Accuracy", "Calibration", "Reward and length"},
    ),
    "dpo": ({"loss": 0.6}, {**INTERVAL, "margin": 1.5}, {"Loss", "Accuracy", "Margin"}),
    "ppo": (
        PPO_STEP,
        {"reward": 0.9, "kl": 2.0, "length": 11.0, "preference": 0.6},
        {
            "Reward",
            "Preference",
            "Divergence",
            "KL coefficient",
            "Entropy",
            "Length",
            "Ended and alike",
            "Clip fraction",
            "Size of updates",
            "Policy loss",
            "Value loss",
            "Mismatch",
            "Seconds per step",
        },
    ),
}


def start(step: int = 0, steps: int = 4, time: float = 100.0) -> Event:
    facts = {"parameters": 4_230_000, "workers": 2, "device": "cpu", "precision": "bf16"}
    return {"event": "start", "step": step, "steps": steps, "time": time, **facts}


def end(step: int = 4, time: float = 165.0) -> Event:
    return {"event": "end", "step": step, "time": time}


class Reader(HTMLParser):
    """What a browser would see: elements, their text, whether all of them are closed."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.open: list[str] = []
        self.titles: list[str] = []
        self.links: list[str] = []
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.links += [value or "" for key, value in attrs if key in ("src", "href", "xlink:href")]
        if tag not in ("meta", "link", "img"):
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)
        self.open.pop()

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open[-2:] == ["figcaption", "b"]:
            self.titles.append(data)


@pytest.mark.parametrize("kind", TRAININGS)
def test_every_training_shows_what_it_logged_and_nothing_else(kind: str, tmp_path: Path) -> None:
    step, validation, expected = TRAININGS[kind]
    log = [start()]
    log += [{"event": "step", "step": n, "steps": 4, **COMMON, **step} for n in (1, 2, 3, 4)]
    log += [{"event": "validation", "step": n, **validation} for n in (2, 4)]
    log += [end()]
    (tmp_path / "metrics.jsonl").write_text("".join(json.dumps(event) + "\n" for event in log))
    page = Reader(write_report(tmp_path, kind).read_text())
    assert page.open == []
    assert set(page.titles) == expected | {"Learning rate", "Gradient norm", "Tokens per second"}


def test_page_needs_nothing_else_and_forbids_scripts() -> None:
    log = [start(), {"event": "step", "step": 1, "loss": 1.0}]
    html = report_page("x", log)
    page = Reader(html)
    assert POLICY in html
    assert not {"script", "link", "img", "iframe", "style svg"} & set(page.tags)
    assert all(link.startswith("#") for link in page.links)


def test_hostile_texts_stay_texts() -> None:
    answers: list[Answered] = [{"prompt": HOSTILE, "answers": {HOSTILE: HOSTILE}}]
    log = [
        {**start(), "device": HOSTILE},
        {"event": "sample", "step": 1, "prompt": HOSTILE, "text": HOSTILE},
        {"event": "guard", "step": 1, "kind": "x", "action": HOSTILE, "message": HOSTILE},
    ]
    html = report_page(HOSTILE, log, answers)
    page = Reader(html)
    assert page.open == []
    assert not {"script", "img"} & set(page.tags)
    assert "\u202e" not in html and "\x00" not in html
    assert html.count("[U+202E]") >= 8


def test_a_training_says_how_far_it_came_and_where_it_went_on() -> None:
    first = start(time=0.0)
    assert progress([first, end(4, 65.0)], [first]) == "4 steps in 1m 05s"
    assert progress([first, {"event": "step", "step": 3}], [first]) == "3 of 4 steps, no end yet"
    again = start(2, time=50.0)
    log = [first, again, end(4, 65.0)]
    assert progress(log, [first, again]) == "4 steps in 1m 05s, went on after step 2"


def test_a_step_that_was_left_out_stands_above_all_figures() -> None:
    fault = {"event": "fault", "step": 3, "action": "roll_back", "loss": None, "why": "it is nan"}
    html = report_page("x", [start(), {"event": "step", "step": 4, "loss": 1.0}, fault])
    assert "<b>roll back at step 3</b>: it is nan" in html


def test_what_a_guard_did_stands_above_all_figures() -> None:
    guard = {"event": "guard", "step": 3, "kind": "entropy", "action": "stop", "message": "It fell"}
    html = report_page("ppo", [start(), {"event": "step", "step": 3, "reward": 1.0}, guard])
    assert "<b>stop at step 3</b>: It fell" in html
    assert html.index("stop at step 3") < html.index("<svg")


def test_samples_are_the_first_the_last_and_some_between() -> None:
    log = [start()]
    log += [{"event": "sample", "step": n, "prompt": "P", "text": f"T{n}"} for n in range(0, 101)]
    html = report_page("x", log)
    shown = [n for n in range(101) if f">T{n}<" in html]
    assert shown == [0, 20, 40, 60, 80, 100]
    assert spread([1, 2], 6) == [1, 2]


def test_answers_stand_side_by_side_below_their_prompt() -> None:
    answers: list[Answered] = [{"prompt": "Why?", "answers": {"sft": "So.", "ppo": "Because."}}]
    html = report_page("x", [start()], answers)
    assert html.index("Why?") < html.index("sft") < html.index("So.") < html.index("Because.")


def test_an_empty_log_makes_a_page_and_a_missing_one_an_error(tmp_path: Path) -> None:
    (tmp_path / "metrics.jsonl").write_text("")
    assert "Nothing has been logged yet" in write_report(tmp_path).read_text()
    with pytest.raises(ArtifactError, match=r"metrics\.jsonl: is not there; give the folder"):
        write_report(tmp_path / "elsewhere")


def test_a_line_that_is_still_being_written_is_left_out(tmp_path: Path) -> None:
    lines = json.dumps(start()) + "\n" + '{"event": "step", "st'
    (tmp_path / "metrics.jsonl").write_text(lines)
    assert "0 of 4 steps, no end yet" in write_report(tmp_path).read_text()
