"""Manifests for KubeRay 1.7: a cluster to work on, a job that runs a spec, a service.

    Site  ->  base, ray_cluster, ray_job, ray_service: lists of objects  ->  text

Each of the three brings the network policy and the disruption budget of its own pods. The spec is
a ConfigMap, everything secret a reference. What an operator has only behind feature gates
(`networkPolicy`, `tlsOptions`) is not used; Kubernetes' own objects do the first of it.

Neither torch nor ray; `jobs.render` knows specs, this does not.
"""

from typing import Any

import yaml

from deploy.config import AutoscalingConfig, DataPodsConfig, HeadStateConfig, PodsConfig
from deploy.pods import (
    DASHBOARD,
    METRICS,
    SECURE,
    SERVING,
    WRITTEN,
    Site,
    around,
    labels,
    sized,
    template,
)

Manifest = dict[str, Any]

RETRIES = 3
"""New clusters that a job gets when its head or its last attempt fell; each goes on from the
newest checkpoint."""

IDLE_SECONDS = 300
"""After which a pod without work goes."""

KEPT_SECONDS = 600
"""For which the pods of a finished job are left, to be looked at."""


def base(site: Site) -> list[Manifest]:
    """What the others stand on: the spec, and the volume if it is to be made."""
    name = site.file.rpartition("/")[2]
    made = [made_of(site, "v1", "ConfigMap", f"{site.name}-spec", data={name: site.text})]
    storage = site.kubernetes.storage
    if storage.claim is None:
        spec: Manifest = {
            "accessModes": ["ReadWriteMany"],
            "resources": {"requests": {"storage": f"{storage.size}Gi"}},
        }
        if storage.storage_class is not None:
            spec["storageClassName"] = storage.storage_class
        made.append(made_of(site, "v1", "PersistentVolumeClaim", f"{site.name}-storage", spec=spec))
    return made


def ray_cluster(site: Site) -> list[Manifest]:
    """A cluster that stays, for `python -m jobs submit` and notebooks."""
    spec = cluster(site, site.name, training_groups(site, site.name)) | outliving(site)
    return [
        queued(made_of(site, "ray.io/v1", "RayCluster", site.name, spec=spec), site),
        *guards(site, site.name),
    ]


def ray_job(site: Site) -> list[Manifest]:
    """A cluster that runs the spec and goes; made again, it goes on where it was."""
    name = f"{site.name}-run"
    spec = {
        "entrypoint": site.command,
        "submissionMode": "K8sJobMode",
        "backoffLimit": RETRIES,
        "shutdownAfterJobFinishes": True,
        "ttlSecondsAfterFinished": KEPT_SECONDS,
        "submitterPodTemplate": submitter(site, name),
        "rayClusterSpec": cluster(site, name, training_groups(site, name)),
    }
    return [
        queued(made_of(site, "ray.io/v1", "RayJob", name, spec=spec), site),
        *guards(site, name),
    ]


def ray_service(
    site: Site, stage: str, application: Manifest, replicas: AutoscalingConfig, cpus: int
) -> list[Manifest]:
    """A serve stage; `application` is what `serve deploy` takes (deploy.service.declared)."""
    name = f"{site.name}-{stage}"
    pods = sized(PodsConfig(select=site.kubernetes.workers.select), cpus)
    groups = [group(site, name, "replicas", pods, replicas.min, replicas.max, serves=True)]
    text = yaml.safe_dump(application, sort_keys=False)
    spec = {
        "serveConfigV2": text,
        "rayClusterConfig": cluster(site, name, groups, serves=True) | outliving(site),
    }
    made = [
        made_of(site, "ray.io/v1", "RayService", name, spec=spec),
        *guards(site, name, serves=True),
    ]
    if replicas.min > 1:  # of one, nothing could ever be taken away for repair
        made.append(budget(site, name, "replicas", replicas.min - 1))
    return made


# -- the cluster -----------------------------------------------------------------------------------


def cluster(
    site: Site, instance: str, groups: list[Manifest], serves: bool = False
) -> dict[str, Any]:
    """A RayCluster's spec."""
    config = site.kubernetes
    auth = {"mode": "token"}
    if config.token_secret is not None:
        auth["secretName"] = config.token_secret
    scaling = any(one["minReplicas"] < one["maxReplicas"] for one in groups)
    spec: dict[str, Any] = {
        "rayVersion": site.ray,
        "authOptions": auth,
        "enableInTreeAutoscaling": scaling,
    }
    if scaling:
        spec["autoscalerOptions"] = {
            "version": "v2",
            "idleTimeoutSeconds": IDLE_SECONDS,
            "resources": same("500m", "1Gi"),
            "securityContext": SECURE,
            "volumeMounts": [{"name": "tmp", "mountPath": WRITTEN["tmp"]}],
        }
    head = template(site, instance, "head", config.head, serves=serves, asks=scaling)
    return spec | {
        "headGroupSpec": {
            "serviceType": "ClusterIP",
            "enableIngress": False,
            # No work but the driver's. The operator reaches the dashboard by the pod's address;
            # nobody else does (`guards`), and it wants the token.
            "rayStartParams": {"num-cpus": "0", "dashboard-host": "0.0.0.0"},
            "template": head,
        },
        "workerGroupSpecs": groups,
    }


def training_groups(site: Site, instance: str) -> list[Manifest]:
    """Pods that feed, and pods that train."""
    machines, config = site.cluster, site.kubernetes
    each = config.workers.workers
    least, most = machines.least_workers // each, machines.most_workers // each
    gpus = round(machines.gpus_per_worker * each)
    data: DataPodsConfig = config.data
    return [
        group(site, instance, "data", data, 1, data.max),
        group(site, instance, "workers", config.workers, least, most, gpus=gpus),
    ]


def group(
    site: Site,
    instance: str,
    name: str,
    pods: PodsConfig,
    least: int,
    most: int,
    *,
    gpus: int = 0,
    serves: bool = False,
) -> Manifest:
    """Pods of one kind. Kueue admits a fixed number: then there are always as many as may be."""
    least = most if site.kubernetes.queue is not None and not serves else least
    return {
        "groupName": name,
        "replicas": least,
        "minReplicas": least,
        "maxReplicas": most,
        "rayStartParams": {},
        "template": template(site, instance, name, pods, gpus=gpus, serves=serves),
    }


def outliving(site: Site) -> dict[str, Any]:
    """Where the head's state is kept, so that pods outlive it."""
    state = site.kubernetes.fault_tolerance
    return {} if state is None else {"gcsFaultToleranceOptions": kept(state)}


def kept(state: HeadStateConfig) -> dict[str, Any]:
    """In a Redis of others, or on a volume that goes with the cluster."""
    if state.redis is None:
        return {"backend": "rocksdb", "storage": {"size": "1Gi"}}
    made: dict[str, Any] = {"backend": "redis", "redisAddress": state.redis}
    if state.secret is not None:
        reference = {"name": state.secret, "key": "password"}
        made["redisPassword"] = {"valueFrom": {"secretKeyRef": reference}}
    return made


def submitter(site: Site, instance: str) -> Manifest:
    """The pod that hands the job in and shows its output."""
    container = {
        "name": "submitter",
        "image": site.kubernetes.image,
        "env": [{"name": "HOME", "value": WRITTEN["home"]}],
        "resources": same("500m", "1Gi"),
        "securityContext": SECURE,
        "volumeMounts": [{"name": name, "mountPath": WRITTEN[name]} for name in ("tmp", "home")],
    }
    spec = {
        **around(site.kubernetes, asks=False),
        "restartPolicy": "Never",
        "containers": [container],
        "volumes": [{"name": name, "emptyDir": {}} for name in ("tmp", "home")],
    }
    return {"metadata": {"labels": labels(instance, "submitter")}, "spec": spec}


def same(cpus: str, memory: str) -> Manifest:
    """Requests that are limits."""
    return {
        "requests": {"cpu": cpus, "memory": memory},
        "limits": {"cpu": cpus, "memory": memory},
    }


# -- beside it -------------------------------------------------------------------------------------


def guards(site: Site, instance: str, serves: bool = False) -> list[Manifest]:
    """Who may reach the pods, and that the head is not taken away for a node's repair. Workers
    may be: they are told beforehand, and save."""
    operator = {
        "namespaceSelector": {},
        "podSelector": {"matchLabels": {"app.kubernetes.io/name": "kuberay-operator"}},
    }
    own = {"matchLabels": {"app.kubernetes.io/instance": instance}}
    rules = [
        {"from": [{"podSelector": own}]},
        {"from": [operator], "ports": ports(DASHBOARD, *([SERVING] if serves else []))},
        {"from": [{"namespaceSelector": {}}], "ports": ports(METRICS)},
    ]
    if serves:
        rules.append({"from": [{"podSelector": {}}], "ports": ports(SERVING)})
    spec = {"podSelector": own, "policyTypes": ["Ingress"], "ingress": rules}
    return [
        made_of(site, "networking.k8s.io/v1", "NetworkPolicy", instance, spec=spec),
        budget(site, instance, "head", 1),
    ]


def ports(*numbers: int) -> list[Manifest]:
    """Ports of a rule."""
    return [{"protocol": "TCP", "port": number} for number in numbers]


def budget(site: Site, instance: str, component: str, least: int) -> Manifest:
    """Pods that evictions leave. `minAvailable` as a number, since Kubernetes knows no other way
    for pods whose owner it does not know."""
    spec = {
        "minAvailable": least,
        "unhealthyPodEvictionPolicy": "AlwaysAllow",
        "selector": {"matchLabels": labels(instance, component)},
    }
    name = f"{instance}-{component}"
    return made_of(site, "policy/v1", "PodDisruptionBudget", name, spec=spec)


def queued(manifest: Manifest, site: Site) -> Manifest:
    """The same, to be admitted by Kueue if there is a queue."""
    if site.kubernetes.queue is not None:
        manifest["metadata"]["labels"]["kueue.x-k8s.io/queue-name"] = site.kubernetes.queue
    return manifest


def made_of(site: Site, version: str, kind: str, name: str, **rest: Any) -> Manifest:
    """An object."""
    metadata = {
        "name": name,
        "namespace": site.kubernetes.namespace,
        "labels": {"app.kubernetes.io/part-of": "humpty", "app.kubernetes.io/name": site.name},
    }
    return {"apiVersion": version, "kind": kind, "metadata": metadata, **rest}


# -- text ------------------------------------------------------------------------------------------


class Dumper(yaml.SafeDumper):
    """Texts of several lines as they are; nothing by reference."""

    def ignore_aliases(self, data: Any) -> bool:
        """Every value is written out."""
        return True


def block(dumper: yaml.SafeDumper, value: str) -> yaml.ScalarNode:
    """Texts of several lines keep them."""
    style = "|" if "\n" in value else None
    return dumper.represent_scalar("tag:yaml.org,2002:str", value, style=style)


Dumper.add_representer(str, block)


def text(manifests: list[Manifest]) -> str:
    """The file for `kubectl apply`."""
    return yaml.dump_all(manifests, Dumper=Dumper, sort_keys=False, width=100)
