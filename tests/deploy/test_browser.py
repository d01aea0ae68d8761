"""The chat page in a real browser: what people do with it, and what must never happen."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from deploy.keys import KeyRing
from deploy.protocol import Refused
from tests.deploy.browsing import (
    Server,
    Visitor,
    agree,
    ask,
    expect,
    last,
    press,
    soon,
    started_chromium,
)


@pytest.fixture(scope="module")
def chromium() -> Iterator[Any]:
    with started_chromium() as browser:
        yield browser


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    started = Server(tmp_path / "feedback")
    yield started
    started.stop()


@pytest.fixture
def visitor(chromium: Any, server: Server) -> Iterator[Visitor]:
    came = Visitor(chromium, server)
    yield came
    came.close()


# -- talking ---------------------------------------------------------------------------------------


def test_an_answer_is_shown_while_it_is_written(visitor: Visitor, server: Server) -> None:
    server.stub.answer = "One **two** three."
    server.stub.gate.shut()
    page = visitor.open()
    ask(page, "Count", wait=False)
    expect(last(page)).to_have_attribute("aria-busy", "true")
    server.stub.gate.let(1)
    expect(last(page).locator("p")).to_have_text("One")
    expect(page.get_by_role("button", name="Stop")).to_be_visible()
    server.stub.gate.open()
    expect(last(page).locator("strong")).to_have_text("two")
    expect(last(page)).to_contain_text("3 tokens · first after")
    expect(page.get_by_role("button", name="Send")).to_be_visible()


def test_stop_frees_the_server_and_keeps_what_was_written(visitor: Visitor, server: Server) -> None:
    server.stub.gate.shut()
    page = visitor.open()
    ask(page, "Talk", wait=False)
    server.stub.gate.let(2)
    expect(last(page).locator("p")).not_to_be_empty()
    press(page, "Stop")
    assert server.stub.given_up.get(timeout=5)
    expect(last(page)).to_contain_text("stopped")
    server.stub.gate.open()
    ask(page, "More")
    assert [turn.role for turn in server.asked()] == ["user", "assistant", "user"]


def test_another_answer_stands_beside_the_first(visitor: Visitor) -> None:
    page = visitor.open()
    ask(page, "Tell")
    first = last(page).locator(".answer").inner_text()
    press(page, "Another answer")
    expect(last(page)).to_contain_text("2 of 2")
    assert last(page).locator(".answer").inner_text() != first
    press(page, "Previous answer")
    expect(last(page).locator(".answer")).to_have_text(first)


def test_who_is_quick_need_not_wait_for_the_page(visitor: Visitor) -> None:
    page = visitor.open()
    held: list[Any] = []
    page.route("**/chat/settings", lambda route: held.append(route))
    page.reload()
    ask(page, "Hello", wait=False)
    soon(lambda: held, page)
    expect(page.locator(".turn")).to_have_count(0)
    held[0].continue_()
    expect(last(page)).to_contain_text("tokens")
    expect(page.get_by_label("Message", exact=True)).to_have_value("")


def test_an_edited_question_begins_anew_from_there(visitor: Visitor, server: Server) -> None:
    page = visitor.open()
    ask(page, "Who?")
    ask(page, "Why?")
    page.locator(".turn.user").first.hover()
    page.get_by_role("button", name="Edit the question").first.click()
    page.get_by_role("textbox", name="Edit the question").fill("Where?")
    page.locator(".editor").get_by_role("button", name="Send").click()
    expect(last(page)).to_have_attribute("aria-busy", "false")
    expect(page.locator(".bubble")).to_have_text(["Where?"])
    assert [turn.text for turn in server.asked()] == ["Where?"]


def test_a_reload_keeps_conversations_and_deleting_ends_them(visitor: Visitor) -> None:
    page = visitor.open()
    ask(page, "First talk")
    said = last(page).locator(".answer").inner_text()
    press(page, "New chat")
    ask(page, "Second talk")
    page.reload()
    expect(page.locator(".bubble")).to_have_text(["Second talk"])
    page.get_by_role("button", name="First talk", exact=True).click()
    expect(last(page).locator(".answer")).to_have_text(said)
    page.locator("#list li.mine").hover()
    page.get_by_role("button", name="Delete this conversation: First talk").click()
    page.reload()
    expect(page.locator("#list li")).to_have_count(1)


def test_settings_go_into_the_request(visitor: Visitor, server: Server) -> None:
    page = visitor.open()
    press(page, "Settings")
    page.get_by_label("System prompt").fill("Be an egg.")
    for name, value in (
        ("Temperature", "0.5"),
        ("Top-p", "0.9"),
        ("Most tokens", "5"),
        ("Seed", "7"),
    ):
        page.get_by_label(name).fill(value)
    page.get_by_label("Temperature").fill("3")
    expect(page.get_by_text("Allowed are 0 to 2")).to_be_visible()
    page.keyboard.press("Escape")
    ask(page, "Hello")
    job = server.stub.jobs[-1]
    assert (job.sampling.temperature, job.sampling.top_p) == (0.5, 0.9)
    assert (job.sampling.max_tokens, job.sampling.seed) == (5, 7)
    assert server.asked()[0].text == "Be an egg."
    expect(last(page)).to_contain_text("cut off at the length limit")


def test_a_model_that_only_continues_texts_is_given_the_text(
    visitor: Visitor, server: Server
) -> None:
    page = visitor.open()
    page.get_by_label("Model").select_option("humpty-base")
    expect(page.get_by_role("heading", name="Begin a text")).to_be_visible()
    ask(page, "Once upon a")
    assert server.stub.jobs[-1].prompts == ("Once upon a",)
    expect(last(page).locator(".answer")).not_to_be_empty()
    expect(last(page).get_by_role("button", name="Good answer")).to_have_count(0)


# -- opinions --------------------------------------------------------------------------------------


def test_a_ranking_by_keyboard_is_found_in_the_store(visitor: Visitor, server: Server) -> None:
    page = visitor.open()
    press(page, "3 answers to compare")
    ask(page, "Which?")
    answers = page.locator(".card .answer").all_inner_texts()
    expect(page.get_by_role("button", name="Save ranking")).to_be_disabled()
    for name, place in (("A", "2"), ("B", "1"), ("C", "2")):
        page.get_by_role("article", name=f"Answer {name}").focus()
        page.keyboard.press(place)
    press(page, "Save ranking")
    agree(page)
    (row,) = soon(lambda: server.rows("rankings"), page)
    assert (row["answers"], row["ranks"]) == (answers, [2, 1, 2])
    assert row["prompt"] == [{"role": "user", "content": "Which?"}]
    assert row["artifact"] == "a1b2c3"
    ask(page, "Go on")
    assert server.asked()[1].text == answers[1]


def test_dragging_puts_answers_in_order(visitor: Visitor, server: Server) -> None:
    page = visitor.open()
    press(page, "2 answers to compare")
    ask(page, "Which?")
    page.locator(".grip").nth(1).drag_to(page.locator(".card").nth(0))
    expect(page.locator(".letter")).to_have_text(["B", "A"])
    press(page, "Save ranking")
    agree(page)
    (row,) = soon(lambda: server.rows("rankings"), page)
    assert row["ranks"] == [2, 1]


def test_thumbs_are_kept_changed_and_taken_back(visitor: Visitor, server: Server) -> None:
    page = visitor.open()
    ask(page, "Well?")
    press(page, "Good answer")
    agree(page)
    (row,) = soon(lambda: server.rows("ratings"), page)
    assert row["rating"] == 1 and row["answer"] == last(page).locator(".answer").inner_text()
    press(page, "Bad answer")
    soon(lambda: [row["rating"] for row in server.rows("ratings")] == [-1], page)
    press(page, "Bad answer")
    soon(lambda: not server.rows("ratings"), page)


def test_an_opinion_tells_what_the_model_had_read_not_what_is_shown_now(
    visitor: Visitor, server: Server
) -> None:
    page = visitor.open()
    ask(page, "First?")
    read = last(page).locator(".answer").inner_text()
    ask(page, "Second?")
    first = page.locator(".turn.assistant").first
    first.get_by_role("button", name="Write what it should have said").click()
    page.get_by_label("How it should have been").fill("Something else.")
    press(page, "Save correction")
    agree(page)
    press(page, "Good answer")
    (row,) = soon(lambda: server.rows("ratings"), page)
    assert [turn["content"] for turn in row["prompt"]] == ["First?", read, "Second?"]


def test_a_correction_is_learned_and_goes_on_in_the_talk(visitor: Visitor, server: Server) -> None:
    page = visitor.open()
    ask(page, "Two and two?")
    press(page, "Write what it should have said")
    page.get_by_label("How it should have been").fill("Four.")
    press(page, "Save correction")
    agree(page)
    (row,) = soon(lambda: server.rows("chats"), page)
    assert [turn["content"] for turn in row["messages"]] == ["Two and two?", "Four."]
    expect(last(page)).to_contain_text("corrected by you")
    ask(page, "Sure?")
    assert server.asked()[1].text == "Four."


def test_nothing_is_sent_without_consent_and_it_is_asked_once(
    visitor: Visitor, server: Server
) -> None:
    page = visitor.open()
    ask(page, "Well?")
    press(page, "Good answer")
    page.keyboard.press("Escape")  # that is no answer: it is asked again
    press(page, "Good answer")
    press(page, "No, thank you")
    expect(page.locator("#toast")).to_contain_text("Not sent")
    press(page, "Bad answer")
    expect(page.locator("#consent")).not_to_be_visible()
    assert server.feedback.summary()["rating"] == 0


def test_consent_can_be_withdrawn_with_all_that_was_sent(visitor: Visitor, server: Server) -> None:
    page = visitor.open()
    ask(page, "Well?")
    press(page, "Good answer")
    agree(page)
    soon(lambda: server.rows("ratings"), page)
    press(page, "Settings")
    page.get_by_label("My ratings, rankings and corrections").uncheck()
    press(page, "Delete them")
    soon(lambda: not server.rows("ratings"), page)
    assert b"Well?" not in (server.folder / "journal.jsonl").read_bytes()


# -- when things go wrong --------------------------------------------------------------------------


def test_a_server_that_falls_and_comes_back(visitor: Visitor, server: Server) -> None:
    visitor.expected = "ERR_|Failed to load"
    page = visitor.open()
    ask(page, "First")
    server.stop()
    ask(page, "Are you there?")
    expect(last(page)).to_contain_text("The server cannot be reached")
    expect(page.get_by_text("Trying again")).to_be_visible()
    press(page, "Good answer")
    agree(page)
    server.start()
    expect(page.get_by_text("Trying again")).not_to_be_visible()
    soon(lambda: server.rows("ratings"), page)  # it waited in the browser
    press(page, "Try again")
    expect(last(page)).to_contain_text("tokens")
    expect(page.locator(".bubble")).to_have_count(2)


def test_an_answer_that_breaks_off_can_be_asked_for_again(visitor: Visitor, server: Server) -> None:
    page = visitor.open()
    server.stub.fail_after = 2
    ask(page, "Talk")
    expect(last(page).get_by_role("alert")).to_be_visible()
    server.stub.fail_after = None
    press(page, "Try again")
    expect(last(page).get_by_role("alert")).not_to_be_visible()
    expect(last(page)).to_contain_text("2 of 2")


def test_a_full_server_says_so(visitor: Visitor, server: Server) -> None:
    visitor.expected = "429"
    page = visitor.open()
    server.stub.refuse = Refused(429, "queue_full", "too many")
    ask(page, "Talk")
    expect(last(page)).to_contain_text("The server has too much to do")


def test_a_full_context_offers_to_forget(visitor: Visitor, server: Server) -> None:
    visitor.expected = "400"
    page = visitor.open()
    ask(page, "word " * 200)
    ask(page, "word " * 100)
    expect(last(page)).to_contain_text("no longer fits into the 256 tokens")
    press(page, "Leave out the oldest and try again")
    expect(last(page)).to_contain_text("were left out")
    assert server.stub.jobs[-1].truncation == "auto"


def test_the_key_comes_from_the_address_and_leaves_it(chromium: Any, tmp_path: Path) -> None:
    server = Server(tmp_path / "feedback", KeyRing.of_plain("hk-secret"))
    visitor = Visitor(chromium, server)
    visitor.expected = "401"
    try:
        page = visitor.open(fragment="#key=hk-secret")
        ask(page, "Hello")
        assert "secret" not in page.url
        page.reload()
        ask(page, "Again")
        other = visitor.open()
        other.get_by_label("API key").fill("hk-wrong")
        press(other, "Go on")
        expect(other.get_by_text("does not know this key")).to_be_visible()
        other.get_by_label("API key").fill("hk-secret")
        press(other, "Go on")
        ask(other, "Hello")
        expect(last(other).locator(".answer")).not_to_be_empty()
    finally:
        visitor.close()
        server.stop()


# -- looks and languages ---------------------------------------------------------------------------


def test_on_a_narrow_screen_nothing_is_cut_off(visitor: Visitor, server: Server) -> None:
    server.stub.answer = "```\n" + "x" * 300 + "\n```\n\n" + "y" * 300
    page = visitor.open(360)
    press(page, "4 answers to compare")
    ask(page, "A rather long question. " * 8)
    wide = page.evaluate("document.documentElement.scrollWidth")
    log = page.evaluate(
        "[...document.querySelectorAll('#scroll, #form')].map(e => e.scrollWidth - e.clientWidth)"
    )
    assert wide <= 360 and log == [0, 0]
    expect(page.get_by_role("button", name="Send")).to_be_in_viewport()
    press(page, "Conversations")
    expect(page.get_by_role("button", name="New chat")).to_be_in_viewport()
    page.keyboard.press("Escape")
    expect(page.get_by_role("button", name="New chat")).not_to_be_visible()


def test_dark_is_what_the_system_says_or_the_person(visitor: Visitor) -> None:
    page = visitor.open(color_scheme="dark")
    brightness = "parseInt(getComputedStyle(document.body).backgroundColor.match(/\\d+/)[0])"
    assert page.evaluate(brightness) < 50
    press(page, "Settings")
    press(page, "Light")
    assert page.evaluate(brightness) > 200
    page.reload()
    assert page.evaluate(brightness) > 200


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_nothing_serious(visitor: Visitor, server: Server, scheme: str) -> None:
    axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="needs axe")
    page = visitor.open(color_scheme=scheme)
    page.emulate_media(reduced_motion="reduce", color_scheme=scheme)

    def check(where: str) -> None:
        # axe's own script is put in by the debugger, past the policy of the page
        found = axe.Axe().run(page).response["violations"]
        bad = [
            (one["id"], one["nodes"][0]["html"])
            for one in found
            if one["impact"] in ("serious", "critical")
        ]
        assert bad == [], where

    check("welcome")
    server.stub.answer = (
        "# Title\n\nA [link](https://a.b), `code`\n\n```py\nx\n```\n\n|a|b|\n|-|-|\n|1|2|\n\n> q"
    )
    ask(page, "Hello")
    press(page, "Good answer")
    check("consent")
    agree(page)
    check("answer")
    press(page, "3 answers to compare")
    ask(page, "Which?")
    page.locator(".places label").first.click()
    check("comparison")
    press(page, "Settings")
    check("settings")


def test_it_speaks_chinese(visitor: Visitor) -> None:
    page = visitor.open(locale="zh-CN")
    expect(page.get_by_role("heading", name="和 Humpty 说点什么")).to_be_visible()
    expect(page.locator("html")).to_have_attribute("lang", "zh-CN")
    page.get_by_role("button", name="设置").click()
    page.get_by_role("button", name="English").click()
    expect(page.get_by_role("heading", name="Settings")).to_be_visible()
    page.reload()
    expect(page.get_by_role("heading", name="Say something")).to_be_visible()


def test_enter_that_ends_a_composition_sends_nothing(visitor: Visitor, server: Server) -> None:
    page = visitor.open()
    box = page.get_by_label("Message", exact=True)
    box.fill("ni")
    enter = """([isComposing, keyCode]) => document.getElementById("input").dispatchEvent(
        new KeyboardEvent("keydown", { key: "Enter", isComposing, keyCode, cancelable: true }))"""
    page.evaluate(enter, [True, 13])
    page.evaluate(enter, [False, 229])
    page.keyboard.press("Shift+Enter")
    assert server.stub.jobs == []
    expect(box).to_have_value("ni\n")
    page.keyboard.press("Enter")
    expect(last(page)).to_have_attribute("aria-busy", "false")
    assert len(server.stub.jobs) == 1
