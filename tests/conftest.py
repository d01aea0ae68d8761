"""One Ray cluster for the whole session, and one thread per process."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings

os.environ.setdefault("OMP_NUM_THREADS", "1")

settings.register_profile("unhurried", deadline=None)
settings.load_profile("unhurried")
"""How long an example takes says more about what else the machine does."""

ROOT = Path(__file__).parent.parent
DATA = ROOT.parent / "shared" / "data"


@pytest.fixture(scope="session")
def ray_cluster() -> Iterator[None]:
    """The cluster of a two-worker spec, as `python -m jobs run` starts it."""
    from cluster.config import ClusterConfig
    from cluster.session import session

    with session(ClusterConfig(workers=2, cpus_per_worker=1)):
        yield


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Real text kept beside the project; tests that need it skip where it is not."""
    if not DATA.exists():
        pytest.skip(f"needs the shared data in {DATA}")
    return DATA
