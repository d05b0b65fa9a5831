"""Independent runs on two local workers beside one, at one thread each, and beside one process without a launcher.

    python benchmarks/workers.py

Six runs of `rank_collapse` at smoke scale with 4,000 steps through `scripts/run.py -m`, from the command to the last
record, W&B disabled. Starting Python and importing PyTorch is part of it, for every worker.
"""

import os
import subprocess
import sys
import tempfile
from pathlib import Path

from support.timing import interleaved, ratio, save, shown, summary

RUN = Path(__file__).parents[1] / "scripts" / "run.py"
COMMAND = [
    "-m",
    "experiment=rank_collapse",
    "scale=smoke",
    "threads=1",
    "training.steps=4000",
    "tracking.mode=disabled",
]
RUNS, TARGET = 6, 1.7


def runs(*overrides: str) -> None:
    seeds = "seed=" + ",".join(map(str, range(RUNS)))
    with tempfile.TemporaryDirectory() as results:
        subprocess.run(
            [sys.executable, RUN, *COMMAND, seeds, f"results={results}", *overrides], check=True, capture_output=True,
            env=os.environ | {"OMP_NUM_THREADS": "1"},
        )  # fmt: skip
        assert len(list(Path(results).glob("runs/rank_collapse/*/summary.json"))) == RUNS


def main() -> None:
    work = {
        "two workers": lambda: runs("hydra/launcher=joblib", "hydra.launcher.workers=2"),
        "one worker": lambda: runs("hydra/launcher=joblib", "hydra.launcher.workers=1"),
        "no launcher": runs,
    }
    timings = interleaved(work, seconds=0.0, at_least=3)
    for name, timing in timings.items():
        print(f"{RUNS} runs, {name:<14}{shown(summary(timing.wall)):>22} s")
    faster = ratio(timings["one worker"].wall, timings["two workers"].wall)
    print(f"one worker / two workers: {shown(faster, 2)}, to be {TARGET}")
    others = summary([o for t in timings.values() for o in t.others])
    print(f"cores busy with other programs, ours among them: {shown(others)}")
    found = {name: {"seconds": summary(timing.wall)} for name, timing in timings.items()}
    save("workers", found, {"two workers: one worker": faster | {"target": TARGET}})


if __name__ == "__main__":
    main()
