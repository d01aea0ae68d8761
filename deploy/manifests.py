"""Objects of Kubernetes itself that stand beside those of KubeRay, and all of them as text."""

from typing import Any

import yaml

from deploy.pods import DASHBOARD, METRICS, SERVING, Site, labels

Manifest = dict[str, Any]


def made_of(site: Site, version: str, kind: str, name: str, **rest: Any) -> Manifest:
    """An object."""
    metadata = {
        "name": name,
        "namespace": site.kubernetes.namespace,
        "labels": {"app.kubernetes.io/part-of": "humpty", "app.kubernetes.io/name": site.name},
    }
    return {"apiVersion": version, "kind": kind, "metadata": metadata, **rest}


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
