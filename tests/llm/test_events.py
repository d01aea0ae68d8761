"""events.jsonl: whole lines in order, whatever cut the last one off."""

import subprocess
import sys
from pathlib import Path

from llm.events import NAME, note, read

ROOT = Path(__file__).parents[2]


def test_what_is_noted_is_read_in_order_with_its_time(tmp_path: Path) -> None:
    note(tmp_path, "fall", cause="worker killed", rank=1)
    note(tmp_path, "begin", step=40)
    first, second = read(tmp_path)
    assert (first["event"], first["cause"], first["rank"]) == ("fall", "worker killed", 1)
    assert (second["event"], second["step"]) == ("begin", 40)
    assert first["at"] <= second["at"]


def test_nothing_has_befallen_a_new_folder(tmp_path: Path) -> None:
    assert read(tmp_path) == []


def test_a_torn_line_costs_itself_alone(tmp_path: Path) -> None:
    note(tmp_path, "begin", step=0)
    with open(tmp_path / NAME, "a") as file:
        file.write('{"at": 1.0, "event": "fa')
    assert [event["event"] for event in read(tmp_path)] == ["begin"]
    note(tmp_path, "fall")
    note(tmp_path, "end")
    assert [event["event"] for event in read(tmp_path)] == ["begin", "fall", "end"]


def test_writers_at_once_tear_no_line(tmp_path: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from llm.events import note\n"
        "for i in range(50): note(Path(sys.argv[1]), 'fall', writer=sys.argv[2], i=i, "
        "cause='x' * 500)"
    )
    writers = [
        subprocess.Popen([sys.executable, "-c", code, str(tmp_path), str(one)], cwd=ROOT)
        for one in range(3)
    ]
    assert [writer.wait() for writer in writers] == [0, 0, 0]
    events = read(tmp_path)
    for one in "012":
        assert [event["i"] for event in events if event["writer"] == one] == list(range(50))
