"""The whole way at smoke scale: `reproduce_all.py` cold and cached, figures, --help, and what a run's record costs.

    python benchmarks/pipeline.py

Wall clock of the commands, from start to prompt, on two cores or more. `reproduce_all.py` cold runs once, everything
else in turn. Offline W&B costs the difference between a run with it and one without. Writing the record is timed in
this process, on the result of that same run. What is left of a run beyond its computation, whose time its record keeps,
and beyond a cached run, which is starting Python, is drawing its figures.
"""

import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from repro.pipeline.execution.making import compute
from repro.pipeline.settings import load
from repro.pipeline.store import Run
from repro.pipeline.system.progress import Progress
from support.timing import interleaved, save, shown, summary

SCRIPTS = Path(__file__).parents[1] / "scripts"
ONE = ["experiment=rank_collapse", "scale=smoke"]
LIMITS = {"run.py --help": 2.0, "a cached run": 1.5, "records and offline W&B, a run": 1.5}


def command(script: str, *arguments: str) -> None:
    done = subprocess.run([sys.executable, SCRIPTS / script, *arguments], capture_output=True, text=True)
    # reproduce_all's exit code also says whether claims hold at this scale; a traceback is a failure of ours
    assert "Traceback" not in done.stderr, done.stderr


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        results = f"results={folder}/all"
        begun = time.perf_counter()
        command("reproduce_all.py", "scale=smoke", results, "tracking.mode=disabled")
        cold = time.perf_counter() - begun
        print(f"{'reproduce_all.py, cold':<34}{cold:>8.1f} s")
        forced: list[float] = []

        def run(*arguments: str) -> None:
            command("run.py", *ONE, f"results={folder}/one", "force=true", *arguments)
            (record,) = Path(folder, "one/runs/rank_collapse").glob("*/summary.json")
            forced.append(json.loads(record.read_text())["durations"]["run"])

        work = {
            "reproduce_all.py, cached": lambda: command("reproduce_all.py", "scale=smoke", results),
            "figures.py": lambda: command("figures.py", "scale=smoke", results),
            "run.py --help": lambda: command("run.py", "--help"),
            "a cached run": lambda: command("run.py", *ONE, results),
            "a run without W&B": lambda: run("tracking.mode=disabled"),
            "a run with offline W&B": run,
        }
        one = Run(load([*ONE, f"results={folder}/here", "force=true"]))
        result = compute(one.config, Progress("", quiet=True))

        def write() -> None:
            one.write(result, {})

        timings = interleaved(work | {"the record, a run": write}, seconds=0.0, at_least=4)
        seconds = {name: timing.wall for name, timing in timings.items()}
        without, tracked = seconds["a run without W&B"], seconds["a run with offline W&B"]
        seconds["offline W&B, a run"] = [b - a for a, b in zip(without, tracked, strict=True)]
        recording = seconds["the record, a run"]
        seconds["records and offline W&B, a run"] = [
            a + b for a, b in zip(recording, seconds["offline W&B, a run"], strict=True)
        ]
        importing = summary(seconds["a cached run"])["median"]
        computing = summary(forced)["median"]
        seconds["figures, a run"] = [t - computing - importing - r for t, r in zip(without, recording, strict=True)]
        for name, values in seconds.items():
            limit = f", limit {LIMITS[name]} s" if name in LIMITS else ""
            print(f"{name:<34}{shown(summary(values), 2):>24} s{limit}")
        print(f"{'the computation itself':<34}{computing:>12.2f} s")
        found = {name: {"seconds": summary(values), "limit": LIMITS.get(name)} for name, values in seconds.items()}
        cached = [cold / t for t in seconds["reproduce_all.py, cached"]]
        save(
            "pipeline",
            found | {"reproduce_all.py, cold": cold, "computation": computing},
            {"reproduce_all.py, cached: cold": summary(cached)},
        )


if __name__ == "__main__":
    main()
