"""Furniture of pages, and text that only speaks of it."""

import time

import pytest

from llm.boilerplate import is_boilerplate


@pytest.mark.parametrize(
    "line",
    [
        "Home",
        "  Skip to main content ",
        "Back to top",
        "Share on Facebook",
        "Share this article via e-mail",
        "Tweet",
        "Log in or Sign up",
        "Toggle navigation",
        "Read more »",
        "Leave a comment",
        "12 Comments",
        "Subscribe to our newsletter!",
        "Privacy Policy",
        "Terms of Service",
        "Home | News | Contact us",
        "Start » Shop › Eggs",
        "This website uses cookies to give you the best experience.",
        "By continuing to browse you agree to our use of cookies.",
        "Accept all cookies",
        "Copyright © 2001-2023 Wall Foundation.",
        "(c) 2014 The King's Men",
        "All rights reserved.",
        "首页",
        "下一篇",
        "分享到微信",
        "Copyright 2020 某某公司 版权所有",
        "京ICP备12345678号",
    ],
)
def test_furniture_is_recognised(line: str) -> None:
    assert is_boilerplate(line)


@pytest.mark.parametrize(
    "line",
    [
        "",
        "Home is where the heart is.",
        "She likes to share on principle.",
        "The site uses cookies, which are small files, and the article says how they work. " * 3,
        "We baked cookies and ate them.",
        "Copyright law protects authors.",
        "| a | b | c |",
        "METH_METHOD | METH_FASTCALL | METH_KEYWORDS",
        "'r' | 's' | 'a'",
        "He said no, then yes · and went",
        "Search me!",
        "版权法保护作者。",
    ],
)
def test_text_stays(line: str) -> None:
    assert not is_boilerplate(line)


def test_hostile_lines_take_no_time() -> None:
    start = time.perf_counter()
    for line in ("a | " * 49, "a " * 99, "a - " * 49 + "|", "by us" + " cookies" * 20, "| " * 99):
        is_boilerplate(line)
    assert time.perf_counter() - start < 1
