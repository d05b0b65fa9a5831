"""One run: what was asked, its place in the store, its parts and checkpoints, its record."""

import contextlib
import shlex
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from repro.pipeline.settings import Config
from repro.pipeline.store.code import computed_by, together
from repro.pipeline.store.identity import NOT_IN_FINGERPRINT
from repro.pipeline.store.parts import Parts
from repro.pipeline.store.place import Place
from repro.pipeline.store.records import Record, Result
from repro.pipeline.store.writing import write

_NOT_IN_LABEL = {*NOT_IN_FINGERPRINT, "experiment", "device", "threads"} - {"scale"}


@dataclass(frozen=True)
class Run:
    """What a configuration asks for; `command` is what a reader types to have it again."""

    config: Config
    command: str = field(default="", compare=False)

    @cached_property
    def place(self) -> Place:
        return Place.of(self.config.results, self.config.plain())

    @property
    def label(self) -> str:
        """Its name for people: the experiment's, and what was typed of that which counts."""
        typed = (word.partition("=") for word in shlex.split(self.command) if "=" in word)
        counts = ("=".join((key, value)) for key, _, value in typed if key.split(".")[0] not in _NOT_IN_LABEL)
        return " ".join([self.config.name, *counts])

    @property
    def code(self) -> str:
        """A hash of the code that its numbers rest on: parts and checkpoints of other code are not gone on from."""
        return together(computed_by(self.config.plain()))

    @cached_property
    def parts(self) -> Parts:
        """Of its grid, where several processes compute it."""
        return Parts(self.place.results / "parts" / self.place.fingerprint / self.code)

    @property
    def checkpoints(self) -> Path:
        return self.place.checkpoints

    @property
    def results(self) -> Path:
        return self.place.results

    def record(self) -> Record | None:
        """The record; None where there is none, or a damaged one."""
        return Record(self.place.path) if self.place.intact() else None

    def wanted(self) -> Record | None:
        """The record, unless the run is to be made anew: as asked, or since other code has made it."""
        found = None if self.config.force else self.record()
        return None if found is not None and found.other_code and self.config.other_code == "rerun" else found

    @property
    def outdated(self) -> str:
        """A line that says that the record is of other code, if that counts; else empty."""
        record = self.record() if self.config.other_code == "rerun" and not self.config.force else None
        if record is None or not record.other_code:
            return ""
        name, why = self.config.name, record.note
        return f"{name}: runs anew, the record {record.path} is of {why}; other_code=accept takes it as it is"

    def claim(self, *, wait: bool = True) -> contextlib.AbstractContextManager[None]:
        """See `Place.claim`."""
        return self.place.claim(wait=wait)

    def write(self, result: Result, durations: Mapping[str, float]) -> Record:
        """Leaves the record of `result`."""
        plain, force = self.config.plain(), self.config.force
        return write(self.place, plain, result, command=self.command, durations=durations, force=force)

    def leftovers(self) -> list[Path]:
        """What is there of the run beside its record."""
        beside = self.place.path.parent.glob(f".*-{self.place.fingerprint}")
        return [path for path in (*beside, self.checkpoints, self.parts.folder) if path.exists()]

    def clear(self) -> None:
        """Removes the checkpoints and parts of a run that is recorded."""
        for folder in (self.checkpoints, self.parts.folder.parent):
            shutil.rmtree(folder, ignore_errors=True)
            with contextlib.suppress(OSError):
                folder.parent.rmdir()  # the last one's
