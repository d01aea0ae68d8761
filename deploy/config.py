"""How a model is served, and what Kubernetes lends: frozen records, neither torch nor ray."""

from dataclasses import field
from typing import Annotated, Literal

from annotated_types import Ge, Le

from llm.config import Auto, Count, CountOrZero, Rate, RateOrZero, Strings, auto, record

Port = Annotated[int, Ge(0), Le(65_535)]


@record
class EngineConfig:
    """A replica: how many answers it writes at once, and with what memory."""

    slots: Count = 16
    """Texts that are written at once; others wait."""
    tokens: Auto[Count] = auto
    """Tokens of all texts that are remembered (key-value cache); auto: slots x context."""
    chunk: Count = 128
    """Tokens of new prompts that are read per step, so that long ones hold nobody up."""
    precision: Literal["auto", "fp32", "bf16", "int8"] = "auto"
    """Arithmetic of matrix products; auto: bf16 where the processor has instructions for it."""
    cpus: Auto[Count] = auto
    """Cores of a replica; auto: those of a training worker."""


@record
class AutoscalingConfig:
    """How many replicas there are."""

    min: CountOrZero = 1
    """Replicas at least; 0: none while nobody asks, and the first request waits for one."""
    max: Count = 1
    """Replicas at most."""
    target: Auto[Rate] = auto
    """Requests that a replica answers at once on average; auto: three quarters of its slots."""
    upscale_delay: RateOrZero = 5.0
    """Seconds of more load before replicas are added."""
    downscale_delay: RateOrZero = 120.0
    """Seconds of less load before replicas are taken away."""


@record
class LimitsConfig:
    """What a request and a key may ask for; more is refused with what to do."""

    queue: CountOrZero = 128
    """Requests that wait for a slot; further ones get 429 and Retry-After."""
    concurrency: Count = 64
    """Requests of one key that are answered at once."""
    requests_per_minute: Count = 3000
    """Requests of one key in a minute."""
    body_bytes: Count = 2_000_000
    """Size of a request."""
    header_bytes: Count = 16_384
    """Size of its headers."""
    timeout: Rate = 600.0
    """Seconds that an answer may take."""
    drain: RateOrZero = 30.0
    """Seconds that answers in the making are given when a server or a replica stops."""


@record
class TextFilterConfig:
    """What is kept out of questions and answers, since models repeat what they read."""

    words: str | None = None
    """A file with a word or phrase a line; texts with one of them are refused or broken off."""
    hook: str | None = None
    """A Python function as FILE.py:NAME; called with a text, true refuses it."""
    apply: tuple[Literal["input", "output"], ...] = ("input", "output")
    """What is looked at."""


@record
class FeedbackConfig:
    """What people say about answers, kept for the next round of training."""

    enabled: bool = True
    """Whether it is asked for and kept."""
    folder: str | None = None
    """Where it is kept; none: `feedback` in the folder of the run."""


@record
class ServeConfig:
    """An OpenAI-compatible endpoint and a chat page."""

    host: str = "127.0.0.1"
    """Address that it listens on; 0.0.0.0 is open to the network."""
    port: Port = 8000
    """Port that it listens on; 0: a free one."""
    auth: bool = True
    """Whether requests need an API key; without one only on 127.0.0.1."""
    keys: str | None = None
    """A file of hashed keys, written by `python -m jobs key`; none: the environment variable
    HUMPTY_API_KEYS, else a key for this time is made and shown."""
    system: str = ""
    """System prompt of conversations that bring none."""
    truncation: Literal["disabled", "auto"] = "disabled"
    """What becomes of a conversation longer than the context: refused, or its oldest turns are left
    out; requests may choose for themselves."""
    cors: Strings = ()
    """Origins of other web pages that may ask; none: only the chat page."""
    resident: Count = 2
    """Models that a replica keeps in memory, if there are several."""
    engine: EngineConfig = field(default_factory=EngineConfig)
    """The replicas."""
    autoscaling: AutoscalingConfig = field(default_factory=AutoscalingConfig)
    """Their number."""
    limits: LimitsConfig = field(default_factory=LimitsConfig)
    """Bounds of requests."""
    filters: TextFilterConfig = field(default_factory=TextFilterConfig)
    """What is kept out."""
    feedback: FeedbackConfig = field(default_factory=FeedbackConfig)
    """What people say about answers."""


@record
class PodsConfig:
    """Pods of one kind. Requests are limits: what is promised is there, and no more is taken."""

    cpus: Auto[Count] = auto
    """Cores of a pod; auto: head 2; data `ingest_cpus` and two more; workers `cpus_per_worker`."""
    memory: Auto[Count] = auto
    """GiB of a pod; auto: four for each core, half of it at most for Ray's object store."""
    select: dict[str, str] = field(default_factory=dict)
    """Labels of the nodes on which they may run."""


@record
class DataPodsConfig(PodsConfig):
    """Pods that read, clean and tokenise."""

    max: Count = 4
    """Pods at most; one is always there, the others come and go with the load."""


@record
class WorkerPodsConfig(PodsConfig):
    """Pods that train."""

    workers: Count = 1
    """Training workers in a pod."""


@record
class VolumeConfig:
    """The folder that all pods share (ReadWriteMany): a claim that is there, or a new one."""

    claim: str | None = None
    """Name of a PersistentVolumeClaim."""
    size: Count | None = None
    """GiB of a new one."""
    storage_class: str | None = None
    """StorageClass of a new one; none: the cluster's default."""


@record
class S3Config:
    """Access to s3:// shards and mirrors."""

    secret: str
    """Secret with the keys access_key_id and secret_access_key."""
    endpoint: str | None = None
    """URL of the service; none: AWS."""
    region: str | None = None
    """Region; none: that of the client's defaults."""


@record
class HeadStateConfig:
    """Where the head keeps the cluster's state, so that a new head takes over living pods."""

    redis: str | None = None
    """HOST:PORT of a Redis; none: a volume, which KubeRay 1.7 offers behind a feature gate,
    GCSFaultToleranceEmbeddedStorage."""
    secret: str | None = None
    """Secret whose key `password` opens the Redis."""


@record
class KubernetesConfig:
    """What KubeRay is asked for; `python -m jobs render` writes the manifests."""

    image: str
    """Container image with this program (deploy/Dockerfile), by tag or digest."""
    storage: VolumeConfig
    """What `storage` of the file is in the pods: a volume at /storage."""
    namespace: str = "default"
    """Namespace of everything."""
    pull_secret: str | None = None
    """Secret of the image's registry."""
    token_secret: str | None = None
    """Secret whose key `auth_token` is Ray's token; none: KubeRay makes one for each cluster."""
    keys_secret: str | None = None
    """Secret whose key `keys.txt` is a file of hashed API keys (`python -m jobs key`); serving
    wants one."""
    s3: S3Config | None = None
    """Access to s3://."""
    head: PodsConfig = field(default_factory=PodsConfig)
    """The pod of the driver, the dashboard and Ray's own state."""
    data: DataPodsConfig = field(default_factory=DataPodsConfig)
    """Pods without GPUs that feed the workers."""
    workers: WorkerPodsConfig = field(default_factory=WorkerPodsConfig)
    """Pods that train."""
    fault_tolerance: HeadStateConfig | None = None
    """Whether a cluster outlives its head. A training needs it not: its driver is on the head, and
    the job goes on from the newest checkpoint."""
    queue: str | None = None
    """A LocalQueue of Kueue that admits the job; then it gets all pods or none, no autoscaling."""
