"""report.html of a training: what it reached, its curves, what it wrote and answered on the way.

Made of metrics.jsonl and events.jsonl, of any kind of training and at any time: while it runs,
after a fall, at its end. One file that needs nothing else (llm/page.py); 100,000 steps make 80 kB.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

from llm.answers import Answered
from llm.errors import ArtifactError
from llm.falls import NOTHING_BEFELL, Account, account_of
from llm.falls_report import STYLE as FALLS_STYLE
from llm.falls_report import falls_section, goodput_tile, marks
from llm.files import write_atomic
from llm.layer_plots import MAPS, draw_map, table_of
from llm.metrics import Event, duration, quantity, read_log
from llm.page import page, shown
from llm.panels import SECTIONS, Panel, curves_of, held_out, points, trained
from llm.plots import PHASE_COLOURS, draw_panel, draw_phases, label

TILES = {
    "reward": trained("reward"),
    "loss": trained("loss"),
    "held-out loss": held_out("loss"),
    "bits per byte": held_out("bpb"),
    "accuracy": held_out("accuracy"),
    "filled in": held_out("filled"),
    "letters given back": held_out("restored"),
    "nats of divergence": trained("kl"),
    "preference": held_out("preference"),
    "tokens per second": trained("tokens_per_second"),
}
"""The figures at the top."""

SHARES = ("accuracy", "filled in", "letters given back", "preference")
"""Those that are shares."""

MOST_SAMPLES = 6
"""Of one prompt: the first, the last and some in between."""

STYLE = """
:root { --more: #8250b0; }
@media (prefers-color-scheme: dark) { :root { --more: #b48ae0; } }
.tiles { display: grid; gap: .75rem; margin: 1.5rem 0 0; padding: 0;
  grid-template-columns: repeat(auto-fit, minmax(8.5rem, 1fr)); list-style: none; }
.tiles li { padding: .6rem .75rem; border: 1px solid var(--line); border-radius: .4rem;
  background: var(--card); }
.tiles b { display: block; font-size: 1.4rem; line-height: 1.2; font-weight: 600;
  font-variant-numeric: tabular-nums; }
.tiles span, .tiles small { display: block; color: var(--soft); font-size: .8rem; }
.notice { margin: 1.25rem 0 0; padding: .6rem .75rem; max-width: none; color: var(--text);
  border: 1px solid var(--lost); border-left-width: .3rem; border-radius: .4rem;
  overflow-wrap: anywhere; }
.plots { display: grid; gap: .75rem; margin-top: .75rem;
  grid-template-columns: repeat(auto-fill, minmax(min(100%, 19rem), 1fr)); }
.plots figure { margin: 0; display: flex; flex-direction: column; }
.plots figcaption { display: flex; justify-content: space-between; gap: 1rem; color: var(--text);
  font-size: .9rem; font-variant-numeric: tabular-nums; margin-bottom: .4rem; }
.plots figcaption b { font-weight: 600; }
.plots .key { font-size: .8rem; gap: 0 .9rem; color: var(--soft); }
.plots p { font-size: .8rem; line-height: 1.4; margin: .4rem 0 0; }
svg { display: block; width: 100%; height: auto; font-family: inherit; overflow: visible;
  stroke-linejoin: round; }
.texts { display: grid; gap: .75rem 1.25rem; margin-top: .5rem;
  grid-template-columns: repeat(auto-fit, minmax(min(100%, 15rem), 1fr)); }
.texts pre { margin-top: .2rem; }
.question { color: var(--text); font-size: .95rem; font-weight: 600; }
"""


def write_report(folder: Path, title: str = "", answers: Sequence[Answered] = ()) -> Path:
    """Write report.html beside the metrics.jsonl of a training."""
    path = folder / "metrics.jsonl"
    if not path.exists():
        raise ArtifactError(
            f"{path}: is not there; give the folder of a stage that trains and has begun"
        )
    report = folder / "report.html"
    title = title or folder.parent.name
    write_atomic(report, report_page(title, read_log(path), answers, account_of(folder)))
    return report


def report_page(
    title: str,
    log: Sequence[Event],
    answers: Sequence[Answered] = (),
    account: Account = NOTHING_BEFELL,
) -> str:
    """The whole page."""
    body = [
        f"<h1>{shown(title)}</h1>",
        f"<p>{shown(summary(log))}</p>",
        *(notice(event) for event in log if event["event"] in ("guard", "fault")),
        tiles(log, goodput_tile(account)),
        *side_by_side(answers),
        *plots([*log, *marks(account.falls)]),
        *layer_maps(log),
        *falls_section(account),
        *samples(log),
    ]
    return page(title, STYLE + FALLS_STYLE, "\n".join(part for part in body if part))


# -- what it reached -------------------------------------------------------------------------------


def summary(log: Sequence[Event]) -> str:
    """What was trained, where, how far and for how long, in a line."""
    starts = [event for event in log if event["event"] == "start"]
    if not starts:
        return "Nothing has been logged yet."
    return ". ".join((machine(starts[-1]), progress(log, starts))) + "."


def machine(start: Event) -> str:
    """`4.2M parameters on 2 workers (cpu, bf16)`"""
    workers = f"{start['workers']} worker" + "s" * (start["workers"] != 1)
    place = f"{start['device']}, {start['precision']}"
    return f"{quantity(start['parameters'])} parameters on {workers} ({place})"


def progress(log: Sequence[Event], starts: Sequence[Event]) -> str:
    """How far it came, in which time, and where it had to begin again."""
    step, steps = max(event["step"] for event in log), starts[-1]["steps"]
    text = f"{step:,} steps" if step == steps else f"{step:,} of {steps:,} steps"
    end = next((event for event in reversed(log) if event["event"] == "end"), None)
    if end:
        text += f" in {duration(end['time'] - starts[0]['time'])}"
    else:
        text += ", no end yet"
    went_on = [f"{start['step']:,}" for start in starts if start["step"] > 0]
    return text + (f", went on after step {', '.join(went_on)}" if went_on else "")


def notice(event: Event) -> str:
    """What a guard saw and did, or what was wrong with a step."""
    done = f"{event['action'].replace('_', ' ')} at step {event['step']:,}"
    text = event["message"] if event["event"] == "guard" else event["why"]
    return f'<p class="notice"><b>{shown(done)}</b>: {shown(text)}</p>'


def tiles(log: Sequence[Event], more: str = "") -> str:
    """The most important figures: where they began and where they are; then other tiles."""
    found = []
    for name, curve in TILES.items():
        at = points(log, curve)
        if at.first is None or at.last is None:
            continue
        first, last = (label(value, name in SHARES) for value in (at.first, at.last))
        began = f"from {first}" if len(at.steps) > 1 else ""
        found.append(f"<li><span>{name}</span><b>{last}</b><small>{began}</small></li>")
    return f'<ul class="tiles">{"".join(found)}{more}</ul>' if found else ""


# -- curves ----------------------------------------------------------------------------------------


def plots(log: Sequence[Event]) -> Iterator[str]:
    """Every section of which the run has figures."""
    for heading, panels in SECTIONS.items():
        figures = [plot(panel, log) for panel in panels if curves_of(panel, log)]
        if heading == "How fast it is" and any("phases" in event for event in log):
            figures.append(phases(log))
        if figures:
            yield f'<h2>{heading}</h2>\n<div class="plots">{"".join(figures)}</div>'


def layer_maps(log: Sequence[Event]) -> Iterator[str]:
    """Figures of every layer, if the run looked at them."""
    if not any(event["event"] == "statistics" for event in log):
        return
    figures = []
    for one in MAPS:
        names, _, values = table_of(log, one.key)
        if names:
            last = values[:, -1]
            span = f"{label(float(last.min()))} to {label(float(last.max()))}"
            figures.append(framed(one.title, span, draw_map(one, log), {}, one.note))
    yield f'<h2>Layer by layer</h2>\n<div class="plots">{"".join(figures)}</div>'


def plot(panel: Panel, log: Sequence[Event]) -> str:
    """A drawing with its title, its newest value, its key and what it says."""
    curves = curves_of(panel, log)
    names = {curve.name: curve.colour for curve, _ in curves}
    last = curves[0][1].last
    assert last is not None
    value = label(last, panel.unit == "share")
    return framed(panel.title, value, draw_panel(panel, log), names, panel.note)


def phases(log: Sequence[Event]) -> str:
    """Where the seconds of a step go."""
    steps = [event for event in log if "phases" in event]
    total = sum(steps[-1]["phases"].values())
    note = "Writing answers, log-probabilities and values of all models, rewards, learning."
    drawing = draw_phases(log)
    return framed("Seconds per step", f"{quantity(total)} s", drawing, PHASE_COLOURS, note)


def framed(title: str, value: str, drawing: str, names: Mapping[str, str], note: str) -> str:
    """A drawing and the words about it."""
    keys = "".join(f'<li style="--colour: var(--{colour})">{n}</li>' for n, colour in names.items())
    key = f'<ul class="key">{keys}</ul>' if len(names) > 1 or "held out" in names else ""
    head = f"<figcaption><b>{title}</b><span>{value}</span></figcaption>"
    return f"<figure>{head}{drawing}{key}<p>{note}</p></figure>"


# -- texts -----------------------------------------------------------------------------------------


def samples(log: Sequence[Event]) -> Iterator[str]:
    """What the model wrote to the same prompts as training went on."""
    texts: dict[str, dict[int, str]] = {}
    for event in log:
        if event["event"] == "sample":
            texts.setdefault(event["prompt"], {})[event["step"]] = event["text"]
    if texts:
        yield "<h2>What it writes</h2>\n<p>To the same prompts, as training goes on.</p>"
    for prompt, by_step in texts.items():
        chosen = spread(sorted(by_step), MOST_SAMPLES)
        yield text_figure(prompt, ((f"step {step:,}", by_step[step]) for step in chosen))


def spread(items: Sequence[int], most: int) -> list[int]:
    """At most `most` of the items: the first, the last and some evenly in between."""
    if len(items) <= most:
        return list(items)
    return [items[round(place * (len(items) - 1) / (most - 1))] for place in range(most)]


def side_by_side(answers: Sequence[Answered]) -> Iterator[str]:
    """The same prompts, answered by several models."""
    if answers:
        yield "<h2>Who answers what</h2>\n<p>The likeliest answer of each model.</p>"
    for row in answers:
        yield text_figure(row["prompt"], row["answers"].items())


def text_figure(prompt: str, texts: Iterable[tuple[str, str]]) -> str:
    """A prompt, and texts side by side where there is room; one of blanks is shown as nothing."""
    cards = "".join(
        f"<div><figcaption>{shown(name)}</figcaption>"
        f'<pre dir="auto">{shown(text) if text.strip() else ""}</pre></div>'
        for name, text in texts
    )
    question = f'<figcaption class="question" dir="auto">{shown(prompt)}</figcaption>'
    return f'<figure>{question}<div class="texts">{cards}</div></figure>'
