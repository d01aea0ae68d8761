"""A spec and the cluster that it meets: what does not fit is said in one line, with the remedy."""

import io
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
from rich.console import Console

from cluster import ready
from cluster.fit import Needs, Node
from cluster.looks import Look, Silent
from jobs.facts import gather
from jobs.fit import require_fit
from jobs.load import load
from jobs.plan import resolve
from jobs.spec import Spec
from jobs.work import Work
from llm.errors import SpecError

SPEC = """\
name: small
storage: runs
cluster:
  workers: 2
  cpus_per_worker: 2
data:
  shards: text.txt
stages:
  tokenizer: {kind: tokenizer, vocab_size: 1000}
  pretrain: {kind: pretrain, tokenizer: tokenizer, model: {depth: 2}, steps: 100, batch: 12}
"""

GOOD = Look({"python": "3.11.9", "ray": "2.60.0", "torch": "2.13.0+cpu", "code": "0123"})

GB = 1 << 30


def node(name: str, cpus: float, labels: dict[str, str] | None = None, **more: float) -> Node:
    resources = {"CPU": cpus, "memory": 64.0 * GB, "object_store_memory": 1.0 * GB, **more}
    return Node(name * 20, name, f"10.0.0.{ord(name[0]) - 96}", resources, labels or {})


HEAD = replace(node("head", 0), resources={"object_store_memory": GB})
PLAIN = (HEAD, node("a", 4), node("b", 4))
LABELLED = (
    HEAD,
    node("a", 4, {"role": "train"}),
    node("b", 4, {"role": "train"}),
    node("c", 4, {"role": "data"}),
)


@dataclass(frozen=True)
class Broken:
    """A spec and a cluster that do not fit, and what is to be said."""

    name: str
    overrides: tuple[str, ...]
    said: str
    """The line number, the key, and a part of the rest."""
    remedy: str
    nodes: tuple[Node, ...] = PLAIN
    looks: tuple[tuple[str, Look | Silent], ...] = ()
    """By name of the node; all others are good."""


BROKEN = [
    Broken(
        "more GPUs than there are",
        ("cluster.gpus_per_worker=1",),
        "cluster.gpus_per_worker: no node has 1 GPU for a worker; none has any",
        "set it to 0 to train on CPUs, or add nodes with more GPUs",
    ),
    Broken(
        "GPUs for one worker of two",
        ("cluster.gpus_per_worker=1",),
        "x.yaml:4: cluster.workers: no room for 2 workers of 2 CPU and 1 GPU each besides 1 CPU "
        "for other work, but for 1: a has 4 CPU and 0 GPU, b has 8 CPU and 1 GPU",
        "set it to 1, or add nodes",
        (HEAD, node("a", 4), node("b", 8, GPU=1)),
    ),
    Broken(
        "a worker larger than any node",
        ("cluster.cpus_per_worker=16",),
        "cluster.cpus_per_worker: no node has 16 CPU for a worker; the most that one has is 4 (a)",
        "lower it, or add larger nodes",
    ),
    Broken(
        "more workers than fit",
        ("cluster.workers=4",),
        "cluster.workers: no room for 4 workers of 2 CPU each besides 1 CPU for other work, "
        "but for 3",
        "set it to 3, or add nodes",
    ),
    Broken(
        "a label that no node has",
        ("cluster.train.labels={role: trian}",),
        "cluster.train.labels: no node of the cluster has role=trian; its nodes have role=data "
        "(1), role=train (2)",
        "start nodes with `ray start --labels role=trian`",
        LABELLED,
    ),
    Broken(
        "a label for text that no node has",
        ("cluster.data.labels={zone: b}",),
        "cluster.data.labels: no node of the cluster has zone=b; none of its nodes has a label",
        "start nodes with `ray start --labels zone=b`",
    ),
    Broken(
        "a resource that no node has",
        ("cluster.train.resources={infiniband: 1}",),
        "cluster.train.resources.infiniband: no node has 1 'infiniband' for a worker; none has any",
        "start nodes with `ray start --resources '{\"infiniband\": 1}'`",
    ),
    Broken(
        "nodes for text without a CPU",
        ("cluster.data.labels={role: data}",),
        "cluster.data.labels: nodes with role=data have no CPU to read text with",
        "start them with `ray start --num-cpus N`",
        (*PLAIN, node("d", 0, {"role": "data"})),
    ),
    Broken(
        "workers that leave the text no CPU",
        ("cluster.data.labels={role: train}", "cluster.workers=4"),
        "cluster.data.labels: nodes with role=train have no CPU besides those of the workers",
        "lower cluster.workers or cluster.cpus_per_worker",
        LABELLED[:3],
    ),
    Broken(
        "too little memory",
        ("stages.pretrain.model.depth=24",),
        "x.yaml:10: stages.pretrain: a has 8.59 GB of memory, too little for 2 workers of ",
        "set cluster.strategy to fsdp, or add larger nodes",
        (HEAD, node("a", 4, memory=8 * GB), node("b", 4, memory=8 * GB)),
    ),
    Broken(
        "too little object store",
        ("stages.pretrain.model.context=65536", "stages.pretrain.batch=512"),
        "stages.pretrain: the cluster's nodes have 200 MB of object store, too little for the "
        "stream, whose blocks take 134 MB each",
        "a larger --object-store-memory",
        tuple(replace(n, resources={**n.resources, "object_store_memory": 1e8}) for n in PLAIN),
    ),
    Broken(
        "storage of each node's own",
        (),
        "x.yaml:2: storage: '{folder}/runs/small' is not shared between the nodes: what the driver "
        "has written is not there on a and b",
        "mount the same file system there on all nodes",
        looks=tuple((n, replace(GOOD, storage="what the driver has written is not there"))
                    for n in "ab"),
    ),
    Broken(
        "text that only the driver has",
        (),
        "x.yaml:7: data.shards: {folder}/text.txt is not there on b",
        "put it on storage that all nodes share, or on s3:// or gs://",
        looks=(("b", replace(GOOD, missing=("{folder}/text.txt",))),),
    ),
    Broken(
        "another torch",
        (),
        "x.yaml:3: cluster: torch differs: 2.13.0+cpu here, 2.10.0 on b",
        "install the same version everywhere, or use one image",
        looks=(("b", replace(GOOD, versions={**GOOD.versions, "torch": "2.10.0"})),),
    ),
    Broken(
        "another checkout",
        (),
        "cluster: the code differs: 0123 here, 4567 on a",
        "use one checkout or image everywhere",
        looks=(("a", replace(GOOD, versions={**GOOD.versions, "code": "4567"})),),
    ),
    Broken(
        "a node that is cut off",
        (),
        "cluster: node b (10.0.0.2) has not answered for 30 s",
        "take it out of the cluster",
        looks=(("b", Silent("has not answered for 30 s; take it out of the cluster")),),
    ),
    Broken(
        "workers that cannot reach each other",
        (),
        "cluster: b (10.0.0.2) cannot reach a: timed out at 10.0.0.1:4711",
        "open the firewall between the nodes",
        looks=(("b", replace(GOOD, unreached={"a": "timed out at 10.0.0.1:4711"})),),
    ),
    Broken(
        "GPUs that torch cannot use",
        ("cluster.gpus_per_worker=1",),
        "cluster.gpus_per_worker: torch finds no GPU on a and b, though Ray does",
        "install a CUDA build of torch and the driver",
        (HEAD, node("a", 4, GPU=1), node("b", 4, GPU=1)),
        tuple((n, replace(GOOD, gpu_bytes=0)) for n in "ab"),
    ),
]  # fmt: skip


Works = Callable[..., Work]


@pytest.fixture
def work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Works:
    """The pretraining of a spec with overrides, on a cluster of these nodes."""
    (tmp_path / "x.yaml").write_text(SPEC)
    (tmp_path / "text.txt").write_text("Once upon a time.\n" * 50)
    monkeypatch.chdir(tmp_path)

    def made(
        overrides: tuple[str, ...] = (),
        nodes: tuple[Node, ...] = PLAIN,
        looks: tuple[tuple[str, Look | Silent], ...] = (),
    ) -> Work:
        told = dict(looks)

        def survey(found: list[Node], needs: Needs) -> tuple[list[Node], dict, Look]:
            asked = [one for one in found if needs.uses(one)]
            return asked, {one.id: told.get(one.name, GOOD) for one in asked}, GOOD

        monkeypatch.setattr(ready, "nodes_of_cluster", lambda: list(nodes))
        monkeypatch.setattr(ready, "survey", survey)
        monkeypatch.setattr(ready, "autoscales", lambda: False)
        spec: Spec = load("x.yaml", overrides)
        plan = resolve(spec, gather(spec))
        return Work(plan, plan.by_name["pretrain"], Console(file=io.StringIO()))

    return made


@pytest.mark.parametrize("broken", BROKEN, ids=lambda one: one.name)
def test_what_does_not_fit_is_said_in_one_line(broken: Broken, work: Works, tmp_path: Path) -> None:
    here = str(tmp_path)
    looks = tuple(
        (name, replace(look, missing=tuple(one.format(folder=here) for one in look.missing)))
        if isinstance(look, Look) else (name, look)
        for name, look in broken.looks
    )  # fmt: skip
    with pytest.raises(SpecError) as error:
        require_fit(work(broken.overrides, broken.nodes, looks))
    [line] = str(error.value).splitlines()
    assert broken.said.replace("{folder}", here) in line
    assert broken.remedy in line
    assert line.startswith(("x.yaml:", "command line: "))


@pytest.mark.parametrize(
    ("overrides", "nodes"),
    [
        ((), PLAIN),
        (("cluster.train.labels={role: train}", "cluster.data.labels={role: data}"), LABELLED),
        (("cluster.data.labels={role: '!train'}", "cluster.workers=4"), LABELLED),
        (("cluster.train.labels={role: 'in(train, both)'}", "cluster.workers=4"), LABELLED),
        (("cluster.workers=[1, 9]",), PLAIN),
    ],
)
def test_what_fits_is_not_refused(
    work: Works, overrides: tuple[str, ...], nodes: tuple[Node, ...]
) -> None:
    require_fit(work(overrides, nodes))


def test_builds_of_one_torch_get_along_and_readers_need_none_like_it(work: Works) -> None:
    cuda = replace(GOOD, versions={**GOOD.versions, "torch": "2.13.0+cu128"})
    old = replace(GOOD, versions={**GOOD.versions, "torch": "2.10.0"})
    labels = ("cluster.train.labels={role: train}", "cluster.data.labels={role: data}")
    require_fit(work(labels, LABELLED, (("a", cuda), ("c", old))))


def test_where_nodes_can_be_had_they_are_asked_for_and_waited_for(
    work: Works, monkeypatch: pytest.MonkeyPatch
) -> None:
    wanted = work(("cluster.workers=4", "cluster.train.labels={role: train}"), LABELLED[:1])
    seen = iter([LABELLED[:1], LABELLED[:1], LABELLED, LABELLED])
    asked: list[tuple] = []
    monkeypatch.setattr(ready, "nodes_of_cluster", lambda: list(next(seen)))
    monkeypatch.setattr(ready, "autoscales", lambda: True)
    monkeypatch.setattr(ready, "LOOK_S", 0.0)
    monkeypatch.setattr(
        ready,
        "request_resources",
        lambda bundles, bundle_label_selectors: asked.append((bundles, bundle_label_selectors)),
    )
    require_fit(wanted)
    [(bundles, labels)] = asked
    assert bundles == [{"CPU": 2}] * 4 + [{"CPU": 1.0}]
    assert labels == [{"role": "train"}] * 4 + [{}]
    out = wanted.console.file.getvalue()  # type: ignore[attr-defined]
    assert "waiting for the autoscaler (0s, 0 nodes to work on): no node of the cluster has" in out


@pytest.mark.parametrize(
    ("override", "said"),
    [
        (
            "cluster.train.labels={role: 'in()'}",
            "'in()' is no condition of a label",
        ),
        ("cluster.data.labels={'a b': c}", "cluster.data.labels.a b: 'a b' is no label"),
        ("cluster.train.resources={GPU: 1}", "is asked for by cluster.gpus_per_worker"),
    ],
)
def test_what_no_cluster_could_understand_is_refused_by_check(
    work: Works, override: str, said: str
) -> None:
    with pytest.raises(SpecError, match="command line: ") as error:
        work((override,))
    assert said in str(error.value)
