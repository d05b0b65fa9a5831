"""The report: one self-contained page that leads from verdict to figure to record to command to formula."""

import base64
import hashlib
import io
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from math import isfinite
from pathlib import Path

from jinja2 import Environment, PackageLoader, StrictUndefined
from PIL import Image
from rich.console import Console
from rich.table import Table

from repro.pipeline.claims import shown
from repro.pipeline.composition import files
from repro.pipeline.experiment import experiment
from repro.pipeline.paper import Paper
from repro.pipeline.plotting import COLUMN
from repro.pipeline.presentation import mathml
from repro.pipeline.presentation.compare import differences, find_reference, in_words
from repro.pipeline.presentation.drawing import redraw_if_needed
from repro.pipeline.presentation.headline import headline
from repro.pipeline.presentation.verdicts import Verdict, judge, tally
from repro.pipeline.store import Record, Run
from repro.pipeline.store.place import Place
from repro.pipeline.system import locks
from repro.pipeline.system.progress import clock

REFERENCE = Path("results") / "reference"
"""Where a checkout keeps the records of our own runs."""

MARKS = {"holds": "✓", "fails": "✗", "not measured": "–"}
FIRST = ("fails", "not measured", "holds")
"""In which order a paper's claims stand: what a reader must know first."""


@dataclass(frozen=True)
class Figure:
    """A figure for the page: what to look for in it, the picture as a data URI, whether it is one column wide, and
    where the same lies as a PDF, relative to the page."""

    caption: str
    uri: str
    narrow: bool
    pdf: str


@dataclass(frozen=True)
class Section:
    """What the page says of one experiment.

    `folder` is the record's, relative to the page; without a record there is only the command that makes it.
    """

    name: str
    title: str
    about: str
    command: str
    verdicts: Sequence[Verdict]
    record: Record | None
    folder: str = ""
    figures: Mapping[str, Figure] = field(default_factory=dict)
    numbers: Sequence[str] = ()
    facts: Mapping[str, str] | None = None
    beside: str = ""  # how its curves compare with the reference's
    play: str = ""  # HTML


@dataclass(frozen=True)
class Chapter:
    """What the page says of one paper; `paper` is None for one that says nothing of itself."""

    name: str
    paper: Paper | None
    verdicts: Sequence[Verdict]
    sections: Sequence[Section]

    @property
    def anchor(self) -> str:
        return re.sub(r"\W+", "-", self.name.lower()).strip("-")

    @property
    def picture(self) -> tuple[str, Figure] | None:
        """The experiment and the figure that show what it is about, where that is recorded."""
        experiment, _, figure = (self.paper.picture if self.paper else "").partition("/")
        found = next((s.figures.get(figure) for s in self.sections if s.name == experiment), None)
        return None if found is None else (experiment, found)

    @property
    def tally(self) -> str:
        counts = tally(self.verdicts)
        parts = [f"{counts['holds']} of {sum(counts.values())} claims hold"]
        parts += [f"{counts['fails']} {'fails' if counts['fails'] == 1 else 'fail'}"] if counts["fails"] else []
        parts += [f"{counts['not measured']} not measured"] if counts["not measured"] else []
        return ", ".join(parts)


def write(runs: Sequence[Run], verdicts: Sequence[Verdict], path: Path) -> Path:
    """Write the page about each run to `path`; figures are drawn where missing."""
    references = {run.place: found for run in runs if (found := _reference(run)) is not None}
    chapters = [
        _chapter(name, [run for run in runs if run.config.paper == name], verdicts, references, path.parent)
        for name in dict.fromkeys(run.config.paper for run in runs)
    ]
    environment = Environment(
        loader=PackageLoader("repro.pipeline.presentation"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"formulas": mathml.inline, "display": mathml.display}
    page = environment.get_template("report.html").render(
        chapters=chapters,
        marks=MARKS,
        counts=tally(verdicts),
        again=again(verdicts),
        shown=shown,
        bar=bar,
        references=_judged(runs, references),
        zip=zip,
        whose=whose(runs[0].results) if runs else "no",
    )
    with locks.hold(path.with_name(f".lock-{path.name}")):
        temporary = path.with_name(f".tmp-{path.name}")
        temporary.write_text(page, encoding="utf-8")
        temporary.replace(path)
    return path


@dataclass(frozen=True)
class Bar:
    """Where a measurement lies, in per cent of a bar's width.

    What is allowed reaches from `room[0]` to `room[1]`, one of which is the `limit`; the `mark` is the measurement,
    between the `ends` of its interval where that is what counts. What is beyond the bar stands at its end.
    """

    room: tuple[float, float]
    limit: float
    mark: float
    ends: tuple[float, float] | None
    words: str


LIMIT, MIDDLE = 70.0, 50.0


def bar(verdict: Verdict) -> Bar | None:
    """From what theory says, at the left end, to the limit and beyond; where nothing but a side of the limit is asked,
    the limit in the middle, and a bar as wide as the interval needs. None where there is no more to say than a word."""
    if not verdict.values:
        return None
    low, high = verdict.claim.low, verdict.claim.high
    interval = verdict.interval
    if isfinite(verdict.margin):
        left = verdict.claim.left

        def place(value: float) -> float:
            return _within((1 - left(value)) * LIMIT)

        share = f"{shown(100 * abs(verdict.margin))} % of the tolerance"
        words = f"{share} left" if verdict.margin >= 0 else f"{share} beyond the limit"
        room, limit = (0.0, LIMIT), LIMIT
    elif interval and isfinite(low) != isfinite(high):
        edge = low if isfinite(low) else high
        widest = max(abs(end - edge) for end in interval) or 1.0

        def place(value: float) -> float:
            return _within(MIDDLE + 0.9 * MIDDLE * (value - edge) / widest)

        words = f"from {shown(interval[0])} to {shown(interval[1])}, {verdict.claim.expected} expected"
        room, limit = ((MIDDLE, 100.0) if isfinite(low) else (0.0, MIDDLE)), MIDDLE
    else:
        return None
    ends = sorted(map(place, interval)) if interval else None
    return Bar(room, limit, place(verdict.decisive), None if ends is None else (ends[0], ends[1]), words)


def _within(per_cent: float) -> float:
    return round(min(max(per_cent, 0.0), 100.0), 1)


def place(runs: Sequence[Run]) -> Path:
    """Where the page about these runs goes: that of some experiments beside that of all, whose name says which."""
    names = "+".join(sorted({run.config.name for run in runs}))
    if set(files.experiments()) <= set(names.split("+")):
        return runs[0].results / "report.html"
    if paper := next((paper for paper, its in files.folders().items() if set(its) == set(names.split("+"))), None):
        names = paper
    if len(names) > 100:
        names = f"{names[:88]}-{hashlib.sha256(names.encode()).hexdigest()[:8]}"
    return runs[0].results / f"report-{names}.html"


def again(verdicts: Sequence[Verdict]) -> str:
    """What the tally leaves out, in words."""
    count = sum(bool(v.shared) for v in verdicts)
    return f"; {count} more on the same networks as another, counted there" if count else ""


def whose(results: Path) -> str:
    """Whose records a results folder holds, in words."""
    return "reference" if REFERENCE.name in results.parts else "your"


def _reference(run: Run) -> Record | None:
    """The reference record beside a run's own; None where either is missing, or they are one."""
    record, reference = run.record(), find_reference(run, REFERENCE)
    if record is None or reference is None or record.path.resolve() == reference.path.resolve():
        return None
    return reference


def _judged(runs: Sequence[Run], references: Mapping[Place, Record]) -> dict[tuple[str, str], Verdict]:
    """What the references say of the claims, by experiment and claim."""
    found = {}
    for run in (run for run in runs if run.place in references):
        for claim in experiment(run.config).claims:
            verdict = judge(claim, references[run.place], experiment=run.config.name, command="")
            if verdict is not None and verdict.values:
                found[run.config.name, claim.id] = verdict
    return found


def _chapter(
    name: str, runs: Sequence[Run], verdicts: Sequence[Verdict], references: Mapping[Place, Record], page_folder: Path
) -> Chapter:
    names = [run.config.name for run in runs]
    mine = sorted((v for v in verdicts if v.experiment in names), key=lambda v: FIRST.index(v.decision))
    sections = [_section(run, mine, references.get(run.place), page_folder) for run in runs]
    return Chapter(name, experiment(runs[0].config).paper, mine, sections)


def _section(run: Run, verdicts: Sequence[Verdict], reference: Record | None, page_folder: Path) -> Section:
    config, shows, record = run.config, experiment(run.config), run.record()
    mine = [v for v in verdicts if v.experiment == config.name]
    if record is None:
        return Section(config.name, config.title, shows.about, run.command, mine, None)
    if config.figures:
        redraw_if_needed(run, record)
    captions = shows.captions
    figures = {
        file.stem: _figure(file, captions.get(file.stem, file.stem.replace("_", " ")), page_folder)
        for file in sorted(record.figures.glob("*.png"), key=lambda file: _position(captions, file.stem))
    }
    return Section(
        config.name,
        config.title,
        shows.about,
        record.summary["command"],
        mine,
        record,
        Path(os.path.relpath(record.path, page_folder)).as_posix(),
        figures,
        headline(record.summary["headline"]),
        _facts(record),
        in_words(differences(record, reference, config.training.ROUNDING)) if reference else "",
        shows.play(record),
    )


def _position(captions: Mapping[str, str], name: str) -> int:
    return list(captions).index(name) if name in captions else len(captions)


def _figure(file: Path, caption: str, page_folder: Path) -> Figure:
    """Pixels, without loss in WebP: a third of what the figures are as SVG."""
    packed = io.BytesIO()
    with Image.open(file) as image:
        width = image.width / image.info["dpi"][0]
        image.convert("RGB").save(packed, "WEBP", lossless=True, quality=50)
    uri = "data:image/webp;base64," + base64.b64encode(packed.getvalue()).decode()
    pdf = Path(os.path.relpath(file.with_suffix(".pdf"), page_folder)).as_posix()
    return Figure(caption, uri, width < 1.2 * COLUMN, pdf)


def _facts(record: Record) -> dict[str, str]:
    """Where and with what the record was made."""
    summary = record.summary
    environment, code = summary["environment"], summary["code"]
    versions = environment["versions"]
    return {
        "scale": f"{record.config['scale']}, seeds {', '.join(map(str, record.config['seed']))}",
        "time": f"{clock(summary['durations']['run'])}, finished {summary['finished']}",
        "hardware": environment["gpu"] or f"{environment['cpu']}, {environment['cores']} cores",
        "versions": f"Python {environment['python']}, "
        + ", ".join(f"{name} {versions[name]}" for name in ("torch", "numpy", "pandas") if name in versions),
        "code": (
            f"not of this code and these libraries: {record.note} ({(code['commit'] or 'no commit')[:12]})"
            if record.note
            else f"{(code['commit'] or 'no commit')[:12]}, by its numbers the code as it is now"
            if record.compared
            else f"{(code['commit'] or 'no commit')[:12]}, not compared with the code as it is now"
        ),
    }


def print_ledger(verdicts: Sequence[Verdict]) -> None:
    """The ledger as a table on the terminal."""
    table = Table(
        "", "experiment", "claim", "measured", "expected", "rests on (of the tolerance)", title="Claims of the paper"
    )
    styles = {"holds": "green", "fails": "bold red", "not measured": "dim"}
    for v in verdicts:
        table.add_row(
            f"{MARKS[v.decision]} {v.decision}",
            v.experiment,
            v.claim.id,
            v.measured,
            v.claim.expected,
            v.basis,
            style=styles[v.decision],
        )
    console = Console()
    (console if console.is_terminal else Console(width=190)).print(table)
    print(", ".join(f"{count} {decision}" for decision, count in tally(verdicts).items()) + again(verdicts))
    for v in verdicts:
        if v.decision == "fails":
            word = "fails, as known" if v.known else "fails"
            print(f"{word}: {v.experiment}, {v.claim.id}: {v.claim.statement} {v.claim.caveat}".rstrip())
