"""`python -m jobs render`: manifests for KubeRay of a spec whose cluster is `kubernetes`.

The spec itself goes along, in a ConfigMap. What is relative to a machine is said on the command
line of the job, over it: the storage, which is a volume there, and the cores of a worker, which no
pod could count. Files of this machine are refused: no pod can read them.
"""

import shlex
from collections.abc import Iterator
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from rich.console import Console

from deploy import kuberay
from deploy.config import KubernetesConfig
from deploy.manifests import Manifest, text
from deploy.pods import KEYS, SERVING, STORAGE, Site, resolved, resolved_workers
from deploy.service import KeySpec, ModelSource, Service, declared
from jobs.kubernetes_rules import as_label
from jobs.served import Serving, Start, find
from jobs.spec import Spec
from jobs.stages import ServeStage
from jobs.version import installed
from jobs.yaml_source import Keys
from llm.errors import ArtifactError, DataError, SpecError
from llm.files import write_atomic

ROOT = Path(__file__).resolve().parent.parent
IMAGE_ROOT = "/app"
"""Where the image has this program: as deploy/Dockerfile."""

PATHS = ("shards", "file", "rule", "hook", "words", "folder", "mirror")
"""Keys of a stage whose values are paths; not `keys`, which a Secret holds."""

EXAMPLE = "cluster: {kubernetes: {image: REGISTRY/humpty:VERSION, storage: {claim: NAME}}}"


def render(spec: Spec, folder: Path, console: Console) -> None:
    """Write the manifests, and say what to do with them."""
    site = site_of(spec)
    made = {
        "base.yaml": kuberay.base(site),
        "rayjob.yaml": kuberay.ray_job(site),
        "raycluster.yaml": kuberay.ray_cluster(site),
    }
    services, missing = services_of(spec, site)
    if services:
        made["rayservice.yaml"] = services
    for name, manifests in made.items():
        write_atomic(folder / name, head_of(spec, site) + text(manifests))
    say(console, f"{folder}: {', '.join(made)}")
    for line in missing:
        say(console, line)
    for line in secrets_of(site.kubernetes):
        say(console, line)
    apply = f"kubectl apply -f {folder}/base.yaml -f {folder}"
    say(console, f"Next, to run it (or raycluster.yaml, to work on it):\n  {apply}/rayjob.yaml")
    if services:
        say(console, f"to serve:\n  {apply}/rayservice.yaml")


def site_of(spec: Spec) -> Site:
    """All that the manifests are made of; SpecError for what no pod could do."""
    config = spec.cluster.kubernetes
    if config is None:
        raise SpecError(
            f"{spec.origin.file}: cluster.kubernetes: missing: what the pods are; for example\n"
            f"  {EXAMPLE}"
        )
    findings = [*foreign_paths(spec), *unguarded(spec, config)]
    if findings:
        raise spec.origin.error(findings)
    workers = resolved_workers(spec.cluster)
    file = place_in_image(spec)
    plain = (f"storage={STORAGE}", f"cluster.cpus_per_worker={workers.cpus_per_worker}")
    command = ["python", "-m", "jobs", "run", file, *spec.origin.overrides, *plain]
    return Site(
        name=as_label(spec.name),
        file=file,
        text=Path(spec.origin.file).read_text(encoding="utf-8"),
        command=shlex.join(command),
        cluster=workers,
        kubernetes=resolved(config, workers),
        ray=installed("ray"),
    )


def place_in_image(spec: Spec) -> str:
    """Where the spec lies in pods: beside the files of the image that it may name."""
    file = Path(spec.origin.file).resolve()
    inside = (
        file.relative_to(ROOT) if file.is_relative_to(ROOT / "jobs") else Path("jobs", file.name)
    )
    return f"{IMAGE_ROOT}/{inside}"


def foreign_paths(spec: Spec) -> Iterator[tuple[Keys, str]]:
    """Files of this machine. What lies beside the shipped specs is in the image, too."""
    shipped = Path(spec.origin.file).resolve().is_relative_to(ROOT / "jobs")
    known = (STORAGE, *([str(ROOT / "jobs")] if shipped else []))
    written: dict[str, Any] = {"data": asdict(spec.data) if spec.data else None}
    written["stages"] = {name: asdict(stage) for name, stage in spec.stages.items()}
    for keys, path in paths_in(written):
        if not any(Path(path).is_relative_to(one) for one in known):
            yield (
                keys,
                f"{path!r} is a file of this machine, which no pod can read; copy it to the "
                f"volume and write {STORAGE}/..., or give a URI (s3://, gs://, https://)",
            )


def paths_in(value: Any, keys: Keys = ()) -> Iterator[tuple[Keys, str]]:
    """Absolute paths below a value, by where they stand."""
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from paths_in(inner, (*keys, key))
    elif isinstance(value, list | tuple):
        for number, inner in enumerate(value):
            yield from paths_in(inner, (*keys, number))
    elif isinstance(value, str) and value.startswith("/"):
        name = next(key for key in reversed(keys) if isinstance(key, str))
        if name in PATHS:
            yield keys, value


def unguarded(spec: Spec, config: KubernetesConfig) -> Iterator[tuple[Keys, str]]:
    """Services that anybody in the cluster could use."""
    for name, stage in spec.stages.items():
        if isinstance(stage, ServeStage) and not stage.auth:
            message = "false is not allowed on Kubernetes, where others reach it; leave it out"
            yield ("stages", name, "auth"), message
        elif isinstance(stage, ServeStage) and config.keys_secret is None:
            yield (
                ("cluster", "kubernetes", "keys_secret"),
                f"missing: stage {name} asks for API keys; make a file of them (python -m jobs key "
                "NAME), a Secret of it (kubectl create secret generic NAME --from-file=keys.txt), "
                "and give its name here",
            )


def services_of(spec: Spec, site: Site) -> tuple[list[Manifest], list[str]]:
    """Services of all serve stages whose models are there; of the others, why not."""
    made: list[Manifest] = []
    missing = []
    cores = f"cluster.cpus_per_worker={site.cluster.cpus_per_worker}"
    for name, stage in spec.stages.items():
        if not isinstance(stage, ServeStage):
            continue
        try:
            serving = find(Start(spec.origin.file, (*spec.origin.overrides, cores), stage=name))
        except (ArtifactError, DataError) as error:
            missing.append(
                f"rayservice.yaml: stage {name} is left out: {error}\nor, where the finished model "
                f"is on the volume only, render there: storage={STORAGE}"
            )
            continue
        made += service_of(serving, spec, site, as_label(name))
    return made, missing


def service_of(serving: Serving, spec: Spec, site: Site, name: str) -> list[Manifest]:
    """A serve stage with the models that there are now, at their places in the pods."""

    def moved(path: str) -> str:
        inside = Path(path).is_relative_to(spec.storage)
        return str(Path(STORAGE) / Path(path).relative_to(spec.storage)) if inside else path

    config = replace(serving.config, host="0.0.0.0", port=SERVING)
    models = [replace(one, folder=moved(one.folder)) for one in serving.newest()]
    assert all(isinstance(one, ModelSource) for one in models)
    application = declared(
        models,
        Service(
            config=replace(config, keys=None),
            keys=KeySpec(file=f"{KEYS}/keys.txt"),
            feedback=moved(str(serving.feedback)) if serving.feedback else None,
        ),
    )
    # Every pod with a replica takes requests, and is ready when it can (deploy.pods.probes).
    application["proxy_location"] = "EveryNode"
    cpus = config.engine.cpus
    return kuberay.ray_service(site, name, application, config.autoscaling, cpus)


def secrets_of(config: KubernetesConfig) -> Iterator[str]:
    """What must be in the namespace before."""
    wanted = {
        config.token_secret: "auth_token",
        config.keys_secret: "keys.txt",
        config.s3.secret if config.s3 else None: "access_key_id, secret_access_key",
        config.fault_tolerance.secret if config.fault_tolerance else None: "password",
    }
    for name, keys in wanted.items():
        if name is not None:
            yield f"wants Secret {config.namespace}/{name} with {keys}"
    if config.pull_secret is not None:
        yield f"wants Secret {config.namespace}/{config.pull_secret} for the registry"


def head_of(spec: Spec, site: Site) -> str:
    """The first lines of a file."""
    overrides = " ".join(map(shlex.quote, spec.origin.overrides))
    file = Path(spec.origin.file).name
    return f"# Made by: python -m jobs render {file} {overrides}".rstrip() + "\n"


def say(console: Console, line: str) -> None:
    """Print a line as it is."""
    console.print(line, markup=False, highlight=False, soft_wrap=True)
