"""Manifests of a small spec: as they were read and approved, as KubeRay takes them, and safe."""

import json
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from ray.serve.schema import ServeDeploySchema
from typer.testing import CliRunner

from deploy.pods import STORAGE
from jobs.cli import app
from jobs.facts import Text, gather
from jobs.load import load
from jobs.plan import resolve
from tests.crds import complaints

APPROVED = Path(__file__).parent / "manifests"
SPEC = (APPROVED / "verse.yaml").read_text()
FILES = ("base.yaml", "raycluster.yaml", "rayjob.yaml", "rayservice.yaml")

Manifest = dict[str, Any]


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with the spec, and its model as a run commits it."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("jobs.facts.text_of", lambda *_: Text(1000, "digest"))
    (tmp_path / "verse.yaml").write_text(SPEC)
    spec = load("verse.yaml")
    for stage in ("tokenizer", "pretrain"):
        finished(stage, str(resolve(spec, gather(spec)).by_name[stage].fingerprint))
    return tmp_path


def finished(stage: str, fingerprint: str) -> None:
    folder = Path("runs/Verse_1") / stage / fingerprint
    folder.mkdir(parents=True)
    identity = {"kind": stage, "fingerprint": fingerprint, "spec": {"kind": stage}}
    rest = {"parents": {}, "data": {}, "seed": 0, "metrics": {"vocab_size": 1000}, "at": 1.0}
    (folder / "manifest.json").write_text(json.dumps({**identity, **rest}))


def rendered(*overrides: str, code: int = 0) -> tuple[dict[str, str], str]:
    """The files, and what was said."""
    result = CliRunner().invoke(app, ["render", "verse.yaml", *overrides, "--out", "out"])
    assert result.exit_code == code, result.output
    return {path.name: path.read_text() for path in Path("out").glob("*")}, result.output


def manifests(*overrides: str) -> list[Manifest]:
    return [one for text in rendered(*overrides)[0].values() for one in yaml.safe_load_all(text)]


def of_kind(kind: str, *overrides: str) -> Manifest:
    [found] = [one for one in manifests(*overrides) if one["kind"] == kind]
    return found


def within(value: Any) -> Iterator[Any]:
    """Every mapping inside."""
    if isinstance(value, dict):
        yield value
        for inner in value.values():
            yield from within(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from within(inner)


def pod_specs(value: Any) -> list[Manifest]:
    return [one for one in within(value) if "containers" in one]


def test_manifests_are_those_that_were_approved(here: Path) -> None:
    files, _ = rendered()
    assert set(files) == set(FILES)
    for name, text in files.items():
        # Not the fingerprint, which changes with every default of a stage; nor Ray's patch version.
        text = re.sub(r"/pretrain/[0-9a-f]{12}", "/pretrain/FINGERPRINT", text)
        text = re.sub(r"rayVersion: 2\.60\.\d+", "rayVersion: 2.60.0", text)
        if os.environ.get("HUMPTY_APPROVE"):
            (APPROVED / name).write_text(text)
        assert text == (APPROVED / name).read_text(), f"{name}: HUMPTY_APPROVE=1 takes it over"


@pytest.mark.parametrize(
    "overrides",
    [
        (),
        ("cluster.kubernetes.queue=gpus", "cluster.kubernetes.token_secret=ray-token"),
        ("cluster.kubernetes.fault_tolerance={}", "cluster.kubernetes.storage={claim: runs}"),
        ("cluster.workers=2", "cluster.gpus_per_worker=0", "cluster.kubernetes.s3=null"),
    ],
)
def test_kuberay_takes_every_manifest(here: Path, overrides: tuple[str, ...]) -> None:
    ours = [one for one in manifests(*overrides) if one["apiVersion"] == "ray.io/v1"]
    assert {one["kind"] for one in ours} == {"RayCluster", "RayJob", "RayService"}
    for manifest in ours:
        assert complaints(manifest) == []


def test_the_validation_sees_a_misspelt_field_a_wrong_type_and_a_wrong_value(here: Path) -> None:
    job = of_kind("RayJob")
    job["spec"]["submisionMode"] = "HTTPMode"
    job["spec"]["rayClusterSpec"]["authOptions"]["mode"] = "tokn"
    job["spec"]["shutdownAfterJobFinishes"] = "yes"
    found = " ".join(complaints(job))
    assert "submisionMode" in found and "tokn" in found and "'yes' is not of type" in found


def test_pods_are_neither_root_nor_unbounded_nor_able_to_write_their_image(here: Path) -> None:
    specs = pod_specs(manifests())
    assert len(specs) == 3 + 3 + 1 + 2  # job, cluster: head, data, workers; submitter; service
    for spec in specs:
        around = spec["securityContext"]
        assert around["runAsNonRoot"] is True and around["runAsUser"] == 1000
        assert around["seccompProfile"] == {"type": "RuntimeDefault"}
        for container in spec["containers"]:
            inside = container["securityContext"]
            assert inside["readOnlyRootFilesystem"] is True
            assert inside["allowPrivilegeEscalation"] is False
            assert inside["capabilities"] == {"drop": ["ALL"]}
            limits = container["resources"]["limits"]
            assert limits == container["resources"]["requests"]
            assert {"cpu", "memory"} <= set(limits)
            named = {one["name"] for one in container["volumeMounts"]}
            assert named <= {one["name"] for one in spec["volumes"]}
            if container["name"].startswith("ray-"):
                assert {"startupProbe", "livenessProbe", "readinessProbe"} <= set(container)
                assert {"tmp", "ray-logs", "home", "shm", "storage"} <= named


def test_only_an_autoscaling_head_has_kubernetes_token(here: Path) -> None:
    for spec in pod_specs(manifests()):
        head = spec["containers"][0]["name"] == "ray-head"
        assert spec["automountServiceAccountToken"] is head
    for spec in pod_specs(manifests("cluster.kubernetes.queue=q", "stages.serve.autoscaling={}")):
        assert spec["automountServiceAccountToken"] is False


def test_the_dashboard_is_neither_balanced_nor_without_token(here: Path) -> None:
    for one in within(manifests()):
        assert one.get("serviceType", "ClusterIP") == "ClusterIP"
        assert one.get("type") not in ("LoadBalancer", "NodePort")
        assert "hostNetwork" not in one and "hostPath" not in one and "hostPort" not in one
        if "headGroupSpec" in one:
            assert one["authOptions"]["mode"] == "token"
            assert one["headGroupSpec"]["enableIngress"] is False
    given = of_kind("RayJob", "cluster.kubernetes.token_secret=ray-token")["spec"]
    assert given["rayClusterSpec"]["authOptions"] == {"mode": "token", "secretName": "ray-token"}


def test_secrets_come_by_reference_only(here: Path) -> None:
    made = manifests()
    assert not [one for one in made if one["kind"] == "Secret"]
    for variable in (one for one in within(made) if set(one) == {"name", "value"}):
        assert not re.search("SECRET|TOKEN|PASSWORD|KEY", variable["name"])
    references = {one["secretKeyRef"]["name"] for one in within(made) if "secretKeyRef" in one}
    assert references == {"humpty-s3", "humpty-redis"}
    mounted = {one["secret"]["secretName"] for one in within(made) if "secret" in one}
    assert mounted == {"humpty-keys"}


def test_nobody_but_the_operator_and_the_own_pods_reaches_a_job(here: Path) -> None:
    policies = {
        one["metadata"]["name"]: one["spec"] for one in manifests() if "Policy" in one["kind"]
    }
    assert set(policies) == {"verse-1", "verse-1-run", "verse-1-serve"}
    job = policies["verse-1-run"]
    own, operator, metrics = job["ingress"]
    assert own == {"from": [{"podSelector": job["podSelector"]}]}
    assert [one["port"] for one in operator["ports"]] == [8265]
    [who] = operator["from"]
    assert who["podSelector"]["matchLabels"] == {"app.kubernetes.io/name": "kuberay-operator"}
    assert [one["port"] for one in metrics["ports"]] == [8080]
    assert job["policyTypes"] == ["Ingress"]


def test_policies_and_budgets_find_their_pods(here: Path) -> None:
    made = manifests()
    templates = [one for one in within(made) if "metadata" in one and "spec" in one]
    pods = [one["metadata"]["labels"] for one in templates if "containers" in one["spec"]]
    for one in made:
        if one["kind"] == "PodDisruptionBudget":
            wanted = one["spec"]["selector"]["matchLabels"]
        elif one["kind"] == "NetworkPolicy":
            wanted = one["spec"]["podSelector"]["matchLabels"]
        else:
            continue
        assert any(wanted.items() <= labels.items() for labels in pods), one["metadata"]["name"]


def test_groups_hold_the_workers_of_the_spec(here: Path) -> None:
    spec = of_kind("RayJob")["spec"]
    data, workers = spec["rayClusterSpec"]["workerGroupSpecs"]
    assert (data["minReplicas"], data["maxReplicas"]) == (1, 4)
    assert (workers["minReplicas"], workers["maxReplicas"]) == (1, 4)  # two workers in each
    [pod] = workers["template"]["spec"]["containers"]
    assert pod["resources"]["limits"] == {"cpu": "16", "memory": "64Gi", "nvidia.com/gpu": "2"}
    assert workers["template"]["spec"]["nodeSelector"] == {"gpu": "h100"}
    assert "cluster.cpus_per_worker=8" in spec["entrypoint"]  # so that two fill a pod


def test_a_queue_admits_a_fixed_number_of_pods(here: Path) -> None:
    job = of_kind("RayJob", "cluster.kubernetes.queue=gpus")
    assert job["metadata"]["labels"]["kueue.x-k8s.io/queue-name"] == "gpus"
    assert job["spec"]["rayClusterSpec"]["enableInTreeAutoscaling"] is False
    assert [
        (one["replicas"], one["minReplicas"], one["maxReplicas"])
        for one in job["spec"]["rayClusterSpec"]["workerGroupSpecs"]
    ] == [(4, 4, 4), (4, 4, 4)]


def test_a_job_has_the_spec_as_it_was_written(here: Path) -> None:
    files, _ = rendered("seed=7")
    config, claim = yaml.safe_load_all(files["base.yaml"])
    assert config["data"] == {"verse.yaml": SPEC}
    assert claim["spec"]["accessModes"] == ["ReadWriteMany"]
    job = of_kind("RayJob", "seed=7")
    assert job["spec"]["entrypoint"] == (
        "python -m jobs run /app/jobs/verse.yaml seed=7 storage=/storage cluster.cpus_per_worker=8"
    )
    [head] = job["spec"]["rayClusterSpec"]["headGroupSpec"]["template"]["spec"]["containers"]
    [mount] = [one for one in head["volumeMounts"] if one["name"] == "spec"]
    assert (mount["mountPath"], mount["subPath"]) == ("/app/jobs/verse.yaml", "verse.yaml")


def test_the_command_of_a_job_loads_where_the_pods_have_it(here: Path) -> None:
    words = of_kind("RayJob")["spec"]["entrypoint"].split()
    spec = load("verse.yaml", words[5:])
    assert (spec.storage, spec.cluster.cpus_per_worker) == (STORAGE, 8)


def test_a_service_serves_the_finished_model_from_the_volume(here: Path) -> None:
    application = yaml.safe_load(of_kind("RayService")["spec"]["serveConfigV2"])
    ServeDeploySchema(**application)
    assert application["proxy_location"] == "EveryNode"
    [one] = application["applications"]
    for deployment in one["deployments"]:
        [model] = deployment["user_config"]["models"]
        assert model["folder"].startswith(f"{STORAGE}/Verse_1/pretrain/")
    assert one["args"]["keys"]["file"] == "/etc/humpty/keys/keys.txt"
    assert one["args"]["feedback"] == f"{STORAGE}/Verse_1/feedback"
    groups = of_kind("RayService")["spec"]["rayClusterConfig"]["workerGroupSpecs"]
    assert [(one["minReplicas"], one["maxReplicas"]) for one in groups] == [(2, 4)]


def test_without_a_finished_model_the_rest_is_rendered_and_the_reason_told(here: Path) -> None:
    files, said = rendered("seed=2", "storage=elsewhere")
    assert set(files) == {"base.yaml", "raycluster.yaml", "rayjob.yaml"}
    assert "rayservice.yaml: stage serve is left out:" in said and "no finished model yet" in said


KUBERNETES = "cluster.kubernetes"


@pytest.mark.parametrize(
    ("override", "complaint"),
    [
        ("cluster.kubernetes=null", "cluster.kubernetes: missing: what the pods are"),
        (f"{KUBERNETES}.image=humpty", "image: 'humpty' is not allowed: all pods must run the"),
        (f"{KUBERNETES}.image=a.b:5000/humpty:latest", "must run the same program; give a version"),
        (f"{KUBERNETES}.storage={{}}", "storage: give either claim, a volume that is there, or"),
        (f"{KUBERNETES}.storage.claim=runs", "storage: give either claim"),
        (f"{KUBERNETES}.namespace=My_Space", "'My_Space' cannot be a name in Kubernetes; use a-z"),
        ("name=1st", "name: '1st' cannot be a name in Kubernetes; begin with a letter"),
        (f"name={'x' * 41}", "take 40 letters at most"),
        (f"{KUBERNETES}.workers.workers=3", "3 is not allowed; must divide the 2 and 8 workers"),
        ("cluster.gpus_per_worker=0.25", "make 0.5 GPUs; a pod gets whole ones"),
        (f"{KUBERNETES}.keys_secret=null", "keys_secret: missing: stage serve asks for API keys"),
        ("stages.serve.auth=false", "stages.serve.auth: false is not allowed on Kubernetes"),
        ("data.shards=text.txt", "is a file of this machine, which no pod can read; copy it to"),
        (f"{KUBERNETES}.imag=x", "did you mean 'image'"),
        (f"{KUBERNETES}.head.cpus=0", "head.cpus: 0 is not allowed"),
    ],
)
def test_what_no_cluster_could_do_is_said_at_once(
    here: Path, override: str, complaint: str
) -> None:
    files, said = rendered(override, code=2)
    assert complaint in said and said.startswith(("verse.yaml:", f"command line: {override}: "))
    assert "Traceback" not in said and not files


def test_text_on_the_volume_and_at_uris_is_within_reach(here: Path) -> None:
    for shards in (f"{STORAGE}/text/*.jsonl", "s3://corpus/part-*.parquet"):
        files, _ = rendered(f"data.shards={shards}")
        assert "rayjob.yaml" in files
