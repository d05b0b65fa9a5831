"""The report: one self-contained page that leads from verdict to figure to record to command to formula."""

import hashlib
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import cast
from urllib.parse import quote

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup, escape
from rich.console import Console
from rich.table import Table

from repro.pipeline.claims import shown
from repro.pipeline.composition import files
from repro.pipeline.experiment import experiment
from repro.pipeline.plotting import COLUMN
from repro.pipeline.presentation.drawing import redraw_if_needed
from repro.pipeline.presentation.headline import headline
from repro.pipeline.presentation.verdicts import Verdict, tally
from repro.pipeline.store import Record, Run
from repro.pipeline.system import locks
from repro.pipeline.system.progress import clock

REFERENCE = Path("results") / "reference"
"""Where a checkout keeps the records of our own runs."""

MARKS = {"holds": "✓", "fails": "✗", "not measured": "–"}


@dataclass(frozen=True)
class Figure:
    """A figure for the page: what to look for in it, the SVG as a data URI, whether it is one column wide."""

    caption: str
    uri: str
    narrow: bool


@dataclass(frozen=True)
class Section:
    """What the page says of one experiment.

    `folder` is the record's, relative to the page; without a record there is only the command that makes it.
    """

    name: str
    title: str
    paper: str
    about: str
    command: str
    verdicts: Sequence[Verdict]
    record: Record | None
    folder: str = ""
    figures: Sequence[Figure] = ()
    numbers: Sequence[str] = ()
    facts: Mapping[str, str] | None = None


def write(runs: Sequence[Run], verdicts: Sequence[Verdict], path: Path) -> Path:
    """Write the page about each run to `path`; figures are drawn where missing."""
    sections = [_section(run, verdicts, path.parent) for run in runs]
    environment = Environment(
        loader=PackageLoader("repro.pipeline.presentation"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["formulas"] = formulas
    page = environment.get_template("report.html").render(
        sections=sections,
        verdicts=verdicts,
        marks=MARKS,
        counts=tally(verdicts),
        again=again(verdicts),
        shown=shown,
        zip=zip,
        whose=whose(runs[0].results) if runs else "no",
    )
    with locks.hold(path.with_name(f".lock-{path.name}")):
        temporary = path.with_name(f".tmp-{path.name}")
        temporary.write_text(page, encoding="utf-8")
        temporary.replace(path)
    return path


def place(runs: Sequence[Run]) -> Path:
    """Where the page about these runs goes: that of some experiments beside that of all, whose name says which."""
    names = "+".join(sorted({run.config.name for run in runs}))
    if set(files.experiments()) <= set(names.split("+")):
        return runs[0].results / "report.html"
    if len(names) > 100:
        names = f"{names[:88]}-{hashlib.sha256(names.encode()).hexdigest()[:8]}"
    return runs[0].results / f"report-{names}.html"


def again(verdicts: Sequence[Verdict]) -> str:
    """What the tally leaves out, in words."""
    count = sum(bool(v.shared) for v in verdicts)
    return f"; {count} more on the same networks as another, counted there" if count else ""


_SUBSCRIPT = re.compile(r"(?<=[\w‖])_(?:\{([^}]*)\}|(\([a-z]\)|[A-Za-z0-9*])(?![a-z0-9]))")


def formulas(text: str) -> Markup:
    """Text for the page, with subscripts as such: ‖U_iV_iᵀX‖, ‖A‖_(r), W_{L+1}; names like block_size stay."""
    return Markup(_SUBSCRIPT.sub(r"<sub>\1\2</sub>", str(escape(text))))


def whose(results: Path) -> str:
    """Whose records a results folder holds, in words."""
    return "reference" if REFERENCE.name in results.parts else "your"


def _section(run: Run, verdicts: Sequence[Verdict], page_folder: Path) -> Section:
    config, shows, record = run.config, experiment(run.config), run.record()
    mine = [v for v in verdicts if v.experiment == config.name]
    if record is None:
        return Section(config.name, config.title, config.paper, shows.about, run.command, mine, None)
    if config.figures:
        redraw_if_needed(run, record)
    captions = shows.captions
    figures = [
        _figure(file, captions.get(file.stem, file.stem.replace("_", " ")))
        for file in sorted(record.figures.glob("*.svg"), key=lambda file: _position(captions, file.stem))
    ]
    return Section(
        config.name,
        config.title,
        config.paper,
        shows.about,
        record.summary["command"],
        mine,
        record,
        Path(os.path.relpath(record.path, page_folder)).as_posix(),
        figures,
        headline(record.summary["headline"]),
        _facts(record),
    )


def _position(captions: Mapping[str, str], name: str) -> int:
    return list(captions).index(name) if name in captions else len(captions)


def _figure(file: Path, caption: str) -> Figure:
    svg = file.read_bytes()
    width = float(cast(re.Match[bytes], re.search(rb'<svg[^>]* width="([\d.]+)pt"', svg))[1])
    uri = "data:image/svg+xml," + quote(svg, safe=" =:/;,()?!*@$+[]|~")  # a sixth smaller than in base 64
    return Figure(caption, uri, narrow=width < 1.2 * 72 * COLUMN)


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
