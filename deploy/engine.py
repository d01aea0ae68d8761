"""A model that answers many requests at once: asyncio outside, one computing thread inside.

    job -> tokens (a helper thread) -> inbox -> steps (the computing thread) -> events per job

The loop of asyncio only passes messages: tokenising and computing never block it. A job that is
given up is forgotten before the next step begins. A step that fails ends the jobs that were running
with `Failed`, and the others go on from empty memory; after `PATIENCE` failures without a success
between them the engine says so by `healthy` and refuses.
"""

import asyncio
import hashlib
import logging
import threading
from collections import deque
from collections.abc import AsyncGenerator, Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import torch

from deploy.config import EngineConfig
from deploy.core import Core, Order, Told
from deploy.prompts import Question, Reader, Unfit
from deploy.protocol import Ended, Event, Failed, Job, ModelCard, Refused, Sampling
from deploy.service import fingerprint_in
from deploy.writing import Tokens
from llm.artifact import read_model, read_shape
from llm.chat import Template
from llm.chat_artifact import is_chat
from llm.errors import SpecError
from llm.world import World, fastest_precision
from llm.writer import Writer

logger = logging.getLogger(__name__)

PATIENCE = 3
"""Failed steps in a row after which an engine is broken."""

FAILED = Failed("the engine failed while it wrote this answer; ask again")
STOPPED = Failed("the server stopped before this answer was complete; ask again")


class Load(NamedTuple):
    """How busy an engine is."""

    running: int
    """Texts that have a slot."""
    waiting: int
    """Texts that wait for one."""
    usage: float
    """Share of the key-value memory that texts being written fill."""


class Ticket:
    """An order, and where its events go."""

    def __init__(self, order: Order) -> None:
        self.order = order
        self.loop = asyncio.get_running_loop()
        self.events: asyncio.Queue[Event] = asyncio.Queue()


class Engine:
    """Serves the model of a folder. `start` before the first job, `stop` after the last."""

    def __init__(self, folder: Path, id: str, config: EngineConfig, *, threads: int) -> None:
        shape, vocab_size = read_shape(folder)
        if config.tokens < shape.context:
            raise SpecError(
                f"engine.tokens: {config.tokens} is less than one text of {id} can take, whose "
                f"context is {shape.context} tokens; give at least {shape.context}, or auto"
            )
        self.folder, self.config, self.threads = folder, config, threads
        self.card = ModelCard(
            id=id,
            artifact=fingerprint(folder),
            created=int((folder / "model.safetensors").stat().st_mtime),
            context=shape.context,
            chat=is_chat(folder),
            vocab_size=vocab_size,
        )
        self.healthy = True
        self._core: Core | None = None
        self._inbox: deque[Callable[[Core], None]] = deque()
        self._tickets: dict[Order, Ticket] = {}
        self._wake = threading.Condition()
        self._open, self._ending, self._ended = False, False, False
        self._idle = threading.Event()
        self._idle.set()
        self._helper = ThreadPoolExecutor(1, thread_name_prefix="tokenise")
        self._thread = threading.Thread(target=self._run, name="engine", daemon=True)

    # -- the side of asyncio

    async def start(self) -> None:
        """Loads the model; returns when it can answer."""
        loop = asyncio.get_running_loop()
        self._ready = loop.create_future()
        self._thread.start()
        await self._ready
        self._open = True

    async def stop(self, drain: float) -> None:
        """Takes no more jobs, gives those in the making `drain` seconds, ends the thread."""
        self._open = False
        await asyncio.to_thread(self._idle.wait, drain)
        with self._wake:
            self._ending = True
            self._wake.notify()
        if self._thread.ident is not None:
            await asyncio.to_thread(self._thread.join)
        self._helper.shutdown(wait=False)

    async def generate(self, job: Job) -> AsyncGenerator[Event, None]:
        """The events of a job; closing the iterator frees its slots before the next step."""
        if not (self._open and self.healthy):
            yield self._closed()
            return
        try:
            loop = asyncio.get_running_loop()
            questions = await loop.run_in_executor(self._helper, self.reader.questions, job)
        except Unfit as unfit:
            yield unfit.refused
            return
        ticket = self._submit(job, questions)
        if ticket is None:
            yield self._closed()
            return
        missing = len(ticket.order.choices)
        try:
            while missing:
                event = await ticket.events.get()
                missing -= isinstance(event, Ended)
                yield event
                if isinstance(event, Failed):
                    return
        finally:
            if missing:
                self._post(lambda core: self._give_up(core, ticket.order))

    @property
    def load(self) -> Load:
        """How busy it is just now."""
        core = self._core
        if core is None:
            return Load(0, 0, 0.0)
        waiting = len(core.scheduler.waiting) + len(self._inbox)
        return Load(len(core.scheduler.running), waiting, core.table.usage)

    def _closed(self) -> Refused:
        if not self.healthy:
            return Refused(503, "engine_broken", "the engine is broken; ask again somewhat later")
        return Refused(503, "shutting_down", "the server is stopping; ask again somewhat later")

    def _submit(self, job: Job, questions: list[Question]) -> Ticket | None:
        """Hands an order over, unless nobody is there any more to take it."""
        order = Order(job, questions, self.tokens)
        with self._wake:
            if self._ended:
                return None
            ticket = self._tickets[order] = Ticket(order)
            self._idle.clear()
            self._inbox.append(lambda core: core.add(order))
            self._wake.notify()
        return ticket

    def _post(self, message: Callable[[Core], None]) -> None:
        """Something for the computing thread, before its next step."""
        with self._wake:
            self._inbox.append(message)
            self._wake.notify()

    # -- the computing thread

    @torch.inference_mode()
    def _run(self) -> None:
        """Loads, then steps until the end."""
        try:
            core = self._load()
        except BaseException as error:
            self._answer_start(error)
            return
        self._answer_start(None)
        try:
            self._steps(core)
        except BaseException:
            logger.exception("the engine is broken")
            self.healthy = False
        with self._wake:
            self._ended = True
        self._idle.set()
        self._fail(list(self._tickets), STOPPED if self.healthy else FAILED)

    def _steps(self, core: Core) -> None:
        """One after the other, as long as there is work and hope."""
        failures = 0
        while self._has_work(core):
            try:
                self._deliver(core.step())
                failures = 0
            except Exception:
                failures += 1
                logger.exception("a step of the engine failed (%d in a row)", failures)
                self.healthy = failures < PATIENCE
                self._fail(core.abandon(), FAILED)

    def _load(self) -> Core:
        """The model as it is computed with."""
        torch.set_num_threads(self.threads)
        device = World.current().device
        model, tokenizer = read_model(self.folder)
        precision = self.config.precision
        chosen = fastest_precision(device) if precision == "auto" else precision
        writer = Writer(model.to(device), chosen)
        model.blocks = torch.nn.ModuleList()  # the writer has its own copy of their weights
        self.tokens = Tokens(tokenizer)
        template = Template(tokenizer) if self.card.chat else None
        self.reader = Reader(tokenizer, template, self.card.context)
        core = Core(
            writer,
            self.tokens,
            slots=self.config.slots,
            lines=max(1, self.config.tokens // self.card.context),
            chunk=self.config.chunk,
        )
        self._warm_up(core, tokenizer.eos)
        self._core = core
        return core

    def _warm_up(self, core: Core, token: int) -> None:
        """The first products set up their kernels; no request should wait for that."""
        room = min(self.config.chunk, self.card.context - 2)
        job = Job(id="", prompts=(), sampling=Sampling(temperature=0.0, ignore_end=True))
        order = Order(job, [Question([token] * max(1, room), 2, (), ())], self.tokens)
        core.add(order)
        while not core.idle:
            core.step()
        core.table.forget()

    def _answer_start(self, error: BaseException | None) -> None:
        def answer() -> None:
            if not self._ready.done():
                self._ready.set_exception(error) if error else self._ready.set_result(None)

        self._ready.get_loop().call_soon_threadsafe(answer)

    def _has_work(self, core: Core) -> bool:
        """Waits for something to do; false at the end."""
        while True:
            with self._wake:
                while not (self._inbox or self._ending or not core.idle):
                    self._idle.set()
                    self._wake.wait()
                if self._ending or not self.healthy:
                    return False
                messages = list(self._inbox)
                self._inbox.clear()
            for message in messages:
                message(core)
            if not core.idle:
                return True

    def _give_up(self, core: Core, order: Order) -> None:
        core.cancel(order)
        self._tickets.pop(order, None)

    def _deliver(self, told: list[Told]) -> None:
        """Events to those who wait for them, in one call for all of a loop."""
        batches: dict[asyncio.AbstractEventLoop, list[tuple[Ticket, Event]]] = {}
        for order, event in told:
            ticket = self._tickets.get(order)
            if ticket is not None:
                batches.setdefault(ticket.loop, []).append((ticket, event))
        for order, _ in told:
            if order.done:
                self._tickets.pop(order, None)
        for loop, batch in batches.items():
            post(loop, batch)

    def _fail(self, orders: list[Order], event: Event) -> None:
        """These will not be completed."""
        self._deliver([(order, event) for order in orders])
        for order in orders:
            self._tickets.pop(order, None)


def post(loop: asyncio.AbstractEventLoop, batch: list[tuple[Ticket, Event]]) -> None:
    """Puts events into their queues on their loop's thread."""

    def put() -> None:
        for ticket, event in batch:
            ticket.events.put_nowait(event)

    if not loop.is_closed():
        loop.call_soon_threadsafe(put)


def fingerprint(folder: Path) -> str:
    """The artifact's, or for a folder that no stage made that of its weights."""
    if known := fingerprint_in(folder):
        return known
    with (folder / "model.safetensors").open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()[:12]
