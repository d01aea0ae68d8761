"""A server to visit and a browser to visit it with, for tests of the chat page.

Needs playwright and /usr/bin/chromium; modules that import this are skipped without them. A visit
also fails if the page asks for anything from elsewhere, or writes an error to the console that the
test does not expect.
"""

import json
import re
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import uvicorn

from deploy.app import make_app
from deploy.config import ServeConfig
from deploy.feedback import FeedbackStore
from deploy.keys import KeyRing
from llm.chat import Conversation, Turn
from tests.deploy.stub import Stub

playwright = pytest.importorskip("playwright.sync_api", reason="needs playwright (extra: test)")
expect = playwright.expect

CHROMIUM = Path("/usr/bin/chromium")
if not CHROMIUM.exists():
    pytest.skip(f"needs {CHROMIUM} (Debian's package chromium)", allow_module_level=True)


@contextmanager
def started_chromium() -> Iterator[Any]:
    """A browser without a window."""
    with playwright.sync_playwright() as started:
        browser = started.chromium.launch(executable_path=str(CHROMIUM), args=["--no-sandbox"])
        yield browser
        browser.close()


class Server:
    """The app on a port of its own, which stays the same when it falls and comes back."""

    def __init__(self, folder: Path, keys: KeyRing | None = None) -> None:
        self.stub, self.folder, self.keys = Stub(), folder, keys
        with socket.create_server(("127.0.0.1", 0)) as free:
            self.port = free.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}/"
        self.start()

    def start(self) -> None:
        self.feedback = FeedbackStore(self.folder)
        config = ServeConfig(auth=self.keys is not None)
        app = make_app(self.stub, config, keys=self.keys, feedback=self.feedback)
        self.server = uvicorn.Server(
            uvicorn.Config(app, port=self.port, log_level="critical", timeout_graceful_shutdown=0)
        )
        listening = socket.create_server(("127.0.0.1", self.port))
        self.thread = threading.Thread(target=self.server.run, args=([listening],))
        self.thread.start()

    def stop(self) -> None:
        self.stub.gate.open()
        self.server.should_exit = True
        self.thread.join(20)
        self.feedback.close()

    def asked(self) -> Conversation:
        """The conversation that the model read last."""
        prompt = self.stub.jobs[-1].prompts[0]
        assert not isinstance(prompt, str)
        return tuple(turn for turn in prompt if isinstance(turn, Turn))

    def rows(self, name: str) -> list[dict[str, Any]]:
        """What training finds in a folder of the store."""
        files = sorted((self.folder / name).glob("*.jsonl"))
        return [json.loads(line) for file in files for line in file.read_text().splitlines()]


class Visitor:
    """Opens pages and remembers what went wrong on them."""

    def __init__(self, chromium: Any, server: Server) -> None:
        self.chromium, self.server = chromium, server
        self.troubles: list[str] = []
        self.expected = "nothing"
        self.contexts: list[Any] = []

    def open(self, width: int = 1200, *, fragment: str = "", **options: Any) -> Any:
        options = {"locale": "en-US", "color_scheme": "light", **options}
        context = self.chromium.new_context(viewport={"width": width, "height": 800}, **options)
        self.contexts.append(context)
        page = context.new_page()
        page.set_default_timeout(10_000)
        page.on("pageerror", lambda error: self.troubles.append(f"error: {error}"))
        page.on("console", self.heard)
        page.on("request", self.asked)
        page.goto(self.server.url + fragment)
        return page

    def heard(self, message: Any) -> None:
        if message.type in ("error", "warning"):
            self.troubles.append(f"console: {message.text}")

    def asked(self, request: Any) -> None:
        if not request.url.startswith((self.server.url, "data:")):
            self.troubles.append(f"elsewhere: {request.url}")

    def close(self) -> None:
        for context in self.contexts:
            context.close()
        assert [one for one in self.troubles if not re.search(self.expected, one)] == []


def ask(page: Any, text: str, *, wait: bool = True) -> None:
    """Write and send; wait for the whole answer."""
    page.get_by_label("Message", exact=True).fill(text)
    page.keyboard.press("Enter")
    if wait:
        expect(last(page)).to_have_attribute("aria-busy", "false")


def last(page: Any) -> Any:
    """The last answer."""
    return page.locator(".turn.assistant").last


def press(page: Any, name: str) -> None:
    page.get_by_role("button", name=name, exact=True).last.click()


def agree(page: Any) -> None:
    press(page, "Yes, keep it")


def soon(condition: Callable[[], Any], page: Any) -> Any:
    """What a condition gives when it holds; the browser goes on meanwhile."""
    for _ in range(200):
        if found := condition():
            return found
        page.wait_for_timeout(25)
    raise AssertionError("it did not happen within five seconds")
