"""python scripts/gpu.py [--minutes 25] [key=value ...]

What a GPU is for, in order of importance and within so many minutes: the tests that need one, the CUDA benchmarks that
are not in results/bench yet, and every experiment at scale=gpu, each for a quarter of what is left at most. What has
not ended goes on with the next call where it was, as everything here does. At its end the records and figures are in
results/reference/gpu and, with the benchmarks' numbers, in results/gpu.tar.gz.
"""

import argparse
import json
import subprocess
import sys
import tarfile
import time
from collections.abc import Sequence
from pathlib import Path

from repro.pipeline import cli
from repro.pipeline.composition import conf, files
from repro.pipeline.execution.commands import plan
from repro.pipeline.system.errors import UserError

BENCHMARKS = ("network_training", "gpu", "dropblock")
FIRST = (
    *("rank_collapse", "last_layer_dropout", "dropblock_objective", "global_minimum", "incremental_pruning_convnet"),
    *("last_layer_embedding", "variational_classification", "structured_output_landmarks", "deep_linear_collapse"),
)
SHARE = 4  # an experiment may take this part of the time that is left
KILL_S = 20  # which a run that is told to end has for it


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=25.0)
    parser.add_argument("overrides", nargs="*", metavar="key=value")
    arguments = parser.parse_args()
    if not conf.cuda_is_usable():
        raise UserError("make gpu: no usable NVIDIA GPU here; make reproduce-all needs none")
    if not arguments.minutes > 0:
        raise UserError(f"--minutes {arguments.minutes:g}: must be positive")
    if other := next((text for text in arguments.overrides if text.startswith("scale=")), None):
        raise UserError(f"{other}: this is for scale=gpu; make reproduce-all SCALE=... runs others")
    chosen = ["scale=gpu", *arguments.overrides]
    plan(chosen)  # says what is wrong with them before anything runs
    end, ended = time.monotonic() + 60 * arguments.minutes, []
    for name, command in steps(Path("results"), arguments.overrides):
        left = end - time.monotonic()
        if left <= 0:
            ended.append((name, "no time left"))
            continue
        ended.append((name, run(command, left / SHARE if name.startswith("experiment") else left)))
    subprocess.run([sys.executable, "scripts/reference.py", *chosen], check=False)
    pack(Path("results"))
    print("\n".join(f"{name:<48}{how}" for name, how in ended))
    return 0 if all(how == "done" for _, how in ended) else 1


def steps(results: Path, overrides: Sequence[str] = ()) -> list[tuple[str, list[str]]]:
    """What is done, in order: its name and its command."""
    benchmarks = [name for name in BENCHMARKS if not on_gpu(results / "bench" / f"{name}.json")]
    every = sorted(files.experiments(), key=lambda name: (name not in FIRST, FIRST.index(name) if name in FIRST else 0))
    return [
        ("tests", ["-m", "pytest", "-m", "gpu"]),
        *((f"benchmark {name}", [f"benchmarks/{name}.py"]) for name in benchmarks),
        *((f"experiment {name}", ["scripts/run.py", f"experiment={name}", "scale=gpu", *overrides]) for name in every),
    ]


def on_gpu(path: Path) -> bool:
    """Whether a benchmark's numbers are there, of a machine with a GPU."""
    return path.exists() and bool(json.loads(path.read_text(encoding="utf-8"))["environment"]["gpu"])


def run(command: Sequence[str], seconds: float) -> str:
    """How a command of Python's ended that had so many seconds."""
    print(f"== {' '.join(command)}", flush=True)
    begun = time.monotonic()
    process = subprocess.Popen([sys.executable, *command])
    try:
        code = process.wait(seconds)
    except subprocess.TimeoutExpired:
        process.terminate()
        try:
            process.wait(KILL_S)
        except subprocess.TimeoutExpired:
            process.kill()
        return f"stopped after {seconds:.0f} s, the next call goes on"
    return "done" if code == 0 else f"exit code {code} after {time.monotonic() - begun:.0f} s"


def pack(results: Path) -> None:
    """results/gpu.tar.gz: the records, their figures, and the benchmarks' numbers."""
    with tarfile.open(results / "gpu.tar.gz", "w:gz") as archive:
        for folder in (results / "reference" / "gpu", results / "bench"):
            if folder.is_dir():
                archive.add(folder, folder.relative_to(results))
    print(f"{results / 'gpu.tar.gz'}")


if __name__ == "__main__":
    sys.exit(cli.guarded(main))
