"""A judge elsewhere: any API like OpenAI's is asked which of two answers is better.

Such judges prefer what they read first (Zheng et al. 2023, MT-bench), so each pair is asked about
twice with the answers in either order; a verdict counts only if both agree, else it is a tie. An
answer without a verdict is a tie as well, and said to be. Nothing waits for ever: each call has a
time-out, and tries are numbered, with longer pauses between them.
"""

import json
import os
import re
import time
import urllib.error
import urllib.request
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from llm.chat import Conversation
from llm.errors import DataError
from llm.evaluate_config import JudgeConfig

PROMPT = """\
Please act as an impartial judge and evaluate the quality of the responses provided by two AI \
assistants to the user question displayed below. Choose the assistant that follows the user's \
instructions and answers the question better: consider helpfulness, relevance, accuracy, depth and \
level of detail. The order of the responses and their length must not influence your decision. \
Explain shortly, then end with your verdict in this format: "[[A]]" if assistant A is better, \
"[[B]]" if assistant B is better, "[[C]]" for a tie.

[User Question]
{question}

[The Start of Assistant A's Answer]
{first}
[The End of Assistant A's Answer]

[The Start of Assistant B's Answer]
{second}
[The End of Assistant B's Answer]"""

VERDICT = re.compile(r"\[\[([ABC])\]\]")
WORTH = {"A": 1.0, "B": 0.0, "C": 0.5}

PAUSE_S = 0.5
"""Before the second try; before each further one twice as long, up to `LONGEST_PAUSE_S`."""

LONGEST_PAUSE_S = 30.0

AGAIN = {408, 409, 425, 429, *range(500, 600)}
"""Answers after which it is worth asking again."""


class Endpoint:
    """Asks a server; `key` is where the spec names it."""

    def __init__(self, config: JudgeConfig, key: str) -> None:
        self.config, self.key = config, key
        self.url = config.url.rstrip("/") + "/chat/completions"

    def judge(self, pairs: Sequence[tuple[Conversation, str, str]]) -> list[float]:
        """See `llm.measuring.Judge`."""
        with ThreadPoolExecutor(self.config.concurrent) as pool:
            asked = [
                pool.submit(self.verdict, prompt, *order)
                for prompt, one, other in pairs
                for order in ((one, other), (other, one))
            ]
            try:
                found = [one.result() for one in asked]
            except BaseException:
                pool.shutdown(cancel_futures=True, wait=False)
                raise
        return [agreed(there, back) for there, back in zip(found[::2], found[1::2], strict=True)]

    def verdict(self, prompt: Conversation, first: str, second: str) -> float:
        """1 if the first is better, 0 if the second, 0.5 for a tie or no verdict."""
        question = "\n\n".join(turn.text for turn in prompt)
        told = {"question": question, "first": first, "second": second}
        pattern = re.compile("|".join(re.escape("{" + one + "}") for one in told))
        text = pattern.sub(lambda match: told[match[0][1:-1]], self.config.prompt or PROMPT)
        found = VERDICT.findall(self.ask(text))
        return WORTH[found[-1]] if found else 0.5

    def ask(self, text: str) -> str:
        """The server's answer; DataError if there is none after all tries."""
        problem = ""
        for number in range(self.config.retries + 1):
            if number:
                time.sleep(min(LONGEST_PAUSE_S, PAUSE_S * 2 ** (number - 1)))
            try:
                return self.answer(text)
            except urllib.error.HTTPError as error:
                problem = f"answers {error.code} {error.reason}: {said(error)}"
                if error.code not in AGAIN:
                    break
            except (OSError, TimeoutError) as error:
                problem = f"cannot be reached: {getattr(error, 'reason', error)}"
            except (ValueError, KeyError, IndexError, TypeError) as error:
                problem = f"answers what is no chat completion ({error!r})"
        raise DataError(
            f"{self.key}: {self.url} {problem}; tried {number + 1} times; check url, model and "
            f"the key in {self.config.key_env}, and run again: what is measured by now is kept"
        )

    def answer(self, text: str) -> str:
        """One call."""
        headers = {"Content-Type": "application/json"}
        if key := os.environ.get(self.config.key_env):
            headers["Authorization"] = f"Bearer {key}"
        body: dict[str, Any] = {
            "model": self.config.model,
            "messages": [{"role": "user", "content": text}],
            "temperature": 0,
            "max_tokens": self.config.answer_tokens,
        }
        request = urllib.request.Request(self.url, json.dumps(body).encode(), headers)
        with urllib.request.urlopen(request, timeout=self.config.timeout) as response:
            content = json.load(response)["choices"][0]["message"]["content"]
        if not isinstance(content, str):
            raise ValueError("its content is no text")
        return content


def said(error: urllib.error.HTTPError) -> str:
    """The beginning of what a server says of an error."""
    try:
        return " ".join(error.read(300).decode(errors="replace").split())
    except OSError:
        return ""


def agreed(there: float, back: float) -> float:
    """The verdict on a pair that was shown in either order."""
    return there if there == 1 - back else 0.5
