"""Conversations: what each schema makes of a row, what is refused and how it is said."""

import gzip
import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from llm.align_config import ChatDataConfig
from llm.chat import Conversation, Turn
from llm.conversations import question_of, read_conversations
from llm.errors import DataError, SpecError
from llm.rows import row_shards, row_units
from llm.shards import list_units

HI = Turn("user", "Hi")
HELLO = Turn("assistant", "Hello")


def write(path: Path, rows: list[Any]) -> str:
    """Rows as jsonl."""
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)


def config(shards: str | Path, **options: Any) -> ChatDataConfig:
    return ChatDataConfig(shards=(str(shards),), **options)


def read(shards: str | Path, **options: Any) -> list[Conversation]:
    """All conversations of some files."""
    made = config(shards, **options)
    return [turns for unit in row_units(made) for turns in read_conversations(unit, made)]


def one(tmp_path: Path, row: Any, **options: Any) -> Conversation:
    """What is made of a single row."""
    (turns,) = read(write(tmp_path / "rows.jsonl", [row]), **options)
    return turns


def refusal(tmp_path: Path, row: Any, **options: Any) -> str:
    """What is said of a single row, which stands in the second line."""
    path = write(tmp_path / "rows.jsonl", [])
    Path(path).write_text("\n" + json.dumps(row) + "\n")
    with pytest.raises(DataError) as error:
        read(path, **options)
    message = str(error.value)
    assert message.startswith(f"{path}, line 2: ")
    return message.removeprefix(f"{path}, line 2: ")


# -- schemas ---------------------------------------------------------------------------------------


def test_messages_keep_order_and_weights(tmp_path: Path) -> None:
    row = {
        "messages": [
            {"role": "system", "content": "Be brief."},
            {"role": "user", "content": "Hi"},
            {"role": "assistant", "content": "Hello", "weight": 0},
            {"role": "user", "content": [{"type": "text", "text": "A"}]},
            {"role": "assistant", "content": "B", "weight": 0.5},
        ]
    }
    assert one(tmp_path, row) == (
        Turn("system", "Be brief."),
        HI,
        Turn("assistant", "Hello", 0.0),
        Turn("user", "A"),
        Turn("assistant", "B", 0.5),
    )


def test_sharegpt_speakers_are_known_by_their_usual_names(tmp_path: Path) -> None:
    row = {"conversations": [{"from": "human", "value": "Hi"}, {"from": "gpt", "value": "Hello"}]}
    assert one(tmp_path, row, schema="sharegpt") == (HI, HELLO)


def test_other_speakers_are_named_by_roles(tmp_path: Path) -> None:
    row = {"talk": [{"from": "patient", "value": "Hi"}, {"from": "doctor", "value": "Hello"}]}
    options = {"schema": "sharegpt", "columns": {"conversations": "talk"}}
    told = one(tmp_path, row, roles={"patient": "user", "doctor": "assistant"}, **options)
    assert told == (HI, HELLO)
    message = refusal(tmp_path, row, **options)
    assert "speaker 'patient' at talk.0" in message and "roles: {patient: user}" in message


def test_alpaca_puts_the_input_below_the_instruction(tmp_path: Path) -> None:
    row = {"instruction": "Add.", "input": "1 + 1", "output": "2"}
    assert one(tmp_path, row, schema="alpaca") == (
        Turn("user", "Add.\n1 + 1"),
        Turn("assistant", "2"),
    )
    bare = {"instruction": "Hi", "input": " ", "output": "Hello"}
    assert one(tmp_path, bare, schema="alpaca") == (HI, HELLO)


def test_alpaca_history_comes_before_and_its_system_prompt_first(tmp_path: Path) -> None:
    row = {"instruction": "B", "output": "b", "system": "Be brief.", "history": [["Hi", "Hello"]]}
    system = Turn("system", "Be brief.")
    told = one(tmp_path, row, schema="alpaca", system="Talk.")
    assert told == (system, HI, HELLO, Turn("user", "B"), Turn("assistant", "b"))


def test_a_path_goes_into_lists_and_objects(tmp_path: Path) -> None:
    row = {"q.1": "Hi", "instances": [{"output": "Hello"}, {"output": "no"}]}
    columns = {"question": "q.1", "answer": "instances.0.output"}
    assert one(tmp_path, row, schema="question_answer", columns=columns) == (HI, HELLO)


def test_the_configs_system_prompt_is_for_conversations_without_one(tmp_path: Path) -> None:
    row = {"question": "Hi", "answer": "Hello"}
    told = one(tmp_path, row, schema="question_answer", system="Talk.")
    assert told == (Turn("system", "Talk."), HI, HELLO)


def test_rows_without_an_answer_are_left_out_and_counted(tmp_path: Path) -> None:
    rows = [
        {"messages": [{"role": "user", "content": "Hi"}]},
        {"messages": []},
        {"messages": [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": " \n"}]},
        {"messages": [{"role": "assistant", "content": None}]},
        {"messages": [{"role": "assistant", "content": "Hello"}]},
    ]
    made = config(write(tmp_path / "rows.jsonl", rows))
    reasons: Counter[str] = Counter()
    (unit,) = row_units(made)
    kept = list(read_conversations(unit, made, lambda reason: reasons.update([reason])))
    assert kept == [(HELLO,)]
    assert reasons == {"no answer": 2, "empty answer": 2}


def test_the_question_is_the_first_user_turn() -> None:
    assert question_of((Turn("system", "Talk."), HI, HELLO, Turn("user", "More"))) == "Hi"
    assert question_of((HELLO,)) == "Hello"


# -- files -----------------------------------------------------------------------------------------


def test_the_same_rows_are_read_from_every_format(tmp_path: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    rows = [
        {
            "messages": [
                {"role": "user", "content": f"问 {i}"},
                {"role": "gpt", "content": f"答 {i}"},
            ]
        }
        for i in range(700)
    ]
    lines = write(tmp_path / "a.jsonl", rows)
    (tmp_path / "b.json").write_text("\ufeff \n" + json.dumps(rows, ensure_ascii=False))
    (tmp_path / "c.json").write_text(Path(lines).read_text())
    (tmp_path / "d.jsonl.gz").write_bytes(gzip.compress(Path(lines).read_bytes()))
    (tmp_path / "e.json.gz").write_bytes(gzip.compress(json.dumps(rows).encode()))
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "f.parquet", row_group_size=100)
    expected = read(lines)
    assert len(expected) == 700
    for path in sorted(tmp_path.iterdir()):
        assert read(path) == expected, path
    formats = [shard.format for shard in row_shards(config(tmp_path))]
    assert formats == ["jsonl", "json", "jsonl", "jsonl", "json", "parquet"]


def test_columns_that_nobody_asks_for_are_not_read_but_named(tmp_path: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    never = pa.array([2**62], pa.timestamp("ms"))  # a date that Python does not have
    rows = {"question": ["Hi"], "replies": [[{"text": "Hello"}]], "date": never}
    pq.write_table(pa.table(rows), tmp_path / "rows.parquet")
    columns = {"answer": "replies.0.text"}
    told = read(tmp_path / "rows.parquet", schema="question_answer", columns=columns)
    assert told == [(HI, HELLO)]
    with pytest.raises(DataError, match=r"row 0: has nothing .* keys are question, replies, date;"):
        read(tmp_path / "rows.parquet", schema="question_answer")


def test_a_unit_from_the_middle_reads_its_own_rows(tmp_path: Path) -> None:
    rows = [{"question": f"q{i}", "answer": "a" * 97} for i in range(200)]
    path = write(tmp_path / "rows.jsonl", rows)
    made = config(path, schema="question_answer")
    units = list_units(row_shards(made), unit_bytes=1000)
    assert len(units) > 20
    told = [turns for unit in units for turns in read_conversations(unit, made)]
    assert [turns[0].text for turns in told] == [row["question"] for row in rows]


def test_an_array_that_is_too_large_says_convert(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("llm.rows.MOST_BYTES", 1 << 20)
    (tmp_path / "rows.json").write_text("[" + " " * (1 << 20) + "]")
    with pytest.raises(DataError, match=r"rows\.json: is JSON of more than 1 MiB.*jsonl: jq -c"):
        read(tmp_path / "rows.json")


def test_files_of_other_kinds_are_refused_by_name(tmp_path: Path) -> None:
    (tmp_path / "rows.csv").write_text("a,b\n")
    with pytest.raises(DataError, match=r"does not tell its format.*jsonl, json, parquet"):
        read(tmp_path / "rows.csv")
    with pytest.raises(DataError, match=r"no file with rows in it \(\.jsonl \.json \.parquet"):
        read(tmp_path)


# -- refusals --------------------------------------------------------------------------------------


def test_a_missing_field_names_the_keys_that_are_there(tmp_path: Path) -> None:
    row = {"question": "Hi", "response": "Hello"}
    message = refusal(tmp_path, row, schema="question_answer")
    assert message == (
        "has nothing at 'answer' for 'answer' of schema question_answer; its keys are question, "
        "response; say where it is: columns: {answer: ...}, or set another schema"
    )


@pytest.mark.parametrize(
    ("row", "words"),
    [
        ({"messages": "Hi"}, "has a string at 'messages'; expected a list"),
        ({"messages": ["Hi"]}, "has a string at messages.0; expected a message"),
        ({"messages": [{"content": "Hi"}]}, "at messages.0 with the keys content; expected role"),
        ({"messages": [{"role": "user"}]}, "with the keys role; expected role and content"),
        ({"messages": [{"role": "user", "content": 3}]}, "has a number at messages.0; expected a"),
        ({"messages": [{"role": "user", "content": [{"type": "image"}]}]}, "has a part 'image'"),
        ({"messages": [{"role": "user", "content": "\ud83d"}]}, "that are no Unicode"),
        ({"messages": [{"role": "a", "content": "Hi"}]}, "has a speaker 'a' at messages.0"),
        (
            {"messages": [{"role": "user", "content": "Hi", "weight": -1}]},
            "has the weight -1.0 at messages.0",
        ),
        ({"messages": [{"role": "user", "content": "Hi", "weight": "1"}]}, "has '1' as weight"),
        ([1], "holds a list; expected an object"),
    ],
)
def test_what_does_not_fit_is_refused_with_its_place(tmp_path: Path, row: Any, words: str) -> None:
    assert words in refusal(tmp_path, row)


def test_a_row_of_an_array_is_named_by_its_number(tmp_path: Path) -> None:
    (tmp_path / "rows.json").write_text('[{"question": "Hi", "answer": "Hello"}, {}]')
    with pytest.raises(DataError, match=r"rows\.json, row 1: has nothing at 'question'"):
        read(tmp_path / "rows.json", schema="question_answer")


@pytest.mark.parametrize("form", ["json", "jsonl"])
def test_other_encodings_are_refused_with_a_remedy(tmp_path: Path, form: str) -> None:
    (tmp_path / "rows").write_bytes('[{"question": "Hi", "answer": "Hello"}]'.encode("utf-16"))
    with pytest.raises(DataError, match=r"has bytes that are not UTF-8; convert the file: iconv"):
        read(tmp_path / "rows", schema="question_answer", format=form)


def test_a_mapping_of_what_is_no_field_is_refused_before_reading(tmp_path: Path) -> None:
    path = write(tmp_path / "rows.jsonl", [{}])
    with pytest.raises(SpecError, match=r"data\.columns: anwser is no field of schema question_a"):
        read(path, schema="question_answer", columns={"anwser": "output"})
    with pytest.raises(SpecError, match=r"data\.roles: doctor: helper is no role; allowed are sys"):
        read(path, roles={"doctor": "helper"})


# -- real and hostile files ------------------------------------------------------------------------

REAL: dict[str, tuple[dict[str, Any], int]] = {
    "seed_tasks_en_175.jsonl": (
        {
            "schema": "alpaca",
            "columns": {"input": "instances.0.input", "output": "instances.0.output"},
        },
        175,
    ),
    "belle_zh_seed_tasks_175.jsonl": (
        {
            "schema": "alpaca",
            "columns": {"input": "instances.0.input", "output": "instances.0.output"},
        },
        175,
    ),
    "alpaca_en_demo.json": ({"schema": "alpaca"}, 999),
    "alpaca_zh_demo.json": ({"schema": "alpaca"}, 1000),
    "identity.json": ({"schema": "alpaca"}, 91),
    "litgpt_dolly.json": (
        {"schema": "alpaca", "columns": {"input": "context", "output": "response"}},
        12,
    ),
    "litgpt_longform_train.json": (
        {"schema": "question_answer", "columns": {"question": "input", "answer": "output"}},
        17,
    ),
    "gsm8k_train.jsonl.gz": ({"schema": "question_answer"}, 7473),
    "belle_open_source_1k.jsonl": ({"schema": "alpaca"}, 1000),
}


@pytest.mark.parametrize("name", REAL)
def test_real_files_are_read_by_a_declared_mapping(shared_data: Path, name: str) -> None:
    options, count = REAL[name]
    assert len(read(shared_data / "c_sft" / name, **options)) == count


def test_every_real_file_is_in_the_list(shared_data: Path) -> None:
    names = {path.name for path in (shared_data / "c_sft").iterdir()}
    assert names - set(REAL) == {"llamafactory_dataset_info.json"}  # a list of data sets


def test_placeholders_stay_text(shared_data: Path) -> None:
    first = read(shared_data / "c_sft" / "identity.json", schema="alpaca")[0]
    assert "I am {{name}}, an AI assistant developed by {{author}}" in first[-1].text


@pytest.mark.parametrize("form", ["jsonl", "json", "auto"])
def test_hostile_json_is_refused_and_never_a_traceback(shared_data: Path, form: str) -> None:
    paths = sorted((shared_data / "g_hostile" / "JSONTestSuite").glob("*.json"))
    outcomes = {path.name: outcome(path, form) for path in paths if path.stat().st_size}
    assert len(outcomes) == 317
    read = {name for name, what in outcomes.items() if what == "read"}
    lines = {"n_single_space.json", "n_structure_UTF8_BOM_no_data.json"}  # no row in them
    arrays = {"y_array_empty.json", "y_structure_whitespace_array.json"}
    assert read == {"jsonl": lines, "json": arrays, "auto": lines | arrays}[form]


def outcome(path: Path, form: str) -> str:
    """What becomes of a file."""
    try:
        rows = read(path, format=form, schema="question_answer")
    except DataError as error:
        assert str(path) in str(error) and "\n" not in str(error)
        return "refused"
    assert not rows
    return "read"
