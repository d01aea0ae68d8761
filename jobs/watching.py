"""Who sees a stage's events while it runs: the person, the log, trackers, Ray's metrics."""

from collections.abc import Iterator
from contextlib import contextmanager

from jobs.kinds import as_json
from jobs.progress import Watch
from jobs.run_log import RunLog
from jobs.trackers import Behind, Subject, trackers_of
from jobs.work import Work
from llm.metrics import Emit, Event


@contextmanager
def watching(work: Work) -> Iterator[Emit]:
    """What a training is to tell its events to, inside the block."""
    from cluster.metrics import Published

    spec, stage = work.plan.spec, work.stage
    assert stage.stage is not None
    subject = Subject(
        run=spec.name, stage=stage.name, folder=work.folder, spec=as_json(stage.stage)
    )
    log = RunLog(spec.folder, spec.name, stage.name, subject.artifact)
    published = Published(spec.name, stage.name, work.folder)
    with Watch(work.console) as watch:

        def say(text: str) -> None:
            watch.say(text, style="bold yellow")
            log({"event": "message", "text": text})

        trackers = [
            Behind(name, make, say) for name, make in trackers_of(spec.tracking, subject).items()
        ]
        listeners: list[Emit] = [watch, log, published, *trackers, work.also]

        def tell(event: Event) -> None:
            for listener in listeners:
                listener(event)

        try:
            yield tell
        finally:
            for tracker in trackers:
                tracker.close()
            log.close()
