"""One run's place in a results folder, and who may write there."""

import contextlib
import shutil
import sys
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import count
from pathlib import Path

from repro.pipeline.store.identity import fingerprint
from repro.pipeline.store.integrity import damage
from repro.pipeline.system import locks

SETTLE_S = 10  # far longer than a writer takes between its two renames
# A record may be replaced several times while one looks for it, and each look fall between two renames.
LOOKS = 5


@dataclass(frozen=True)
class Place:
    """`results/runs/<name>/<fingerprint>/`, and what belongs to it elsewhere in the results folder."""

    results: Path
    name: str
    fingerprint: str

    @classmethod
    def of(cls, results: str | Path, config: Mapping[str, object]) -> "Place":
        """The place of what a configuration asks for."""
        return cls(Path(results), str(config["name"]), fingerprint(config))

    @classmethod
    def at(cls, path: Path) -> "Place":
        """The place whose folder is `path`."""
        return cls(path.parents[2], path.parent.name, path.name)

    @property
    def path(self) -> Path:
        return self.results / "runs" / self.name / self.fingerprint

    @property
    def checkpoints(self) -> Path:
        """Where the networks of a run under way leave their checkpoints; they belong to the run's claim."""
        return self.results / "checkpoints" / self.fingerprint

    def beside(self, what: str) -> Path:
        """`.tmp-…`, where a record is written, or `.old-…`, where one waits while it is replaced."""
        return self.path.with_name(f".{what}-{self.fingerprint}")

    def intact(self) -> bool:
        """Whether a record is there, and not damaged."""
        for _ in range(LOOKS):
            self.settle()
            if self.path.exists() and damage(self.path) is None:
                return True
        return False

    @contextlib.contextmanager
    def claim(self, *, wait: bool = True) -> Iterator[None]:
        """Makes this process the only one that computes and writes the run, until the block or the process ends.

        What crashed owners left is cleared up, and a damaged record moves to `results/damaged/`, with a line that says
        so. A process may claim what it has claimed already. Raises `locks.Taken` where another process has the claim
        and `wait` is false, an OSError where `results` cannot be written.
        """
        with locks.hold(self.beside("lock"), wait=wait) as alone:
            if alone:
                self._clear_up()
            yield

    def settle(self) -> None:
        """Waits while the record is being replaced, or undoes a replacement that crashed half-way."""
        until = time.monotonic() + SETTLE_S
        while not self.path.exists() and self.beside("old").exists() and time.monotonic() < until:
            try:
                with self.claim(wait=False):
                    pass
            except locks.Taken:
                time.sleep(0.01)  # the writer is between its two renames
            except OSError:
                return  # a folder that may only be read has no writer to wait for

    def _clear_up(self) -> None:
        """Only for the holder of the claim, to whom every leftover is stale."""
        if self.beside("old").exists() and not self.path.exists():
            self.beside("old").rename(self.path)
        for leftover in (self.beside("old"), self.beside("tmp")):
            shutil.rmtree(leftover, ignore_errors=True)
        if self.path.exists() and (why := damage(self.path)):
            folder = self.results / "damaged" / self.name
            folder.mkdir(parents=True, exist_ok=True)
            free = next(p for n in count(1) if not (p := folder / f"{self.fingerprint}-{n}").exists())
            self.path.rename(free)
            print(f"warning: damaged record {self.path}: {why}; moved to {free}", file=sys.stderr, flush=True)


def places(experiment: Path) -> list[Place]:
    """The places of all records in `results/runs/<experiment>`, by fingerprint, damaged ones as well."""
    for aside in experiment.glob(".old-*"):
        Place.at(aside.with_name(aside.name.removeprefix(".old-"))).settle()
    return [Place.at(path) for path in sorted(experiment.glob("[!.]*")) if path.is_dir()]
