"""make chaos: reproduce-all by two runners at once, killed (SIGKILL) over and over, its files damaged in between.

At the end of every round the records must be those of a run that nobody disturbed, byte for byte but for times:
none lost, none double, nothing temporary left, and every record that was set aside is a damaged one.

    python tests/chaos/chaos.py [--kills 120] [--seed 0] [--experiments NAME,NAME] [--pace 0.6]
"""

import argparse
import json
import multiprocessing
import os
import random
import signal
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from repro.pipeline import cli
from repro.pipeline.composition import conf
from repro.pipeline.execution import commands
from repro.pipeline.store import Record
from repro.pipeline.store.integrity import CHECKSUMS, damage

CONF = Path(__file__).parent / "conf"
SMALL = ("chaos_collapse", "chaos_objective", "chaos_networks")
FULL = (*conf.experiments(), *SMALL, "chaos_side_by_side")
RUNNERS = 2
BETWEEN_KILLS = 0.6  # on average, in units of what one undisturbed run takes here and now: some end, most do not
BOTH = 0.35  # so many kills hit both runners at once, and are followed by damage to a file
PATIENCE_S = 1200  # for runners that are left alone
VOLATILE = ("durations", "finished", "command", "environment", "code")  # what two equal runs may differ in

# Runners are forked from a server that has imported what they need: else most kills would hit an import.
runner_processes = multiprocessing.get_context("forkserver")
PRELOAD = [
    *(
        "repro.pipeline.execution.reproduce",
        "repro.pipeline.execution.making",
        "repro.papers.structured_dropout.networks",
    ),
    *("repro.training.sweep.engine", "torch"),
]


@dataclass
class Tally:
    """What was done and seen."""

    kills: int = 0
    at: Counter[str] = field(default_factory=Counter)
    damaged: Counter[str] = field(default_factory=Counter)
    rounds: int = 0
    set_aside: int = 0
    compared: int = 0


def run(log: Path, arguments: list[str]) -> None:
    """A runner, in its own process."""
    with log.open("ab", buffering=0) as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
    sys.exit(cli.over_all(commands.reproduce_all, "", arguments))


def chaos(experiments: tuple[str, ...], folder: Path, kills: int, seed: int, pace: float = BETWEEN_KILLS) -> Tally:
    """Rounds in `folder` until `kills` runners have been killed.

    Raises:
        AssertionError: a runner that failed by itself, or a round that did not end as an undisturbed run does.
    """
    chance, tally = random.Random(seed), Tally()
    runner_processes.set_forkserver_preload(PRELOAD)
    common = ["--config-dir", str(CONF), f"experiment={','.join(experiments)}", "scale=smoke", "tracking.mode=disabled"]

    def start(results: Path) -> Any:
        process = runner_processes.Process(
            target=run, args=(results.with_suffix(".log"), [*common, f"results={results}"])
        )
        process.start()
        return process

    clean = folder / "clean"
    started = time.monotonic()
    finish([start(clean)], clean)
    between = pace * (time.monotonic() - started) / len(experiments)
    while tally.kills < kills:
        tally.rounds += 1
        results = folder / f"round{tally.rounds}"
        runners = [start(results) for _ in range(RUNNERS)]
        while tally.kills < kills and all(process.exitcode is None for process in runners):
            time.sleep(chance.expovariate(1 / between))
            both = chance.random() < BOTH
            for number in range(RUNNERS) if both else [chance.randrange(RUNNERS)]:
                if runners[number].exitcode is None:
                    os.kill(runners[number].pid, signal.SIGKILL)
                    tally.kills += 1
                runners[number].join()
            dead = all(process.exitcode is not None for process in runners)
            if dead:
                tally.at[stage(results)] += 1
                tally.damaged.update(hurt(results, chance))
            runners = [start(results) if process.exitcode == -signal.SIGKILL else process for process in runners]
        finish(runners, results)
        finish([start(results)], results)  # heals what was damaged after the last look at it
        tally.set_aside += compare(results, clean)
        tally.compared += len(experiments)
        print(f"round {tally.rounds}: {tally.kills} kills, {dict(tally.damaged)}", file=sys.stderr, flush=True)
    return tally


def stage(results: Path) -> str:
    """What the dead runners were at, as far as their files tell."""
    names = {path.name for part in ("runs", "checkpoints") for path in (results / part).rglob("*")}
    for sign, what in (
        (".tmp-figures", "drawing"),
        (".tmp-", "writing"),
        (".tmp", "writing a checkpoint"),
        (".pt", "training networks"),
        (".lock-", "running"),
    ):
        if any(sign in name for name in names):
            return what
    return "between runs"


def hurt(results: Path, chance: random.Random) -> list[str]:
    """Cuts off or flips a bit of one file of a record or of a checkpoint."""
    stored = [path for path in results.glob("runs/*/[!.]*/*") if path.is_file()]
    trained = [path for path in results.glob("checkpoints/*/*") if path.suffix in (".pt", ".previous")]
    # as often the one as the other, whatever there is more of
    groups = [(kind, paths) for kind, paths in (("record", stored), ("checkpoint", trained)) if paths]
    if not groups:
        return []
    kind, paths = chance.choice(groups)
    path = chance.choice(sorted(paths))
    content = bytearray(path.read_bytes())
    if not content:
        return []
    place = chance.randrange(len(content))
    if chance.random() < 0.5:
        path.write_bytes(content[:place])
        return [f"{kind} truncated"]
    content[place] ^= 1 << chance.randrange(8)
    path.write_bytes(content)
    return [f"{kind} flipped"]


def finish(runners: list[Any], results: Path) -> None:
    """Waits for runners that nobody kills any more; all must succeed."""
    for process in runners:
        process.join(PATIENCE_S)
        log = results.with_suffix(".log").read_text(errors="replace")
        assert process.exitcode == 0, f"a runner ended with {process.exitcode}:\n{log[-5000:]}"


def compare(results: Path, clean: Path) -> int:
    """Checks that `results` ended as `clean` did, and returns how many records were set aside."""
    expected = {path.relative_to(clean) for path in clean.rglob("*") if path.is_file()}
    found = {path.relative_to(results) for path in results.rglob("*") if path.is_file()}
    aside = {path for path in found if path.parts[0] == "damaged"}
    assert found - aside == expected, f"lost {expected - found}, left behind {found - aside - expected}"
    assert not (results / "checkpoints").exists()
    for path in sorted(expected):
        if path.name not in ("config.yaml", "summary.json", CHECKSUMS) and path.suffix != ".html":  # they hold times
            assert (results / path).read_bytes() == (clean / path).read_bytes(), f"{results / path} differs"
    for path in clean.glob("runs/*/*"):
        record = Record(results / path.relative_to(clean))
        assert damage(record.path) is None, record.path
        assert record.config | {"results": ""} == Record(path).config | {"results": ""}, record.path
        assert settled(record) == settled(Record(path)), record.path
    folders = [path for path in results.glob("damaged/*/*")]
    for path in folders:
        assert damage(path), f"{path} was set aside and is whole"
    return len(folders)


def settled(record: Record) -> dict[str, Any]:
    """A record's summary without what two equal runs may differ in."""
    return {key: value for key, value in record.summary.items() if key not in VOLATILE}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--kills", type=int, default=120)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--experiments", default=",".join(FULL))
    parser.add_argument("--pace", type=float, default=BETWEEN_KILLS, help="seconds between kills, in units of a run's")
    options = parser.parse_args()
    started = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        tally = chaos(tuple(options.experiments.split(",")), Path(folder), options.kills, options.seed, options.pace)
    print(f"{tally.kills} SIGKILLs in {tally.rounds} rounds of {RUNNERS} runners, {time.monotonic() - started:.0f} s")
    print(f"both dead while: {json.dumps(tally.at)}")
    print(f"damage done: {json.dumps(tally.damaged)}; records set aside: {tally.set_aside}")
    print(f"{tally.compared} records compared with those of an undisturbed run: all equal, nothing else left")


if __name__ == "__main__":
    main()
