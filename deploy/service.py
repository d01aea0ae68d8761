"""What is served, as plain records: everything that Ray Serve is told, before Ray is there.

    ModelSource ..., Service  ->  declared()  ->  ray.serve.schema.ServeDeploySchema

The same dict goes to Ray from `deploy.serve.start` and, as YAML, from `serve deploy`. What may
change without a restart, the models, stands in the `user_config` of both deployments; the rest in
the arguments of the application, of which another value starts everything anew.

Arguments are written into logs and shown on dashboards, so keys are in them only as hashes.
Neither torch nor ray.
"""

import json
import socket
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import yaml
from pydantic import TypeAdapter

from deploy.config import ServeConfig
from deploy.protocol import ModelCard
from llm.errors import ArtifactError, SpecError, UserError

APP, FRONT, ENGINES = "humpty", "Front", "Engines"
"""Names of the application and of its deployments."""

ENGINE = "deploy.engine:Engine"

ENVIRONMENT = {
    # Ray's own work and ours in one thread: nothing here blocks, and each hop costs time.
    "RAY_SERVE_RUN_USER_CODE_IN_SEPARATE_THREAD": "0",
    "RAY_SERVE_RUN_ROUTER_IN_SEPARATE_LOOP": "0",
    # Not RAY_SERVE_USE_GRPC_BY_DEFAULT, which halves the work of sending: in 1 of 5 runs a call to
    # replicas that were being reconfigured failed with "Channel is closed" (2.60).
}


class ServeError(UserError):
    """A service that cannot start or follow."""


@dataclass(frozen=True)
class ModelSource:
    """A model to be served: the name it goes by, and its folder."""

    id: str
    folder: str
    created: int
    """Seconds since 1970."""
    owner: str = "humpty"

    @property
    def artifact(self) -> str:
        """The fingerprint in its manifest, which leads back to all that it was made of; of a folder
        that no stage made, its name."""
        return fingerprint_in(Path(self.folder)) or Path(self.folder).name


def fingerprint_in(folder: Path) -> str | None:
    """What the manifest of an artifact says that it is; None without one."""
    try:
        return str(json.loads((folder / "manifest.json").read_text())["fingerprint"])
    except (OSError, ValueError, KeyError, TypeError):
        return None


@dataclass(frozen=True, kw_only=True)
class KeySpec:
    """Where keys are looked up: a file of hashes, or `hashes` (`sha256:...`) themselves."""

    file: str | None = None
    hashes: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Service:
    """Arguments of the application."""

    config: ServeConfig
    keys: KeySpec | None = None
    """None: everybody may ask."""
    feedback: str | None = None
    """Folder that it is kept in; none: it is not."""
    log: str | None = None
    """File that gets a line for each request; none: standard error, which Ray keeps in its logs."""
    listens: bool = False
    """Whether Front listens itself, in place of Ray's proxy: a third of the work for each piece of
    text, a tenth for each request, but only on one node of the cluster."""
    engine: str = ENGINE
    """What writes, as module:class. Tests put a stand-in here."""


def read_service(args: dict[str, Any]) -> Service:
    """Arguments as they were declared."""
    return TypeAdapter(Service).validate_json(json.dumps(args))


def read_models(user_config: dict[str, Any]) -> tuple[ModelSource, ...]:
    """Models as they were declared."""
    return tuple(ModelSource(**model) for model in user_config["models"])


def card(source: ModelSource) -> ModelCard:
    """What is told of a model, from the small files of its folder."""
    folder = Path(source.folder)
    try:
        shape = json.loads((folder / "model.json").read_text())
        context, vocab_size = shape["model"]["context"], shape["vocab_size"]
    except (OSError, ValueError, KeyError) as error:
        raise ArtifactError(
            f"{source.id}: {folder / 'model.json'} is not a readable model description ({error}); "
            "give the folder that a training stage wrote"
        ) from error
    return ModelCard(
        id=source.id,
        artifact=source.artifact,
        created=source.created,
        context=context,
        # As `llm.chat_artifact.is_chat`, which cannot be asked here: it imports torch.
        chat=(folder / "chat_template.jinja").exists(),
        vocab_size=vocab_size,
        owner=source.owner,
    )


def declared(models: Sequence[ModelSource], service: Service) -> dict[str, Any]:
    """The application as `serve deploy` takes it."""
    names = [model.id for model in models]
    if not names or len(set(names)) < len(names):
        raise SpecError(
            f"models: {', '.join(names) or 'none'}; one at least, and each under its own name"
        )
    config = service.config
    user_config = {"models": [asdict(model) for model in models]}
    return {
        "proxy_location": proxy_location(service),
        "http_options": http_options(config),
        "logging_config": logging_config(),
        "applications": [
            {
                "name": APP,
                "route_prefix": "/",
                "import_path": "deploy.serve:app",
                "runtime_env": {"env_vars": ENVIRONMENT},
                "args": json.loads(json.dumps(asdict(service))),
                "deployments": [
                    {"name": name, "user_config": user_config} for name in (FRONT, ENGINES)
                ],
            }
        ],
    }


def proxy_location(service: Service) -> str:
    """Where Ray runs proxies."""
    return "Disabled" if service.listens else "HeadOnly"


def http_options(config: ServeConfig) -> dict[str, Any]:
    """Where Ray's proxy listens. Its own time limit is only a net: ours ends answers properly."""
    return {
        "host": config.host,
        "port": config.port,
        "request_timeout_s": config.limits.timeout + 30,
    }


def logging_config() -> dict[str, Any]:
    """Ray Serve's own logs: what goes wrong. The access log is ours."""
    return {"log_level": "WARNING", "enable_access_log": False}


def config_yaml(models: Sequence[ModelSource], config: ServeConfig, **service: Any) -> str:
    """The file for `serve deploy`; on the cluster this package must be importable."""
    text = yaml.safe_dump(declared(models, Service(config=config, **service)), sort_keys=False)
    return (
        f"# serve deploy -a http://HEAD:8265 THIS_FILE; again with other models: a hot swap\n{text}"
    )


def family(host: str) -> socket.AddressFamily:
    """Of an address that was written down."""
    return socket.AF_INET6 if ":" in host else socket.AF_INET


def free_port(host: str, port: int) -> int:
    """The port itself if nobody listens there, any free one for 0."""
    with socket.socket(family(host)) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            raise SpecError(
                f"serve: port {port} of {host} cannot be used ({error.strerror}); end the program "
                "that listens there, or give another with port: (0: any free one)"
            ) from error
        return int(probe.getsockname()[1])
