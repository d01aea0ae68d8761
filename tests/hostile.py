"""Texts that break tokenizers, as many as are wanted: the same ones every time."""

import random

PARTS = [
    *("<|endoftext|>", "<|bos|>", "<|eos|>", "<|pad|>", "<|user|>", "<|end|>", "<s>", "</s>"),
    *("<unk>", "[INST]", "<think>", "<0x0A>", "\ufdd0", "<\ufdd0|end|>", "\u2581", "<", "[", "|"),
    *(" ", "  ", "   \t", "\n", "\r\n", "\n\n\n", "\0", "\x7f", "\u00a0", "\u200b", "\u3000"),
    *("don't", "WE'LL", "3.14159", "1234567", "x_y", "https://a.b/c?d=e&f", "aaaaaaaaaaaaaaaa"),
    *("é", "e\u0301", "ﬁ", "İ", "ß", "\u1100\u1161\u11a8", "각", "ก็", "नमस्ते", "مرحبا\u202e"),
    *("矮胖子坐墙头", "ｆｕｌｌ", "👩‍👩‍👧‍👦", "🇨🇳", "𝔘𝔫𝔦", "\U0010ffff", "\ufffd", "\ufeff", "½²"),
]


def hostile(count: int, seed: int = 0) -> list[str]:
    """Some parts in a row, and letters from all over Unicode."""
    draw = random.Random(seed)
    return [text(draw) for _ in range(count)]


def text(draw: random.Random) -> str:
    """One of them."""
    made = draw.choices(PARTS, k=draw.randrange(8))
    for _ in range(draw.randrange(4)):
        made.insert(draw.randrange(len(made) + 1), anywhere(draw))
    return "".join(made)


def anywhere(draw: random.Random) -> str:
    """Up to six characters of one neighbourhood of Unicode, no half of a pair among them."""
    start = draw.choice([0x20, 0xA0, 0x300, 0x590, 0xE00, 0x2000, 0x3040, 0xAC00, 0x1F300])
    return "".join(chr(draw.randrange(start, start + 0x200)) for _ in range(draw.randrange(1, 7)))
