"""Listed words and phrases, found in a text while it is still being written.

What a word is, `llm.words` says, as for the corpus: letters and digits without regard to case and
Unicode form; "Big-Deal!" is found by "big deal", "scrap" is not found by "crap", and in scripts
without spaces every character is a word, so that Chinese entries are found wherever they stand.
(`llm.word_list` finds the same in whole texts, many times faster; a test holds them together.)

The text is rewritten as its words with one blank around each, and so is every entry; then an entry
is found where its letters stand, and one automaton finds all of them in one pass (Aho and Corasick
1975), a step for each character. Its state says how much of the end of the text could still become
an entry: exactly that much is held back, and an accent's base until it has its accents.
"""

import unicodedata
from collections import deque
from functools import lru_cache

from llm.words import ALONE, DIGIT, LETTER, SPACE, SYMBOL, fold, joining_codes, kind_of

BLANK = " "


class Phrases:
    """The automaton: a node for every beginning of an entry; 0 is the empty one."""

    def __init__(self, entries: list[str]) -> None:
        self.next: list[dict[str, int]] = [{}]
        self.depth = [0]
        """Letters of a beginning."""
        self.ends = [0]
        """Letters of the longest entry that a beginning ends with; 0: none."""
        for entry in entries:
            self.add(spaced(entry))
        self.fail = [0] * len(self.next)
        self.link()

    def add(self, letters: str) -> None:
        """A path for an entry."""
        node = 0
        for letter in letters:
            if letter not in self.next[node]:
                self.next[node][letter] = len(self.next)
                self.next.append({})
                self.depth.append(self.depth[node] + 1)
                self.ends.append(0)
            node = self.next[node][letter]
        self.ends[node] = len(letters)

    def link(self) -> None:
        """For each node, its longest end that is a beginning too, from short ones to long ones."""
        waiting = deque(self.next[0].values())
        while waiting:
            node = waiting.popleft()
            self.ends[node] = self.ends[node] or self.ends[self.fail[node]]
            for letter, child in self.next[node].items():
                self.fail[child] = self.step(self.fail[node], letter)
                waiting.append(child)

    def step(self, node: int, letter: str) -> int:
        """The longest end of beginning and letter that is a beginning."""
        while letter not in self.next[node]:
            if not node:
                return 0
            node = self.fail[node]
        return self.next[node][letter]


class Finder:
    """One text, piece by piece. Places are counted in characters of the whole text."""

    def __init__(self, phrases: Phrases) -> None:
        self.phrases = phrases
        self.node = phrases.step(0, BLANK)
        self.places = [0] * phrases.depth[self.node]
        """Where the letters of the beginning come from that the text ends with."""
        self.blank = True
        """Whether the last letter was a blank."""
        self.cluster = ""
        """The last character and what joins it: not read yet, since more may join."""
        self.start = 0
        """Where the cluster stands."""
        self.held = ""
        self.given = 0
        """How much of the text was given back; `held` follows it."""
        self.found: int | None = None
        """Where the first entry stands; what follows is not looked at."""

    def feed(self, text: str) -> str:
        """Take a piece, and give back what is no part of an entry, now or later."""
        self.held += text if self.found is None else ""
        for character in text:
            if self.found is not None:
                break
            self.take(character)
        return self.give(self.free() if self.found is None else self.found)

    def finish(self) -> str:
        """The text is complete: give back the rest, up to an entry."""
        if self.found is None:
            self.read_cluster()
            self.put(BLANK, self.start)
        return self.give(self.given + len(self.held) if self.found is None else self.found)

    def take(self, character: str) -> None:
        """One character: a new cluster, unless it joins what is before it."""
        if joins(character):
            self.cluster += character
            return
        self.read_cluster()
        self.start += len(self.cluster)
        self.cluster = character
        if is_border(character):  # whatever joins a border, the word before it has ended
            self.put(BLANK, self.start)

    def read_cluster(self) -> None:
        """Look at a character that is complete."""
        one = len(self.cluster) == 1
        place = self.start
        for letter in folded(self.cluster) if one else fold(self.cluster):
            kind = kind_of_letter(letter)
            if kind in (SPACE, SYMBOL, ALONE):
                self.put(BLANK, place)
            if kind not in (SPACE, SYMBOL):
                self.put(letter, place)
            if kind == ALONE:
                self.put(BLANK, place)
            place = self.start + 1

    def put(self, letter: str, place: int) -> None:
        """One step of the automaton."""
        if self.found is not None or (letter == BLANK and self.blank):
            return
        self.blank = letter == BLANK
        self.node = self.phrases.step(self.node, letter)
        self.places.append(place)
        del self.places[: len(self.places) - self.phrases.depth[self.node]]
        if length := self.phrases.ends[self.node]:
            self.found = self.places[1 - length]  # entries begin with a blank

    def free(self) -> int:
        """The end of what can be given back."""
        if len(self.places) > 1:
            return self.places[1]
        first = self.cluster[:1]
        return self.start + (is_border(first) or (not self.node and goes_on(first)))

    def give(self, end: int) -> str:
        """What was held back, up to a place."""
        count = max(0, end - self.given)
        text, self.held = self.held[:count], self.held[count:]
        self.given += len(text)
        return text


def spaced(text: str) -> str:
    """The words of a text with one blank around each; one blank if there are none."""
    letters = []
    for letter in fold(text):
        kind = kind_of_letter(letter)
        if kind in (SPACE, SYMBOL):
            letters.append(BLANK)
        else:
            letters.append(f" {letter} " if kind == ALONE else letter)
    return BLANK + "".join(word + BLANK for word in "".join(letters).split())


@lru_cache(1 << 14)
def folded(character: str) -> str:
    """A character without differences of case and form."""
    return fold(character)


@lru_cache(1 << 14)
def kind_of_letter(letter: str) -> int:
    """What `llm.words` says of a character."""
    return kind_of(ord(letter))


@lru_cache(1 << 14)
def joins(character: str) -> bool:
    """Whether what a character becomes depends on those before it."""
    first = unicodedata.normalize("NFKD", fold(character))[:1]
    return unicodedata.combining(first) > 0 or not joining_codes().isdisjoint(
        (ord(character), ord(first))
    )


@lru_cache(1 << 14)
def is_border(character: str) -> bool:
    """Whether words end here, whatever joins this character."""
    return is_all(character, (SPACE, SYMBOL))


@lru_cache(1 << 14)
def goes_on(character: str) -> bool:
    """Whether this character is a part of the word before it, whatever joins it."""
    return is_all(character, (LETTER, DIGIT))


def is_all(character: str, kinds: tuple[int, ...]) -> bool:
    """Whether there is a character, and all that becomes of it is of these kinds."""
    if not character or joins(character):
        return False
    return all(kind_of_letter(letter) in kinds for letter in folded(character))
