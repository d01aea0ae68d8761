"""A web page that needs nothing else: no script, no font, nothing from elsewhere.

Texts on it are whatever the web or a model has written. They are escaped, what cannot be seen is
spelled out (U+202E, a right-to-left override, would turn the rest of the line around), and a policy
in the page's head forbids scripts and everything from elsewhere. Light or dark is what the reader's
system says; colours are variables, so that drawings follow.
"""

import re
from html import escape

POLICY = "default-src 'none'; style-src 'unsafe-inline'"

STYLE = """
:root { color-scheme: light dark; --text: #1f2328; --soft: #59636e; --line: #d1d9e0;
  --page: #fff; --card: #f6f8fa; --kept: #2f7d4f; --held: #2f6fb0; --lost: #c9822b; }
@media (prefers-color-scheme: dark) { :root { --text: #e6edf3; --soft: #9aa5b1; --line: #3a424c;
  --page: #0f1419; --card: #182028; --kept: #57b37c; --held: #6aa5e0; --lost: #dd9d4d; } }
* { box-sizing: border-box; }
body { margin: 0 auto; padding: 1.5rem 1rem 4rem; max-width: 72rem; background: var(--page);
  color: var(--text); font: 1rem/1.5 system-ui, sans-serif; }
h1 { font-size: 1.6rem; margin: 0; overflow-wrap: anywhere; }
h2 { font-size: 1.2rem; margin: 2.5rem 0 .25rem; }
h3 { font-size: 1rem; margin: 1.5rem 0 .5rem; }
p { margin: .25rem 0 .75rem; color: var(--soft); max-width: 46rem; }
.key { display: flex; flex-wrap: wrap; gap: .25rem 1.25rem; padding: 0; margin: 0;
  list-style: none; }
.key b { font-weight: 600; }
.key li::before { content: ""; display: inline-block; width: .7rem; height: .7rem;
  margin-right: .4rem; border-radius: .15rem; background: var(--colour); }
summary { cursor: pointer; margin-bottom: .5rem; }
figure { margin: 0 0 1rem; padding: .75rem; background: var(--card);
  border: 1px solid var(--line); border-radius: .4rem; }
figcaption { font-size: .8rem; color: var(--soft); overflow-wrap: anywhere; }
pre { margin: .5rem 0 0; white-space: pre-wrap; overflow-wrap: anywhere; unicode-bidi: plaintext;
  font: .85rem/1.5 ui-monospace, monospace; }
pre:empty::before { content: "nothing"; color: var(--soft); font-style: italic; }
"""


def page(title: str, style: str, body: str) -> str:
    """The whole page; `style` comes after the common one, `body` is already safe."""
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{POLICY}">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{shown(title)}</title>\n<style>{STYLE}{style}</style>\n</head>\n<body>\n"
        f"{body}\n</body>\n</html>\n"
    )


def lowered(html: str) -> str:
    """The same with every heading one level lower, to stand in a section of a larger page."""
    return re.sub(r"(</?h)([1-5])>", lambda tag: f"{tag[1]}{int(tag[2]) + 1}>", html)


def shown(text: str) -> str:
    """A text as HTML that shows just this text; what cannot be seen is spelled out."""
    return escape("".join(c if c.isprintable() or c in "\n\t" else visible(c) for c in text))


def visible(character: str) -> str:
    """The number of a character, but for white space, which is space."""
    return " " if character.isspace() and ord(character) > 0x9F else f"[U+{ord(character):04X}]"
