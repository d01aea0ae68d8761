"""What a run has cost, estimated: nobody has measured power, and a price is what the spec says."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from jobs.report_read import RunSeen, Seen
from llm.metrics import duration
from llm.page import shown
from llm.page_parts import table

GPU_WATTS = 700.0
"""Of a GPU at work: what data sheets say of an H100 or H200 (SXM)."""

CORE_WATTS = 10.0
"""Of a CPU core with its share of memory and machine: servers of 64 cores take 400 to 700 W."""


@dataclass(frozen=True)
class Cost:
    """Of one stage."""

    name: str
    seconds: float
    workers: int
    gpus: float
    """Of each worker; 0: it computes on CPU cores."""
    cores: int
    """Of each worker."""

    @property
    def hours(self) -> float:
        """Worker hours, or GPU hours if it has GPUs."""
        return self.seconds / 3600 * self.workers * (self.gpus or 1)

    @property
    def energy(self) -> float:
        """Kilowatt hours."""
        watts = self.gpus * GPU_WATTS if self.gpus else self.cores * CORE_WATTS
        return self.seconds / 3600 * self.workers * watts / 1000


def costs(run: RunSeen) -> list[Cost]:
    """Of every stage that has worked."""
    return [cost(run, one) for one in run.stages if one.seconds > 0]


def cost(run: RunSeen, seen: Seen) -> Cost:
    """Of one; a stage that logs no workers is taken to hold all that the run asks for."""
    asked = run.cluster.get("workers", 1)
    asked = asked[-1] if isinstance(asked, list) and asked else asked
    workers = seen.start.get("workers", asked)
    cores = run.cluster.get("cpus_per_worker", 1)
    return Cost(
        name=seen.name,
        seconds=seen.seconds,
        workers=workers if isinstance(workers, int) else 1,
        gpus=float(run.cluster.get("gpus_per_worker", 0)),
        cores=cores if isinstance(cores, int) else 1,
    )


def price_of(run: RunSeen) -> float:
    """Dollars for the hour of a GPU, or of a worker where there is none; 0: not told."""
    price = run.cluster.get("price", 0)
    return float(price) if isinstance(price, int | float) else 0.0


def costs_section(run: RunSeen) -> Iterator[str]:
    """A table with its sums, and how each figure was made."""
    price, found = price_of(run), costs(run)
    rows = [row(one.name, str(one.workers), [one], price) for one in found]
    rows.append(row("all", "", found, price))
    unit = "GPU hours" if any(one.gpus for one in found) else "worker hours"
    cost = ("cost",) if price else ()
    yield f"<p>{shown(explained(price, any(one.gpus for one in found)))}</p>"
    columns = ("stage", "workers", "time", unit, *cost, "energy")
    yield table(columns, rows, name="cost and energy")


def row(name: str, workers: str, stages: Sequence[Cost], price: float) -> list[str]:
    """A line of the table, of one stage or of all."""
    hours, energy = sum(one.hours for one in stages), sum(one.energy for one in stages)
    time = duration(sum(one.seconds for one in stages))
    spent = [dollars(hours, price)] if price else []
    return [name, workers, time, f"{hours:.2g}", *spent, kwh(energy)]


def dollars(hours: float, price: float) -> str:
    """`$1.20`, and of less than a cent three digits."""
    cost = hours * price
    return f"${cost:,.2f}" if cost >= 0.01 or not cost else f"${cost:.2g}"


def kwh(energy: float) -> str:
    """`1.2 kWh` or `340 Wh`"""
    return f"{energy:.3g} kWh" if energy >= 1 else f"{1000 * energy:.2g} Wh"


def explained(price: float, gpus: bool) -> str:
    """The formula in words, with the numbers that it stands on."""
    unit = "GPU" if gpus else "worker"
    text = "An estimate, nothing here was metered. "
    if price:
        hour = f"${price:g} for the hour of a {unit} (cluster.price)"
        text += f"Cost = hours × workers{' × GPUs of each' if gpus else ''} × {hour}. "
    else:
        text += "No price is given (cluster.price), so there is no cost. "
    if gpus:
        return text + (
            f"Energy = hours × workers × GPUs of each × {GPU_WATTS:g} W, what an H100 "
            "takes at full load by its data sheet; host and cooling are not in it."
        )
    return text + (
        f"Energy = hours × workers × cores of each × {CORE_WATTS:g} W, an assumption for a core of "
        "a server with its share of memory and machine; cooling is not in it."
    )
