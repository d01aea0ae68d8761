"""Makes sure that a stage can run before it starts: says what is in the way, or waits for nodes.

Where an autoscaler is at work it is asked for what is lacking, and the wait is shown; without one
nobody would bring a node, so what is lacking is said at once.
"""

import json
import time
from collections.abc import Callable

import ray
from ray._private.ray_constants import DEBUG_AUTOSCALING_STATUS
from ray.autoscaler.sdk import request_resources
from ray.experimental.internal_kv import _internal_kv_get

from cluster.fit import Finding, Needs, of_room
from cluster.looks import of_looks
from cluster.room import Resources
from cluster.survey import nodes_of_cluster, survey
from llm.metrics import duration

LOOK_S = 1.0
"""Seconds between two looks at the nodes."""

Say = Callable[[str], None]


def ready(needs: Needs, later: list[Needs], say: Say) -> list[Finding]:
    """What keeps a stage, or later ones of the run, from running here; empty: nothing."""
    for one in (needs, *later):
        found = of_room(nodes_of_cluster(), one)
        comes = bool(found) and all(lack.more for lack in found) and autoscales()
        if found and not comes:
            return found
        if found and one is needs:
            wait(needs, say)
    return of_looks(*survey(nodes_of_cluster(), needs), needs)


def wait(needs: Needs, say: Say) -> None:
    """Ask the autoscaler for what is needed, until it is there."""
    bundles, labels = wanted(needs)
    began = time.monotonic()
    try:
        request_resources(bundles=bundles, bundle_label_selectors=labels)
        while found := of_room(nodes := nodes_of_cluster(), needs):
            waited = duration(time.monotonic() - began)
            count = sum(node.cpus > 0 for node in nodes)
            there = f"{count} node{'s' if count != 1 else ''}"
            lack = found[0].text.partition("; ")[0]
            say(f"waiting for the autoscaler ({waited}, {there} to work on): {lack}")
            time.sleep(LOOK_S)
    except BaseException:
        request_resources(bundles=[])
        raise


def wanted(needs: Needs) -> tuple[list[Resources], list[dict[str, str]]]:
    """Bundles and their labels: the workers, and a CPU for text and for what else goes on."""
    bundles: list[tuple[Resources, dict[str, str]]] = []
    if needs.demand:
        spare = int(needs.demand.spare_cpus)
        bundles += [(needs.demand.worker, needs.demand.labels)] * needs.demand.most
        bundles += [({"CPU": 1.0}, needs.demand.labels)] * spare
    if needs.text:
        bundles.append(({"CPU": 1.0}, needs.cluster.data.labels))
    return [amounts for amounts, _ in bundles], [labels for _, labels in bundles]


def autoscales() -> bool:
    """Whether somebody brings nodes that are asked for.

    Ray's monitor reports on every cluster. Where nobody scales it, it calls the type of a node
    `node_` and its id, or nothing; an autoscaler knows the types of its configuration. The second
    version of the autoscaler reports elsewhere.
    """
    from ray.autoscaler.v2.utils import is_autoscaler_v2

    types = types_by_v2() if is_autoscaler_v2() else types_by_v1()
    return any(name and not name.startswith("node_") for name in types)


def types_by_v1() -> list[str]:
    """The types of nodes in the monitor's report."""
    report = json.loads(_internal_kv_get(DEBUG_AUTOSCALING_STATUS) or b"{}")
    return list((report.get("autoscaler_report") or {}).get("active_nodes") or {})


def types_by_v2() -> list[str]:
    """The same of the autoscaler's second version."""
    from ray.autoscaler.v2.sdk import get_cluster_status

    status = get_cluster_status(ray.get_runtime_context().gcs_address)
    return [node.ray_node_type_name for node in (*status.active_nodes, *status.idle_nodes)]
