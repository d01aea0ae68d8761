"""A cluster that begins with a head alone, and to which an autoscaler brings nodes of this machine.

Ray's own `AutoscalingCluster` is broken in its wheel (a file of its provider is not shipped), and
begins by ending all of Ray on the machine; so the configuration is written here, and `ray start`
run by hand. The provider is Ray's fake one: a node is a raylet on this machine.
"""

import json
import os
import secrets
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from cluster.rehearsal import free_port
from tests.hosts import ROOT, STORE_BYTES, wait_for

IDLE_MINUTES = 0.15
"""After which a node is taken away."""


def config(address: str, cpus: int, most: int) -> dict[str, Any]:
    """Of an autoscaler that may bring `most` nodes of so many CPUs."""
    head = {"resources": {"CPU": 0}, "node_config": {}, "max_workers": 0}
    worker = {
        "resources": {"CPU": cpus, "object_store_memory": STORE_BYTES},
        "node_config": {},
        "min_workers": 0,
        "max_workers": most,
    }
    commands = ("initialization", "setup", "head_setup", "worker_setup")
    return {
        "cluster_name": "fake",
        "max_workers": most,
        "provider": {
            "type": "fake_multinode",
            "gcs_address": address,
            "use_node_id_as_ip": True,
            "disable_node_updaters": True,
            "disable_launch_config_check": True,
        },
        "auth": {},
        "docker": {},
        "upscaling_speed": 10,
        "idle_timeout_minutes": IDLE_MINUTES,
        "available_node_types": {"ray.head.default": head, "worker": worker},
        "head_node_type": "ray.head.default",
        **{f"{name}_commands": [] for name in commands},
        "head_start_ray_commands": [],
        "worker_start_ray_commands": [],
        "file_mounts": {},
        "cluster_synced_files": [],
        "file_mounts_sync_continuously": False,
        "rsync_exclude": [],
        "rsync_filter": [],
        "no_restart": False,
    }


@contextmanager
def autoscaled(cpus: int, most: int) -> Iterator[dict[str, str]]:
    """The environment of drivers on such a cluster, which ends with the block."""
    with tempfile.TemporaryDirectory(prefix="a", dir="/tmp", ignore_cleanup_errors=True) as name:
        folder = Path(name)
        port = free_port()
        address = subprocess.check_output(["hostname", "-I"], text=True).split()[0]
        (folder / "fake.json").write_text(json.dumps(config(f"{address}:{port}", cpus, most)))
        environment = {
            **os.environ,
            "RAY_TMPDIR": name,
            "RAY_AUTH_MODE": "token",
            "RAY_AUTH_TOKEN": secrets.token_hex(16),
            "RAY_FAKE_CLUSTER": "1",
            "AUTOSCALER_UPDATE_INTERVAL_S": "1",
            "RAY_raylet_start_wait_time_s": "300",
            "PYTHONPATH": str(ROOT),
        }
        environment.pop("RAY_ADDRESS", None)
        log = folder / "head.log"
        options = [
            *("--head", "--block", f"--port={port}", "--num-cpus=0", "--disable-usage-stats"),
            *(f"--node-ip-address={address}", f"--object-store-memory={STORE_BYTES}"),
            *(f"--dashboard-port={free_port()}", f"--ray-client-server-port={free_port()}"),
            *("--min-worker-port=24100", "--max-worker-port=24999"),
            f"--autoscaling-config={folder / 'fake.json'}",
        ]
        ray = str(Path(sys.executable).with_name("ray"))
        with open(log, "wb") as out:
            head = subprocess.Popen(
                [ray, "start", *options], env=environment, stdout=out, stderr=out
            )
        try:
            wait_for(head, log, "Ray runtime started")
            yield environment | {"RAY_ADDRESS": f"{address}:{port}"}
        finally:
            head.send_signal(signal.SIGTERM)
            head.wait(timeout=60)
