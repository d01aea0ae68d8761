"""What must hold of optimizer, average and statistics; paths start at the stage."""

from collections.abc import Iterator

from jobs.stages import PpoStage, PretrainStage, SftStage
from jobs.yaml_source import Keys
from llm.config import LoopConfig, OptimConfig

Findings = Iterator[tuple[Keys, str]]


def of_optim(stage: LoopConfig, strategy: str) -> Findings:
    """What is set has an effect, and the optimizer can do it."""
    optim = stage.optim
    if optim.kind != "muon" and optim.momentum != OptimConfig.momentum:
        message = f"{optim.momentum:g} has no effect with kind: {optim.kind}; leave it out"
        yield ("optim", "momentum"), message
    if optim.kind == "adafactor":
        yield from of_adafactor(optim, strategy)
    if optim.z_loss and not isinstance(stage, PretrainStage | SftStage):
        message = f"{optim.z_loss:g} is not allowed; it is for pretrain and sft stages"
        yield ("optim", "z_loss"), message
    if isinstance(stage, PpoStage):
        yield from of_ppo(stage)


def of_adafactor(optim: OptimConfig, strategy: str) -> Findings:
    """Its moments are sums over whole rows and columns, its rate a share of the weights."""
    if strategy == "fsdp":
        message = "adafactor is not allowed with strategy: fsdp; use adamw, muon or lion"
        yield ("optim", "kind"), message
    if optim.lr_width:
        message = (
            f"{optim.lr_width} is not allowed with kind: adafactor, whose rate is relative to the "
            "weights at any width; leave it out"
        )
        yield ("optim", "lr_width"), message


def of_ppo(stage: PpoStage) -> Findings:
    """Its two models learn by AdamW."""
    if stage.optim.kind != "adamw":
        yield ("optim", "kind"), f"{stage.optim.kind} is not allowed; ppo learns by adamw"
    if stage.optim.ema:
        yield ("optim", "ema"), f"{stage.optim.ema:g} is not allowed; ppo keeps no average"
    if stage.statistics:
        yield ("statistics",), f"{stage.statistics} is not allowed; ppo takes none"
