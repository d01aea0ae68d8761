"""What a report says of falls: nothing if there were none, and whatever causes are called."""

from llm.falls import Account, Fall
from llm.falls_report import MOST_ROWS, falls_section, goodput_tile, marks
from llm.training_report import report_page

LOG = [
    {
        "event": "start",
        "step": 0,
        "steps": 90,
        "parameters": 1000,
        "workers": 2,
        "device": "cpu",
        "precision": "bf16",
        "time": 0.0,
    },
    {"event": "step", "step": 40, "loss": 3.0},
    {"event": "step", "step": 80, "loss": 2.0},
]
FELL = Fall(1000.0, 37, "the worker was killed (rank 1)", resumed=30, redone=7, lost=19.0)


def section(account: Account) -> str:
    return "\n".join(falls_section(account))


def test_a_training_that_never_fell_has_neither_section_nor_tile_nor_marks() -> None:
    account = Account((), 1.0, 100.0)
    assert section(account) == "" and goodput_tile(account) == "" and marks(()) == []
    page = report_page("x", LOG, account=account)
    assert "Falls" not in page and "goodput" not in page


def test_a_fall_is_a_row_a_tile_and_a_mark() -> None:
    page = report_page("x", LOG, account=Account((FELL,), 1.0, 100.0))
    cells = ("37", "the worker was killed (rank 1)", "30", "7", "19s")
    assert "".join(f"<td>{cell}</td>" for cell in cells) in page
    assert "<b>80.0%</b><small>1 fall</small>" in page
    without = report_page("x", LOG)
    assert page.count("stroke-dasharray") == without.count("stroke-dasharray") + 1


def test_a_fall_that_is_not_over_says_so_and_one_without_steps_has_no_mark() -> None:
    account = Account((Fall(1.0, None, "its node died"), Fall(2.0, 5, "killed", resumed=0)), 0, 9.0)
    assert section(account).count("not yet up") == 2
    assert marks(account.falls) == [{"event": "fall", "step": 5}]


def test_a_cause_is_shown_as_it_is() -> None:
    text = section(Account((Fall(1.0, 3, "<script>\u202e"),), 0.0, 9.0))
    assert "<script>" not in text and "&lt;script&gt;[U+202E]" in text


def test_of_many_falls_the_newest_are_shown() -> None:
    falls = tuple(Fall(float(i), i, f"cause {i}.", lost=1.0) for i in range(MOST_ROWS + 3))
    text = section(Account(falls, 0.0, 900.0))
    assert "The 3 oldest are not shown" in text
    assert "cause 2." not in text and "cause 3." in text and f"cause {MOST_ROWS + 2}." in text
