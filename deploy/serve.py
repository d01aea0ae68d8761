"""The service on Ray Serve: one front, and engines that come and go with the load.

    client -> Front (HTTP, keys, limits, filters, feedback; one process) -> Engines (models)

1. `start` tells Ray what is to run (`deploy.service.declared`), and waits until it can answer.
2. Front listens itself, or behind Ray's proxies (`serve deploy` on a cluster).
3. A job goes to the replica of Engines that has least to do; its events come back in bundles.
   Every replica serves every model (`deploy.shelf`). Ray's routing by model would send all jobs of
   one to the replica that loaded it first until that is full, which leaves new replicas idle.
4. A client that leaves closes its iterator, which cancels the call, which frees the slot.
5. A replica that dies breaks the answers it was writing (`Failed`); jobs that had not begun go to
   another one.
6. A hot swap (`Server.swap`, or `serve deploy` with other models) changes `user_config` alone.
   Front has all replicas load the new artifacts beside the old, then turns to them, then has the
   old ones dropped. Jobs in the making end where they began.
"""

import asyncio
import logging
import math
import time
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import aclosing
from dataclasses import replace
from typing import Any

import ray
from ray import serve
from ray.exceptions import RayActorError, RayError, RayTaskError
from ray.serve._private.api import serve_start
from ray.serve.config import AutoscalingConfig
from ray.serve.exceptions import DeploymentUnavailableError
from ray.serve.handle import DeploymentHandle
from ray.serve.schema import ServeDeploySchema

from deploy.config import ServeConfig
from deploy.front import Front
from deploy.protocol import Ended, Event, Failed, Job, ModelCard, Refused
from deploy.replica import Engines
from deploy.service import (
    APP,
    ENGINE,
    ENGINES,
    FRONT,
    KeySpec,
    ModelSource,
    ServeError,
    Service,
    card,
    declared,
    free_port,
    http_options,
    logging_config,
    proxy_location,
    read_service,
)
from llm.errors import SpecError

logger = logging.getLogger("humpty.serve")

TRIES = 3
"""Replicas that a job is given to before it is refused, if they die before it begins."""

PASSES, PAUSE = 3, 0.5
"""How often, and at what distance in seconds, replicas are told to load a model. While Ray gives
them their new `user_config`, one after the other, they cannot be reached for a moment."""

START_SECONDS = 600


class RayBackend:
    """Implements `deploy.protocol.Backend` over the engines' handle."""

    def __init__(self, engines: DeploymentHandle) -> None:
        self.engines = engines
        self.stream = engines.options(method_name="generate", stream=True)
        self.sources: dict[str, ModelSource] = {}
        self.cards: dict[str, ModelCard] = {}
        self.running = 0
        self.closing = False
        self.idle = asyncio.Event()

    def models(self) -> Mapping[str, ModelCard]:
        """What is served: nothing any more by a server that is stopping."""
        return {} if self.closing else self.cards

    def turn_to(self, sources: Sequence[ModelSource]) -> None:
        """Serve these from now on."""
        self.cards = {source.id: card(source) for source in sources}
        self.sources = {source.id: source for source in sources}

    async def generate(self, model: str, job: Job) -> AsyncGenerator[Event, None]:
        """The events of a job; never raises what only a replica can have done wrong."""
        if self.closing:
            yield Refused(503, "closing", "the server is stopping; ask again in a minute")
            return
        source = self.sources.get(model)
        if source is None:
            yield Refused(404, "model_not_found", f"{model} is not served any more", "model")
            return
        self.running += 1
        try:
            async with aclosing(self._attempts(source, job)) as events:
                async for event in events:
                    yield event
        finally:
            self.running -= 1
            if not self.running:
                self.idle.set()

    async def _attempts(self, source: ModelSource, job: Job) -> AsyncGenerator[Event, None]:
        for _ in range(TRIES):
            begun = False
            try:
                async with aclosing(self._attempt(source, job)) as events:
                    async for event in events:
                        begun = True
                        yield event
                return
            except DeploymentUnavailableError:
                break
            except RayTaskError as error:
                # Its words might quote a prompt.
                logger.error("job %s: %s in the engine", job.id, type(error.cause).__name__)
                yield Failed("the engine failed; ask again")
                return
            except RayError as error:
                logger.error("job %s: lost its replica: %s", job.id, type(error).__name__)
                if begun:
                    yield Failed("the process that wrote this answer is gone; ask again")
                    return
        yield Refused(503, "no_engine", "no engine can answer just now; ask again in a few seconds")

    async def _attempt(self, source: ModelSource, job: Job) -> AsyncGenerator[Event, None]:
        answer: Any = self.stream.remote(source, job)  # a generator, as the handle streams
        missing = len(job.prompts) * job.n
        try:
            async for bundle in answer:
                for event in bundle:
                    # Ray tells of the end later, and who has it all leaves and asks again.
                    missing -= isinstance(event, Ended)
                    yield event
                    if not missing:
                        return
            missing = 0  # refused or failed
        finally:
            if missing:
                answer.cancel()

    async def follow(self, sources: Sequence[ModelSource]) -> None:
        """Turn to other models: all replicas load what is new first, and drop what is old after."""
        old = {(s.id, s.folder): s for s in self.sources.values()}
        new = {(s.id, s.folder): s for s in sources}
        fresh = [new[key] for key in new.keys() - old.keys()]
        for _ in range(PASSES if fresh else 0):
            await self._all("prepare", fresh)
            await asyncio.sleep(PAUSE)
        self.turn_to(sources)
        await self._all("retire", [old[key] for key in old.keys() - new.keys()])

    async def _all(self, method: str, sources: Sequence[ModelSource]) -> None:
        if sources:
            try:
                await self.engines.broadcast(method, list(sources)).results_async()
            except RayTaskError as error:
                raise ServeError(str(error.cause)) from error
            except (DeploymentUnavailableError, RayActorError) as error:
                # Who comes later loads by itself.
                logger.info("%s: %s", method, type(error).__name__)

    async def drain(self, seconds: float) -> int:
        """Take no more jobs, and give those in the making time; how many were left."""
        self.closing = True
        self.idle.clear()
        if self.running:
            waiting = asyncio.wait_for(self.idle.wait(), seconds)
            await asyncio.gather(waiting, return_exceptions=True)
        return self.running


@serve.ingress()
class RayFront(Front):
    """The front as Ray starts it."""

    def __init__(self, args: dict[str, Any], engines: DeploymentHandle) -> None:
        super().__init__(read_service(args), RayBackend(engines))


def app(args: dict[str, Any]) -> serve.Application:
    """The application; Ray calls this with the arguments of `deploy.service.declared`."""
    config = read_service(args).config
    engine, limits, scaling = config.engine, config.limits, config.autoscaling
    common: dict[str, Any] = {
        "graceful_shutdown_timeout_s": max(limits.drain, 1.0),
        "graceful_shutdown_wait_loop_s": 0.2,
        "max_constructor_retry_count": 2,
        "health_check_period_s": 2.0,  # also how soon a death is noticed
    }
    engines = serve.deployment(
        name=ENGINES,
        ray_actor_options={"num_cpus": engine.cpus},
        # As many again as it writes at once, so that a slot that falls free is taken at once; the
        # others wait in the front, where LimitsConfig bounds them, for any replica.
        max_ongoing_requests=2 * engine.slots,
        autoscaling_config=AutoscalingConfig(
            min_replicas=scaling.min,
            max_replicas=scaling.max,
            target_ongoing_requests=scaling.target,
            upscale_delay_s=scaling.upscale_delay,
            downscale_delay_s=scaling.downscale_delay,
            # Averages over half a minute, told every ten seconds, see a rush half a minute late.
            look_back_period_s=max(2.0, min(30.0, scaling.upscale_delay)),
            metrics_interval_s=1.0,
        ),
        **common,
    )(Engines)
    front = serve.deployment(
        name=FRONT,
        num_replicas=1,
        # On the head node, where Ray's proxy would be.
        ray_actor_options={"num_cpus": 0, "resources": {"node:__internal_head__": 0.001}},
        max_ongoing_requests=100_000,  # bounded by LimitsConfig, with answers that say so
        **common,
    )(RayFront)
    return front.bind(args, engines.bind(args))


def start(
    models: Sequence[ModelSource],
    config: ServeConfig,
    *,
    keys: KeySpec | None,
    feedback: str | None,
    log: str | None = None,
    listens: bool = True,
    engine: str = ENGINE,
) -> "Server":
    """Serve models on the connected cluster; returns when requests are answered."""
    config = replace(config, port=free_port(config.host, config.port))
    service = Service(
        config=config, keys=keys, feedback=feedback, log=log, listens=listens, engine=engine
    )
    require_room(config)
    for model in models:
        card(model)  # a folder without a model is said before anything starts
    plan = declared(models, service)
    logging.getLogger("ray.serve").setLevel(logging.ERROR)  # we say ourselves what happens
    serve.start(
        proxy_location=proxy_location(service),
        http_options=http_options(config),
        logging_config=logging_config(),
    )
    server = Server(models, service)
    server.deploy(plan)
    return server


def require_room(config: ServeConfig) -> None:
    """Refuse replicas that would wait forever for a place in the cluster."""
    count = max(config.autoscaling.min, 1)
    wanted, there = count * config.engine.cpus, ray.cluster_resources().get("CPU", 0)
    if wanted > there:
        raise SpecError(
            f"serve: {count} replicas with {config.engine.cpus} CPUs each need {wanted}, the "
            f"cluster has {there:g}; lower engine.cpus or autoscaling.min, or add nodes"
        )


class Server:
    """A service that runs."""

    def __init__(self, models: Sequence[ModelSource], service: Service) -> None:
        self.models, self.service = tuple(models), service

    @property
    def url(self) -> str:
        """Where it answers; 0.0.0.0 is not an address to go to."""
        config = self.service.config
        host = "127.0.0.1" if config.host in ("0.0.0.0", "::") else config.host
        return f"http://{f'[{host}]' if ':' in host else host}:{config.port}"

    def deploy(self, plan: dict[str, Any]) -> None:
        """Have Ray run what is declared, and wait until it does."""
        client = serve_start()
        client.deploy_apps(ServeDeploySchema(**plan))
        end = time.monotonic() + START_SECONDS
        while (found := self._app()) is None or found.status != "RUNNING":
            if found and found.status in ("DEPLOY_FAILED", "UNHEALTHY"):
                raise ServeError(f"serve: it does not start: {reason(found)}")
            if time.monotonic() > end:
                raise ServeError(
                    f"serve: it did not start in {START_SECONDS} s: {found and reason(found)}"
                )
            time.sleep(0.1)
        if not self.service.listens:
            client.wait_for_proxies_serving(wait_for_applications_running=True)

    def swap(self, models: Sequence[ModelSource]) -> None:
        """Serve other models, or newer ones, from the next request on; those that are being
        answered end with the old. If they cannot be loaded everything stays as it was."""
        for model in models:
            card(model)
        before, self.models = self.models, tuple(models)
        self.deploy(declared(models, self.service))
        wanted = {model.id: model.folder for model in models}
        problem = self._settled(wanted)
        if problem is not None:
            self.models = before
            self.deploy(declared(before, self.service))
            raise ServeError(f"serve: the models stay as they were: {problem}")

    def _settled(self, wanted: dict[str, str]) -> str | None:
        """Wait until the front serves what is wanted; else why it does not."""
        front = serve.get_deployment_handle(FRONT, APP)
        end = time.monotonic() + START_SECONDS
        while time.monotonic() < end:
            asked, serving, problem = front.serving.remote().result(timeout_s=START_SECONDS)
            if asked == wanted and (problem or serving == wanted):
                return None if problem is None else str(problem)
            time.sleep(0.1)
        return f"they were not loaded in {START_SECONDS} s"

    def status(self) -> dict[str, Any]:
        """State, message, and the number of replicas by state."""
        found = self._app()
        if found is None:
            return {"state": "STOPPED", "message": "", "replicas": {}}
        engines = found.deployments.get(ENGINES)
        return {
            "state": str(found.status.value),
            "message": found.message,
            "replicas": dict(engines.replica_states) if engines else {},
            "models": {model.id: model.artifact for model in self.models},
        }

    def wait(self) -> None:
        """Return when the service was taken down by somebody else."""
        while self._app() is not None:
            time.sleep(1)

    def stop(self) -> None:
        """Take no more requests, let those that are being answered end, and shut down."""
        if self._app() is None:
            return
        seconds = self.service.config.limits.drain
        front = serve.get_deployment_handle(FRONT, APP)
        try:
            front.drain.remote(seconds).result(timeout_s=math.ceil(seconds) + 10)
        except (RayError, TimeoutError, DeploymentUnavailableError) as error:
            logger.warning("the front does not drain: %s", type(error).__name__)
        serve.shutdown()

    def _app(self) -> Any:
        return serve.status().applications.get(APP)


def reason(found: Any) -> str:
    """What an application and its deployments complain of, the last line of a traceback."""
    said = [found.message, *(d.message for d in found.deployments.values())]
    lines = [line.strip() for text in said for line in text.splitlines() if line.strip()]
    told = [line for line in lines if "Error:" in line]
    return (told or lines or ["Ray says nothing; see its logs"])[-1]
