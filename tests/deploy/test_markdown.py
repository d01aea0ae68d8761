"""Markdown on the chat page: elements for what models write, and no way out of them."""

import re
from collections.abc import Iterator
from typing import Any

import pytest

from tests.deploy.browsing import Server, started_chromium

RENDER = """async (text) => {
  const { markdown } = await import("/chat/markdown.js");
  const box = document.createElement("div");
  const start = performance.now();
  box.append(markdown(text));
  return [box.innerHTML, performance.now() - start];
}"""


@pytest.fixture(scope="module")
def render(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """Text -> HTML and milliseconds."""
    server = Server(tmp_path_factory.mktemp("markdown"))
    with started_chromium() as chromium:
        page = chromium.new_page(locale="en-US")
        page.goto(server.url)
        yield lambda text: page.evaluate(RENDER, text)
    server.stop()


@pytest.mark.parametrize(
    ("text", "html"),
    [
        ("a *b* **c** ~~d~~", "<p>a <em>b</em> <strong>c</strong> <del>d</del></p>"),
        ("***a***", "<p><strong><em>a</em></strong></p>"),
        ("2 * 3 * 4, snake_case_name", "<p>2 * 3 * 4, snake_case_name</p>"),
        ("\\*a\\*", "<p>*a*</p>"),
        ("`a*b*` ``c`d``", "<p><code>a*b*</code> <code>c`d</code></p>"),
        ("# A\n## B", "<h3>A</h3><h4>B</h4>"),
        ("a\nb\n\nc", "<p>a<br>b</p><p>c</p>"),
        ("- a\n- b\n  - c", "<ul><li>a</li><li>b<ul><li>c</li></ul></li></ul>"),
        ("3. a\n4. b", '<ol start="3"><li>a</li><li>b</li></ol>'),
        ("1. a\n\n2. b", "<ol><li>a</li><li>b</li></ol>"),
        ("> a\n> b", "<blockquote><p>a<br>b</p></blockquote>"),
        ("a\n\n---\n\nb", "<p>a</p><hr><p>b</p>"),
        ("<b>a</b> &amp;", "<p>&lt;b&gt;a&lt;/b&gt; &amp;amp;</p>"),
        ("<img src=x onerror=alert(1)>", "<p>&lt;img src=x onerror=alert(1)&gt;</p>"),
        ("[a](javascript:alert(1))", "<p>[a](javascript:alert(1))</p>"),
        ("[a](data:text/html,x)", "<p>[a](data:text/html,x)</p>"),
        ("**unclosed *and `this", "<p>**unclosed *and `this</p>"),
        ("", ""),
    ],
)
def test_markdown_becomes_elements_and_nothing_else(render: Any, text: str, html: str) -> None:
    assert render(text)[0] == html


def test_links_lead_out_without_telling_where_from(render: Any) -> None:
    html, _ = render("[a](https://a.b/c?d=1) https://e.f/g. 见https://h.i，好")
    assert re.findall(r'href="([^"]+)"', html) == [
        "https://a.b/c?d=1",
        "https://e.f/g",
        "https://h.i",
    ]
    assert html.count('rel="noopener noreferrer nofollow"') == 3


def test_code_is_shown_as_it_is_even_before_its_end(render: Any) -> None:
    html, _ = render("```py\n<b>*x*\n\n    y")
    assert "<pre" in html and "&lt;b&gt;*x*\n\n    y</code>" in html and ">py<" in html


def test_tables_have_sides(render: Any) -> None:
    html, _ = render("| a | b |\n|:-:|--:|\n| 1 | *2* |")
    assert '<td class="center">1</td><td class="right"><em>2</em></td>' in html


@pytest.mark.parametrize(
    "part", ["*", "_a ", "**a", "[", "[a](", "`", "> ", "- ", "|-", "~~~\n", "\\", "h"]
)
def test_no_text_takes_long(render: Any, part: str) -> None:
    for text in (part * (50_000 // len(part)), (part + "\n") * 5_000):
        assert render(text)[1] < 2000
