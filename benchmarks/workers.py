"""Independent runs on two local workers beside one, at one thread each.

    python benchmarks/workers.py

Four runs of `rank_collapse` at smoke scale with 16,000 steps, some ten seconds each, through `scripts/run.py -m`, from
the command to the last record and its figures, W&B disabled. Starting Python and importing PyTorch is part of it, for
every worker: three seconds that do not get less with more of them, so that shorter sweeps gain less.
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
    "training.steps=16000",
    "tracking.mode=disabled",
]
RUNS, TARGET = 4, 1.7


def runs(workers: int) -> None:
    with tempfile.TemporaryDirectory() as results:
        spread = ["hydra/launcher=joblib", f"hydra.launcher.workers={workers}"]
        seeds = "seed=" + ",".join(map(str, range(RUNS)))
        command = [sys.executable, RUN, *COMMAND, seeds, "tracking.mode=disabled", f"results={results}", *spread]
        subprocess.run(command, check=True, capture_output=True, env=os.environ | {"OMP_NUM_THREADS": "1"})
        assert len(list(Path(results).glob("runs/rank_collapse/*/summary.json"))) == RUNS


def main() -> None:
    work = {"two workers": lambda: runs(2), "one worker": lambda: runs(1)}
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
