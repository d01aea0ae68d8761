"""What must hold between the machines of a spec and what Kubernetes is asked for."""

import re
from collections.abc import Iterator

from deploy.config import KubernetesConfig
from jobs.spec import MachinesConfig, SpecFile
from jobs.yaml_source import Keys

Findings = Iterator[tuple[Keys, str]]

LABEL = re.compile(r"[a-z]([-a-z0-9]*[a-z0-9])?")
"""A name of Kubernetes, as strict as any of its objects wants it (RFC 1035)."""

SUBDOMAIN = re.compile(r"[a-z0-9]([-a-z0-9.]*[a-z0-9])?")
"""A name of an object whose name is nothing else."""

LONGEST = 40
"""Letters of a run's name: KubeRay allows 47, of which `-run` and names of stages need some."""


def of_kubernetes(spec: SpecFile) -> Findings:
    """Names that Kubernetes takes, an image that stays the same, pods into which workers fit."""
    config = spec.cluster.kubernetes
    if config is None:
        return
    here: Keys = ("cluster", "kubernetes")
    name = as_label(spec.name)
    if not LABEL.fullmatch(name) or len(name) > LONGEST:
        message = f"begin with a letter and take {LONGEST} letters at most"
        yield ("name",), f"{spec.name!r} cannot be a name in Kubernetes; {message}"
    for keys, message in (*of_image(config), *of_names(config), *of_pods(spec.cluster, config)):
        yield (*here, *keys), message


def as_label(name: str) -> str:
    """The name of a run or a stage in Kubernetes."""
    return re.sub(r"[._]", "-", name.lower())


def of_image(config: KubernetesConfig) -> Findings:
    """Every pod, also one that comes next week, runs the same program."""
    name = config.image.rpartition("/")[2]
    if "@sha256:" in name:
        return
    tag = name.partition(":")[2]
    if tag in ("", "latest"):
        message = "all pods must run the same program; give a version, NAME:1.2, or NAME@sha256:..."
        yield ("image",), f"{config.image!r} is not allowed: {message}"


def of_names(config: KubernetesConfig) -> Findings:
    """Names of what is there already."""
    storage, state = config.storage, config.fault_tolerance
    named: dict[Keys, str | None] = {
        ("namespace",): config.namespace,
        ("pull_secret",): config.pull_secret,
        ("token_secret",): config.token_secret,
        ("keys_secret",): config.keys_secret,
        ("queue",): config.queue,
        ("storage", "claim"): storage.claim,
        ("storage", "storage_class"): storage.storage_class,
        ("s3", "secret"): config.s3.secret if config.s3 else None,
        ("fault_tolerance", "secret"): state.secret if state else None,
    }
    for keys, name in named.items():
        if name is not None and not SUBDOMAIN.fullmatch(name):
            yield keys, f"{name!r} cannot be a name in Kubernetes; use a-z, 0-9 and - inside"
    if (storage.claim is None) == (storage.size is None):
        yield ("storage",), "give either claim, a volume that is there, or size, for a new one"
    if storage.claim is not None and storage.storage_class is not None:
        yield ("storage", "storage_class"), "has no effect together with claim; leave it out"
    if state and state.secret and not state.redis:
        yield ("fault_tolerance", "secret"), "has no effect without redis; leave it out"


def of_pods(cluster: MachinesConfig, config: KubernetesConfig) -> Findings:
    """Workers fill whole pods, and pods whole GPUs."""
    each = config.workers.workers
    counts = {cluster.least_workers, cluster.most_workers}
    if any(count % each for count in counts):
        wanted = " and ".join(map(str, sorted(counts)))
        yield ("workers", "workers"), f"{each} is not allowed; must divide the {wanted} workers"
    gpus = cluster.gpus_per_worker * each
    if gpus != round(gpus):
        message = f"{each} with gpus_per_worker {cluster.gpus_per_worker:g} make {gpus:g} GPUs"
        yield ("workers", "workers"), f"{message}; a pod gets whole ones"
    cpus = config.workers.cpus
    if "auto" not in (cpus, cluster.cpus_per_worker) and cpus < each * cluster.cpus_per_worker:
        least = each * cluster.cpus_per_worker
        message = f"{each} workers with cpus_per_worker {cluster.cpus_per_worker}"
        yield ("workers", "cpus"), f"{cpus} is not allowed; must be at least {least}, for {message}"
