"""What Ray Serve is told, before Ray is there."""

import json
import socket
from dataclasses import replace
from pathlib import Path

import pytest
import yaml

from deploy.config import AutoscalingConfig, EngineConfig, ServeConfig
from deploy.service import (
    KeySpec,
    ModelSource,
    Service,
    card,
    config_yaml,
    declared,
    free_port,
    read_models,
    read_service,
)
from llm.errors import ArtifactError, SpecError
from tests.deploy.stand_in import write_stand_in

CONFIG = ServeConfig(
    engine=EngineConfig(tokens=4096, cpus=1), autoscaling=AutoscalingConfig(target=12.0)
)
SERVICE = Service(config=CONFIG, keys=KeySpec(hashes=("sha256:" + 64 * "0",)), feedback="/tmp/said")
OLD, NEW = ModelSource("humpty", "/runs/ppo/aaa", 1), ModelSource("humpty", "/runs/ppo/bbb", 2)


def test_arguments_survive_the_way_through_json() -> None:
    plan = json.loads(json.dumps(declared([OLD, replace(NEW, id="other")], SERVICE)))
    (application,) = plan["applications"]
    assert read_service(application["args"]) == SERVICE
    for deployment in application["deployments"]:
        assert read_models(deployment["user_config"]) == (OLD, replace(NEW, id="other"))


def test_another_model_changes_nothing_that_would_restart_replicas() -> None:
    plans = [declared([model], SERVICE) for model in (OLD, NEW)]
    for plan in plans:
        for deployment in plan["applications"][0]["deployments"]:
            del deployment["user_config"]
    assert plans[0] == plans[1]


def test_the_file_for_a_cluster_is_what_ray_serve_takes() -> None:
    schema = pytest.importorskip("ray.serve.schema")
    text = config_yaml([OLD], CONFIG, keys=SERVICE.keys, feedback="/tmp/said")
    plan = schema.ServeDeploySchema(**yaml.safe_load(text))
    assert plan.http_options.host == "127.0.0.1" and plan.http_options.port == 8000
    assert plan.applications[0].import_path == "deploy.serve:app"
    assert not read_service(plan.applications[0].args).listens


@pytest.mark.parametrize("models", [[], [OLD, NEW]])
def test_models_without_a_name_of_their_own_are_refused(models: list[ModelSource]) -> None:
    with pytest.raises(SpecError, match="under its own name"):
        declared(models, SERVICE)


def test_a_card_is_read_without_the_weights(tmp_path: Path) -> None:
    folder = write_stand_in(tmp_path / "abc")
    made = card(ModelSource("humpty", str(folder), 7, owner="me"))
    assert (made.artifact, made.context, made.chat, made.created) == ("abc", 4096, True, 7)
    (folder / "chat_template.jinja").unlink()
    assert not card(ModelSource("humpty", str(folder), 7)).chat


def test_answers_carry_the_fingerprint_also_of_a_folder_that_was_renamed(tmp_path: Path) -> None:
    folder = write_stand_in(tmp_path / "a-copy")
    (folder / "manifest.json").write_text('{"fingerprint": "0123456789ab"}')
    assert card(ModelSource("humpty", str(folder), 7)).artifact == "0123456789ab"


def test_a_folder_without_a_model_is_named(tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match=f"humpty: {tmp_path}/model.json"):
        card(ModelSource("humpty", str(tmp_path), 7))


def test_a_port_in_use_is_one_clear_message() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(SpecError, match=rf"port {port} of 127.0.0.1 .*port: \(0"):
            free_port("127.0.0.1", port)
    assert free_port("127.0.0.1", port) == port
    assert free_port("127.0.0.1", 0) > 0
