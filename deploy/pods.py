"""Pods that Ray runs in, as Kubernetes' "restricted" pod security standard wants them.

Not root, nothing to gain by being so, and a root file system that cannot be written: what Ray and
torch write goes to four volumes that die with the pod (/tmp, Ray's sessions and logs in /tmp/ray,
HOME, and the object store in /dev/shm), what shall stay goes to the shared one. Requests are
limits, so Ray's idea of a pod's cores and memory, which KubeRay takes from them, is what there is.

Names that KubeRay looks for: container 0 is Ray's; the volume `ray-logs` is shared with the
autoscaler beside it; `app.kubernetes.io/instance` and `component` are left as they are here.
"""

from dataclasses import dataclass, replace
from typing import Any, TypeVar

from cluster.config import ClusterConfig
from deploy.config import KubernetesConfig, PodsConfig, S3Config
from llm.config import auto

STORAGE = "/storage"
"""Where pods have the shared volume."""

KEYS = "/etc/humpty/keys"
"""Where the head has the hashes of API keys, as keys.txt."""

USER = 1000
"""As in deploy/Dockerfile."""

HEAD_CPUS, LIGHT_CPUS, CPUS, CPUS_PER_GPU, GIB_PER_CPU = 2, 2, 4, 8, 4
"""What `auto` stands for: cores of a head; of a data pod besides `ingest_cpus`; of a worker, and of
one for each GPU; memory, as in common machines of all clouds."""

AGENT, DASHBOARD, SERVING, METRICS = 52365, 8265, 8000, 8080
"""Ports."""

SECURE = {
    "allowPrivilegeEscalation": False,
    "capabilities": {"drop": ["ALL"]},
    "readOnlyRootFilesystem": True,
}

WRITTEN = {"tmp": "/tmp", "ray-logs": "/tmp/ray", "home": "/home/humpty"}
"""Volumes that die with the pod."""


@dataclass(frozen=True, kw_only=True)
class Site:
    """A run on Kubernetes: all that its manifests are made of."""

    name: str
    """Of the run, as Kubernetes allows it."""
    file: str
    """Where the spec lies in the pods."""
    text: str
    """The spec."""
    command: str
    """What runs it, in the pods."""
    cluster: ClusterConfig
    """Resolved."""
    kubernetes: KubernetesConfig
    """Resolved."""
    ray: str
    """Version."""


def resolved_workers(cluster: ClusterConfig) -> ClusterConfig:
    """Cores of a worker where no machine is there to be shared out: so many for each GPU."""
    if cluster.cpus_per_worker != auto:
        return cluster
    gpus = round(cluster.gpus_per_worker)
    return replace(cluster, cpus_per_worker=CPUS_PER_GPU * gpus if gpus else CPUS)


def resolved(config: KubernetesConfig, cluster: ClusterConfig) -> KubernetesConfig:
    """The same without `auto`; `cluster` must be resolved."""
    workers = config.workers
    return replace(
        config,
        head=sized(config.head, HEAD_CPUS),
        data=sized(config.data, cluster.ingest_cpus + LIGHT_CPUS),
        workers=sized(workers, workers.workers * cluster.cpus_per_worker),
    )


P = TypeVar("P", bound=PodsConfig)


def sized(pods: P, cpus: int) -> P:
    """Pods with so many cores, if nobody said otherwise, and the memory of those."""
    cpus = cpus if pods.cpus == auto else pods.cpus
    memory = GIB_PER_CPU * cpus if pods.memory == auto else pods.memory
    return replace(pods, cpus=cpus, memory=memory)


def labels(instance: str, component: str) -> dict[str, str]:
    """By which policies and budgets find pods."""
    return {"app.kubernetes.io/instance": instance, "app.kubernetes.io/component": component}


def template(
    site: Site,
    instance: str,
    component: str,
    pods: PodsConfig,
    *,
    gpus: int = 0,
    serves: bool = False,
    asks: bool = False,
) -> dict[str, Any]:
    """A pod of Ray; `asks`: it talks to Kubernetes, as a head's autoscaler does."""
    head = component == "head"
    keys = head and serves
    resources: dict[str, str] = {"cpu": str(pods.cpus), "memory": f"{pods.memory}Gi"}
    if gpus:
        resources["nvidia.com/gpu"] = str(gpus)
    container = {
        "name": f"ray-{component}",
        "image": site.kubernetes.image,
        "env": [{"name": "HOME", "value": WRITTEN["home"]}, *of_s3(site.kubernetes.s3)],
        "resources": {"requests": resources, "limits": dict(resources)},
        **probes(head, serves),
        "securityContext": SECURE,
        "volumeMounts": mounts(site if head else None, keys),
    }
    if head:
        container["ports"] = [
            {"name": "gcs-server", "containerPort": 6379},
            {"name": "dashboard", "containerPort": DASHBOARD},
            {"name": "metrics", "containerPort": METRICS},
        ]
    if serves:
        container["ports"] = [
            *container.get("ports", [{"name": "metrics", "containerPort": METRICS}]),
            {"name": "serve", "containerPort": SERVING},
        ]
    spec = {
        **around(site.kubernetes, asks),
        # A worker that has to go saves at its next step; Ray drains its node for 30 s at most.
        "terminationGracePeriodSeconds": 90,
        "containers": [container],
        "volumes": volumes(site, pods, head, keys),
    }
    if pods.select:
        spec["nodeSelector"] = dict(pods.select)
    if gpus:
        spec["tolerations"] = [
            {"key": "nvidia.com/gpu", "operator": "Exists", "effect": "NoSchedule"}
        ]
    return {"metadata": {"labels": labels(instance, component)}, "spec": spec}


def around(config: KubernetesConfig, asks: bool) -> dict[str, Any]:
    """What every pod says of itself; `asks`: whether it gets Kubernetes' token."""
    spec: dict[str, Any] = {
        "securityContext": {
            "runAsNonRoot": True,
            "runAsUser": USER,
            "runAsGroup": USER,
            "fsGroup": USER,
            "fsGroupChangePolicy": "OnRootMismatch",  # not every file of a volume of terabytes
            "seccompProfile": {"type": "RuntimeDefault"},
        },
        "automountServiceAccountToken": asks,
    }
    if config.pull_secret is not None:
        spec["imagePullSecrets"] = [{"name": config.pull_secret}]
    return spec


def of_s3(config: S3Config | None) -> list[dict[str, Any]]:
    """Environment of S3 clients; what is secret comes by reference."""
    if config is None:
        return []
    named = {"AWS_ENDPOINT_URL": config.endpoint, "AWS_REGION": config.region}
    secret = [
        {
            "name": f"AWS_{key.upper()}",
            "valueFrom": {"secretKeyRef": {"name": config.secret, "key": key.lower()}},
        }
        for key in ("access_key_id", "secret_access_key")
    ]
    return secret + [{"name": name, "value": value} for name, value in named.items() if value]


def probes(head: bool, serves: bool) -> dict[str, Any]:
    """A node is well if Ray's agent on it says so (of the head: GCS, too); one that serves takes
    requests once its proxy does. Ten minutes without a word end a pod: it may only be busy."""
    healthy = {"httpGet": {"path": "/api/healthz", "port": AGENT}}
    proxy = {"httpGet": {"path": "/-/healthz", "port": SERVING}}
    often = {"periodSeconds": 5, "timeoutSeconds": 5}
    return {
        "startupProbe": {**healthy, **often, "failureThreshold": 60},
        "livenessProbe": {**healthy, **often, "failureThreshold": 120},
        "readinessProbe": {
            # A head has a proxy only once something is deployed, which wants a ready head.
            **(proxy if serves and not head else healthy),
            **often,
            "failureThreshold": 3,
        },
    }


def mounts(site: Site | None, keys: bool) -> list[dict[str, Any]]:
    """Where a container finds its volumes; `site`: with the spec of it."""
    made: list[dict[str, Any]] = [
        {"name": name, "mountPath": path} for name, path in WRITTEN.items()
    ]
    made += [{"name": "shm", "mountPath": "/dev/shm"}, {"name": "storage", "mountPath": STORAGE}]
    if site is not None:
        name = site.file.rpartition("/")[2]
        made += [{"name": "spec", "mountPath": site.file, "subPath": name, "readOnly": True}]
    if keys:
        made += [{"name": "keys", "mountPath": KEYS, "readOnly": True}]
    return made


def volumes(site: Site, pods: PodsConfig, head: bool, keys: bool) -> list[dict[str, Any]]:
    """The volumes of a pod."""
    claim = site.kubernetes.storage.claim or f"{site.name}-storage"
    shm = {"medium": "Memory", "sizeLimit": f"{max(1, pods.memory // 2)}Gi"}
    made: list[dict[str, Any]] = [{"name": name, "emptyDir": {}} for name in WRITTEN]
    made += [
        {"name": "shm", "emptyDir": shm},
        {"name": "storage", "persistentVolumeClaim": {"claimName": claim}},
    ]
    if head:
        made += [{"name": "spec", "configMap": {"name": f"{site.name}-spec"}}]
    if keys:
        secret = {"secretName": site.kubernetes.keys_secret, "defaultMode": 0o440}
        made += [{"name": "keys", "secret": secret}]
    return made
