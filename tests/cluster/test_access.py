"""The way to a dashboard: which address, which token, and one line for everything in the way."""

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from cluster import access
from cluster.access import AccessError, address_of, is_here, open_door, token_for

VERSION = json.dumps({"ray_version": "2.60.0", "session_name": "s"})
ELSEWHERE = "http://10.0.0.1:8265"


@pytest.fixture(autouse=True)
def nobody(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A user without any token or address."""
    names = ("RAY_AUTH_MODE", "RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH", *access.ADDRESSES)
    for name in names:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))


@contextmanager
def dashboard(answer: Callable[[str], tuple[int, str]]) -> Iterator[str]:
    """A server that answers to what the header `Authorization` says."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            status, text = answer(self.headers.get("Authorization", ""))
            self.send_response(status)
            if status == 302:
                self.send_header("Location", text)
            self.end_headers()
            self.wfile.write(text.encode())

        def log_message(self, *_: object) -> None:
            """Silent."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


def guarded(header: str) -> tuple[int, str]:
    """What Ray 2.60 answers."""
    if not header:
        return 401, "Unauthorized: Missing authentication token"
    return (200, VERSION) if header == "Bearer right" else (403, "Forbidden")


def problem(url: str) -> str:
    with pytest.raises(AccessError) as caught:
        open_door(url)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_the_right_token_opens(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_AUTH_TOKEN", " right\n")
    with dashboard(guarded) as url:
        door = open_door(url)
    assert (door.ray, door.headers) == ("2.60.0", {"Authorization": "Bearer right"})


def test_a_wrong_and_a_missing_token_are_told_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    with dashboard(guarded) as url:
        assert "wants a token, and none was found: set RAY_AUTH_TOKEN" in problem(url)
        monkeypatch.setenv("RAY_AUTH_TOKEN", "wrong")
        assert "refuses the token of RAY_AUTH_TOKEN" in problem(url)
        assert "wrong" not in problem(url)


@pytest.mark.parametrize("answer", [(404, "no"), (500, ""), (200, "<html>"), (200, "[]")])
def test_what_is_no_dashboard_is_said_to_be_none(answer: tuple[int, str]) -> None:
    with dashboard(lambda _: answer) as url:
        assert "is no Ray dashboard" in problem(url)


def test_a_token_does_not_follow_a_redirection(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_AUTH_TOKEN", "right")
    asked: list[str] = []

    def listen(header: str) -> tuple[int, str]:
        asked.append(header)
        return 200, VERSION

    with dashboard(listen) as other, dashboard(lambda _: (302, f"{other}/api/version")) as url:
        assert "HTTP status 302" in problem(url)
    assert not asked


def test_a_refused_connection_says_how_to_get_there() -> None:
    with dashboard(guarded) as url:
        pass
    assert "nobody listens there" in problem(url)
    assert "port-forward" in problem(url)


def test_a_token_is_not_sent_unencrypted_over_a_network(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_AUTH_TOKEN", "secret")
    said = problem(ELSEWHERE)
    assert "--plain-http" in said
    assert "secret" not in said


def test_the_token_is_found_where_ray_looks_for_it(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def found(url: str = "http://127.0.0.1:8265") -> str | None:
        token = token_for(url)
        return token and token.value

    assert found() is None
    (tmp_path / ".ray").mkdir()
    (tmp_path / ".ray" / "auth_token").write_text("kept\n")
    assert found() == "kept"
    assert found(ELSEWHERE) is None  # it belongs to clusters of this machine
    monkeypatch.setenv("RAY_AUTH_MODE", "token")
    assert found(ELSEWHERE) == "kept"
    (tmp_path / "file").write_text("filed")
    monkeypatch.setenv("RAY_AUTH_TOKEN_PATH", str(tmp_path / "file"))
    assert found() == "filed"
    monkeypatch.setenv("RAY_AUTH_TOKEN", "given")
    assert found() == "given"
    monkeypatch.setenv("RAY_AUTH_MODE", "disabled")
    assert found() is None


def test_a_token_file_that_is_not_there_is_named(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("RAY_AUTH_TOKEN_PATH", str(tmp_path / "none"))
    assert f"{tmp_path / 'none'} cannot be read" in problem("http://127.0.0.1:1")


def test_what_is_written_wins_over_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    def resolve(address: str) -> str:
        return f"http://of-{address}"

    assert address_of(None, resolve) == "http://127.0.0.1:8265"
    monkeypatch.setenv("RAY_ADDRESS", "head:6379")
    assert address_of(None, resolve) == "http://of-head:6379"
    monkeypatch.setenv("RAY_API_SERVER_ADDRESS", "https://api/")
    assert address_of(None, resolve) == "https://api"
    assert address_of("http://here:1/", resolve) == "http://here:1"


def test_only_loopback_is_here() -> None:
    here = ["http://localhost:1", "http://127.0.0.2", "http://[::1]:8265"]
    assert all(map(is_here, here))
    assert not any(map(is_here, [ELSEWHERE, "http://localhost.example.org", "http://0.0.0.0"]))
