"""What is deployed without KubeRay: the image, machines of AWS and Google, nodes of Slurm."""

import os
import re
import shutil
import stat
import subprocess
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml
from packaging.requirements import Requirement
from ray.autoscaler._private.util import prepare_config, validate_config

ROOT = Path(__file__).parent.parent.parent
DEPLOY = ROOT / "deploy"
DOCKERFILE = (DEPLOY / "Dockerfile").read_text()


def tool(name: str) -> str:
    found = shutil.which(name)
    if found is None:
        pytest.skip(f"needs {name} (pip install {name}-bin or {name}-py)")
    return found


# -- the image -------------------------------------------------------------------------------------


def test_hadolint_has_nothing_to_say_of_the_dockerfile() -> None:
    result = subprocess.run(
        [tool("hadolint"), str(DEPLOY / "Dockerfile")], capture_output=True, text=True
    )
    assert result.returncode == 0, result.stdout


def test_the_image_is_pinned_and_ends_as_a_user_without_rights() -> None:
    instructions = re.sub(r"\\\n", " ", re.sub(r"(?m)^\s*#.*\n", "", DOCKERFILE)).splitlines()
    [base] = [one for one in instructions if one.startswith("ARG PYTHON=")]
    assert re.fullmatch(r"ARG PYTHON=3\.\d+\.\d+-slim-\w+", base)
    users = [one for one in instructions if one.startswith("USER")]
    assert users == ["USER 1000:1000"]
    assert instructions.index(users[0]) > max(
        number for number, one in enumerate(instructions) if one.startswith("RUN")
    )
    for one in instructions:
        assert not one.startswith("ADD") and "sudo" not in one and "curl" not in one
        assert "pip install" not in one or one.count("--constraint") == one.count("pip install")


def pins() -> dict[str, str]:
    lines = (DEPLOY / "constraints.txt").read_text().splitlines()
    return dict(line.split("==") for line in lines if not line.startswith("#"))


def test_every_dependency_is_pinned_to_a_version_that_the_project_allows() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    pinned = pins()
    for line in [*project["dependencies"], *project["optional-dependencies"]["s3"]]:
        wanted = Requirement(line)
        name = re.sub("[._]", "-", wanted.name.lower())
        assert wanted.specifier.contains(pinned[name]), line
    assert f"torch=={pinned['torch']}" in DOCKERFILE


def test_the_image_gets_what_it_copies_and_nothing_else() -> None:
    listed = (DEPLOY / "Dockerfile.dockerignore").read_text().splitlines()
    assert listed[0] == "*"
    copied = re.findall(r"(?m)^COPY (.+) \S+$", DOCKERFILE)
    for source in " ".join(copied).split():
        assert (ROOT / source).exists()
        assert f"!{source.split('/')[0]}" in listed


# -- machines of a cloud ---------------------------------------------------------------------------


@pytest.mark.parametrize("cloud", ["aws", "gcp"])
def test_rays_launcher_takes_the_file(cloud: str) -> None:
    config = yaml.safe_load((DEPLOY / f"{cloud}.yaml").read_text())
    validate_config(prepare_config(config))  # against ray-schema.json, with defaults filled in
    with pytest.raises(Exception, match="head_nod"):
        validate_config(prepare_config(config | {"head_nod": 1}))


@pytest.mark.parametrize("cloud", ["aws", "gcp"])
def test_a_cluster_in_a_cloud_wants_a_token_and_hides_its_dashboard(cloud: str) -> None:
    config: dict[str, Any] = yaml.safe_load((DEPLOY / f"{cloud}.yaml").read_text())
    assert "--env RAY_AUTH_MODE=token" in config["docker"]["run_options"]
    assert config["file_mounts"] == {"/home/humpty/.ray/auth_token": "~/.ray/auth_token"}
    head = config["head_start_ray_commands"][-1]
    assert "--dashboard-host=127.0.0.1" in head
    assert config["available_node_types"]["head"]["resources"] == {"CPU": 0}
    kinds = config["available_node_types"]
    assert config["max_workers"] == sum(kinds[name]["max_workers"] for name in ("data", "workers"))


# -- nodes of Slurm --------------------------------------------------------------------------------

SLURM = DEPLOY / "slurm.sh"

FAKES = {
    # Each notes how it was called; srun does it here.
    "scontrol": 'if [[ $1 == show ]]; then printf "%s\\n" node1 node2 node3; fi',
    "srun": 'while [[ $1 == --* ]]; do shift; done; exec "$@"',
    "ray": "exec sleep 60",
    "python": """
if [[ $1 == -c ]]; then printf secret; fi
if [[ $1 == - ]]; then cat > /dev/null; fi
if [[ $1 == -m ]]; then
    stat -c %a "$RAY_AUTH_TOKEN_PATH" > "$NOTES.mode"
    trap 'exit 130' TERM
    touch "$NOTES.begun"
    while [[ -e $NOTES.long ]]; do sleep 0.05; done
    exit 3
fi""",
}


@pytest.fixture
def slurm(tmp_path: Path) -> dict[str, str]:
    """The environment of a job whose commands only note how they were called."""
    for name, body in FAKES.items():
        path = tmp_path / name
        path.write_text(f'#!/usr/bin/env bash\necho "{name} $*" >> "$NOTES"\n{body}\n')
        path.chmod(path.stat().st_mode | stat.S_IXUSR)
    return {
        "PATH": f"{tmp_path}:{os.environ['PATH']}",
        "NOTES": str(tmp_path / "notes"),
        "SLURM_JOB_ID": "4711",
        "SLURM_JOB_NODELIST": "node[1-3]",
        "SLURM_CPUS_PER_TASK": "8",
        "SLURM_SUBMIT_DIR": str(tmp_path),
    }


def noted(environment: dict[str, str]) -> list[str]:
    return Path(environment["NOTES"]).read_text().splitlines()


def test_shellcheck_has_nothing_to_say_of_the_slurm_script() -> None:
    subprocess.run(["bash", "-n", str(SLURM)], check=True)
    result = subprocess.run([tool("shellcheck"), str(SLURM)], capture_output=True, text=True)
    assert result.returncode == 0, result.stdout


def test_a_slurm_job_starts_ray_on_every_node_and_ends_as_its_run_does(
    slurm: dict[str, str], tmp_path: Path
) -> None:
    ended = subprocess.run([SLURM, "x.yaml", "seed=1"], env=slurm, timeout=30)
    calls = noted(slurm)
    assert ended.returncode == 3
    starts = sorted(one for one in calls if one.startswith("srun"))
    assert len(starts) == 2
    assert "--nodes=1" in starts[0] and "--nodelist=node1 " in starts[0]
    assert "--head --port=28844" in starts[0] and "--dashboard-host=127.0.0.1" in starts[0]
    assert "--nodes=2" in starts[1] and "--nodelist=node2,node3 " in starts[1]
    assert starts[1].endswith("--address=node1:28844")
    assert "python -m jobs run x.yaml seed=1" in calls
    assert Path(slurm["NOTES"] + ".mode").read_text() == "600\n"
    assert not list(tmp_path.glob(".humpty-token*"))
    assert not [one for one in calls if "requeue" in one]


@pytest.mark.parametrize(("signal", "again"), [("USR1", True), ("TERM", False)])
def test_a_slurm_job_saves_before_its_time_is_over_and_is_queued_again(
    slurm: dict[str, str], signal: str, again: bool
) -> None:
    Path(slurm["NOTES"] + ".long").touch()
    begun = Path(slurm["NOTES"] + ".begun")
    waits = f'until [[ -e "{begun}" ]]; do sleep 0.05; done; kill -{signal} "$1"'
    with subprocess.Popen([SLURM, "x.yaml"], env=slurm) as job:
        subprocess.run(["bash", "-c", waits, "-", str(job.pid)], check=True, timeout=30)
        assert job.wait(timeout=30) == 130
    assert ("scontrol requeue 4711" in noted(slurm)) is again


def test_a_slurm_job_without_a_spec_says_how_to_call_it() -> None:
    said = subprocess.run([SLURM], capture_output=True, text=True)
    assert said.returncode == 2 and said.stderr.startswith("usage: sbatch")
