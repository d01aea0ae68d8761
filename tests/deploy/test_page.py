"""The page's files and the routes behind it, without a browser."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from fastapi import FastAPI
from starlette.testclient import TestClient

from deploy.config import ServeConfig
from deploy.feedback import FeedbackStore
from deploy.page import FOLDER, PATHS, page_router
from tests.deploy.stub import Stub

RATING = {
    "kind": "rating",
    "id": "rating-01",
    "consent": True,
    "model": "humpty-chat",
    "artifact": "a1b2c3",
    "prompt": [{"role": "user", "content": "Hi"}],
    "answer": "Hello",
    "rating": 1,
}


def client_of(feedback: FeedbackStore | None, **config: Any) -> TestClient:
    app = FastAPI()
    app.include_router(page_router(ServeConfig(**config), Stub().models, feedback))
    return TestClient(app)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[FeedbackStore]:
    opened = FeedbackStore(tmp_path / "feedback")
    yield opened
    opened.close()


@pytest.fixture
def client(store: FeedbackStore) -> TestClient:
    return client_of(store)


def error(response: Any) -> dict[str, Any]:
    """The error of a response, which has nothing else."""
    body = response.json()
    assert list(body) == ["error"] and list(body["error"]) == ["message", "type", "param", "code"]
    return body["error"]


# -- files -----------------------------------------------------------------------------------------


def test_files_have_a_type_a_tag_and_a_policy_that_forbids_what_is_not_theirs(
    client: TestClient,
) -> None:
    types = {"/": "text/html", ".css": "text/css", ".js": "text/javascript"}
    for path in PATHS:
        response = client.get(path)
        kind = types["/" if path == "/" else Path(path).suffix]
        assert response.headers["content-type"].startswith(kind)
        policy = response.headers["content-security-policy"]
        assert "default-src 'none'" in policy and "unsafe" not in policy
        again = client.get(path, headers={"if-none-match": response.headers["etag"]})
        assert again.status_code == 304 and not again.content
        assert client.head(path).status_code == 200


def test_all_that_the_page_asks_for_is_there_and_nothing_else() -> None:
    html = (FOLDER / "chat.html").read_text()
    asked = {f"/{path}" for path in re.findall(r'(?:href|src)="(chat/[^"]+)"', html)}
    for script in FOLDER.glob("*.js"):
        asked |= {f"/chat/{name}" for name in re.findall(r'from "\./([^"]+)"', script.read_text())}
    assert asked | {"/"} == PATHS


def test_nothing_is_inside_that_the_policy_forbids() -> None:
    html = (FOLDER / "chat.html").read_text()
    assert not re.search(r"\son\w+=|\sstyle=|<style|<script>", html)
    for script in FOLDER.glob("*.js"):
        text = script.read_text()
        assert not re.search(
            r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\b", text
        )


def test_both_languages_say_everything() -> None:
    text = (FOLDER / "words.js").read_text()
    english, chinese = re.findall(r"const (?:EN|ZH) = \{(.*?)\n\};", text, re.S)
    words = [dict(re.findall(r'^  (\w+):\s+"(.*)",$', part, re.M)) for part in (english, chinese)]
    assert words[0].keys() == words[1].keys()
    for name, said in words[0].items():
        assert set(re.findall(r"\{\w+\}", said)) == set(re.findall(r"\{\w+\}", words[1][name])), (
            name
        )
    scripts = "".join(path.read_text() for path in FOLDER.glob("*.js"))
    used = set(re.findall(r'\bt\("(\w+)"', scripts))
    used |= set(re.findall(r'\bt\(\w+ \? "(\w+)" : "\w+"', scripts))
    used |= set(re.findall(r'data-(?:t|label|hint)="(\w+)"', (FOLDER / "chat.html").read_text()))
    assert used <= words[0].keys()


def test_settings_tell_the_page_what_it_needs(client: TestClient) -> None:
    settings = client.get("/chat/settings").json()
    assert settings["models"][0]["id"] == "humpty-chat" and settings["models"][0]["context"] == 256
    assert settings["feedback"] and settings["truncation"] == "disabled"
    assert not client_of(None).get("/chat/settings").json()["feedback"]


# -- feedback --------------------------------------------------------------------------------------


def test_a_judgement_is_kept_and_counted(client: TestClient, store: FeedbackStore) -> None:
    assert client.post("/feedback", json=RATING).json() == {"id": "rating-01", "new": True}
    assert client.post("/feedback", json=RATING).json() == {"id": "rating-01", "new": False}
    assert client.get("/feedback/summary").json()["rating"] == 1
    assert (
        error(client.post("/feedback", json=RATING | {"rating": -1}))["code"] == "feedback_conflict"
    )


def test_the_system_prompt_of_the_server_is_part_of_what_was_answered(store: FeedbackStore) -> None:
    client_of(store, system="Talk like an egg.").post("/feedback", json=RATING)
    (path,) = (store.folder / "ratings").iterdir()
    prompt = json.loads(path.read_text())["prompt"]
    assert [turn["content"] for turn in prompt] == ["Talk like an egg.", "Hi"]


@pytest.mark.parametrize(
    ("change", "param"),
    [
        ({"consent": False}, "rating.consent"),
        ({"consent": None}, "rating.consent"),
        ({"rating": 5}, "rating.rating"),
        ({"id": "../../etc"}, "rating.id"),
        ({"prompt": []}, "rating.prompt"),
        ({"prompt": [{"role": "tool", "content": "x"}]}, "rating.prompt.0.role"),
        ({"answer": "x" * 100_001}, "rating.answer"),
        ({"sampling": {"temperature": -1}}, "rating.sampling.temperature"),
        ({"surprise": 1}, "rating.surprise"),
        ({"kind": "other"}, None),
    ],
)
def test_what_is_no_judgement_is_refused_by_name(
    client: TestClient, store: FeedbackStore, change: dict[str, Any], param: str | None
) -> None:
    response = client.post("/feedback", json=RATING | change)
    assert response.status_code == 400
    found = error(response)
    assert found["param"] == param and found["code"] == "invalid_feedback"
    assert store.summary()["rating"] == 0


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b"nul", b"\xff", b'{"a":NaN}', b"[" * 9000])
def test_what_is_no_json_object_is_refused(client: TestClient, body: bytes) -> None:
    assert client.post("/feedback", content=body).status_code == 400


def test_half_characters_cannot_get_in(client: TestClient, store: FeedbackStore) -> None:
    body = json.dumps(RATING).replace("Hello", "\\ud83d")
    assert client.post("/feedback", content=body).status_code == 400


def test_a_refusal_does_not_repeat_the_text(client: TestClient) -> None:
    secret = RATING | {"answer": ["my secret"]}
    assert "my secret" not in client.post("/feedback", json=secret).text


def test_where_nothing_is_kept_that_is_said() -> None:
    client = client_of(None)
    assert error(client.post("/feedback", json=RATING))["code"] == "feedback_disabled"
    assert error(client.get("/feedback/summary"))["code"] == "feedback_disabled"


def test_a_full_disk_asks_to_send_it_again(
    client: TestClient, store: FeedbackStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(_: Any) -> bool:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(store, "put", fail)
    response = client.post("/feedback", json=RATING)
    assert response.status_code == 503 and error(response)["code"] == "feedback_not_stored"
    assert response.headers["retry-after"]
