"""What a chat model answers to one question, in pieces of whole characters."""

from collections.abc import Iterator

from llm.chat import Conversation, Template, Turn
from llm.config import SamplingConfig
from llm.examples import shortened
from llm.generate import StopStrings, generate
from llm.model import Transformer
from llm.tokenizer import Decoder, Tokenizer


def reply(model: Transformer, template: Template, question: str, tokens: int) -> str:
    """The most probable answer, of at most `tokens` tokens and half of the context."""
    limit = min(tokens, model.config.context // 2)
    sampling = SamplingConfig(temperature=0.0, max_tokens=limit)
    return "".join(reply_in_pieces(model, template.tokenizer, question, sampling))


def reply_in_pieces(
    model: Transformer,
    tokenizer: Tokenizer,
    question: str | Conversation,
    sampling: SamplingConfig,
) -> Iterator[str]:
    """An answer up to a stop string; of a prompt that leaves no room for it the end counts."""
    template = Template(tokenizer)
    asked = (Turn("user", question),) if isinstance(question, str) else question
    room = max(1, model.config.context - sampling.max_tokens)
    prompt = shortened(template.prompt(asked), room)
    decoder = Decoder(tokenizer, continues=True, broken="ignore")
    stop = StopStrings(sampling.stop)
    for token in generate(model, prompt, sampling, end=template.end, never=template.never):
        if piece := stop.feed(decoder.feed(token)):
            yield piece
        if stop.found:
            return
    if rest := stop.finish():
        yield rest
