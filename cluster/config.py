"""The machines a run asks for: a frozen record, neither torch nor ray."""

from llm.config import Auto, Count, CountOrZero, RateOrZero, auto, record


@record
class ClusterConfig:
    """Workers of Ray Train and what each of them gets."""

    workers: Count = 1
    """Processes that train one model together (data parallel)."""
    cpus_per_worker: Auto[Count] = auto
    """CPU cores of a worker; auto: the machine's cores shared out evenly, 1 at least."""
    gpus_per_worker: RateOrZero = 0
    """GPUs of a worker; 0 trains on CPU."""
    max_failures: CountOrZero = 3
    """Workers that may be lost before the run gives up."""
    ingest_cpus: Count = 2
    """CPU cores besides the workers' for reading and tokenising."""
    read_ahead: Count = 256
    """Megabytes of tokenised rows that wait for the workers at most."""
