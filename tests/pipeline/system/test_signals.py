"""Ctrl-C and SIGTERM: one line, the exit code that shells know, at once, no child and no temporary left."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from repro.pipeline.system import signals

ROOT = Path(__file__).parents[3]
FOLDERS = os.pathsep.join([str(ROOT / "tests" / "fixtures"), os.environ.get("PYTHONPATH", "")])
TINY = ["--config-dir", str(ROOT / "tests" / "fixtures" / "conf"), "experiment=tiny", "scale=smoke"]
LIMIT_S = 10  # two on a machine that is not busy; without the watch a minute
CODES = [(signal.SIGINT, 130), (signal.SIGTERM, 143)]


def started(cwd, *command, until):
    """A process group of its own, as a terminal's, once it has printed `until`."""
    process = subprocess.Popen(
        [sys.executable, *command], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, cwd=cwd,
        env=os.environ | {"PYTHONPATH": FOLDERS, "PYTHONUNBUFFERED": "1"}, start_new_session=True,
    )  # fmt: skip
    for line in process.stdout:
        if until in line:
            return process
    raise AssertionError(f"it ended with {process.wait()}")


def stopped(process, number, *, everyone):
    begin = time.monotonic()
    (os.killpg if everyone else os.kill)(process.pid, number)
    printed = process.communicate(timeout=30)[0]
    return process.returncode, printed, time.monotonic() - begin


def alive_in_group(group):
    """Processes of the group that are not zombies."""
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = stat.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if int(fields[2]) == group and fields[0] != "Z":
            found.append(stat.parent.name)
    return found


@pytest.mark.parametrize(("number", "code"), CODES)
def test_a_run_that_is_stopped(tmp_path, number, code):
    process = started(tmp_path, str(ROOT / "scripts/run.py"), *TINY, "options.seconds=60", until="tiny:")
    returned, printed, seconds = stopped(process, number, everyone=number == signal.SIGINT)
    assert returned == code
    assert printed.strip() == signals.LINE
    assert seconds < LIMIT_S
    assert list(tmp_path.iterdir()) == []


BUSY = """
import sys, threading, time
from repro.pipeline import cli

def work():
    pool = threading.Thread(target=time.sleep, args=(60,))
    pool.start()            # Python waits for it at its end
    print("at work", flush=True)
    {busy}

sys.exit(cli.guarded(work))
"""


@pytest.mark.parametrize(
    "busy",
    [
        "pool.join()",
        "import ctypes; ctypes.CDLL(None).sleep(60)",  # in a library, where Python's handlers do not run
        "\n    while True:\n        try: time.sleep(60)\n        except BaseException: pass",
    ],
    ids=["waiting", "in a library", "deaf"],
)
@pytest.mark.parametrize(("number", "code"), CODES)
def test_whatever_the_program_is_at(tmp_path, busy, number, code):
    process = started(tmp_path, "-c", BUSY.format(busy=busy), until="at work")
    returned, printed, seconds = stopped(process, number, everyone=False)
    assert returned == code
    assert printed.strip() == signals.LINE
    assert seconds < LIMIT_S


def test_networks_in_processes_of_their_own_end_with_their_parent(tmp_path):
    deep = ["experiment=last_layer_dropout", "scale=smoke", "tracking.mode=disabled", "training.processes=2"]
    long = ["training.epochs=500", "training.learning_rate=0.01"]
    process = started(tmp_path, str(ROOT / "scripts/run.py"), *deep, *long, until="networks, images")
    checkpoints = tmp_path / "results" / "checkpoints"
    until = time.monotonic() + 90
    while len(list(checkpoints.glob("*/*.pt"))) < 2:
        assert time.monotonic() < until, "no network has ended an epoch"
        time.sleep(0.1)
    assert len(alive_in_group(process.pid)) >= 3
    returned, printed, seconds = stopped(process, signal.SIGINT, everyone=True)
    assert returned == 130
    assert printed.strip().splitlines()[-1] == signals.LINE
    assert "Traceback" not in printed
    assert seconds < LIMIT_S
    until = time.monotonic() + LIMIT_S - seconds  # Python's own helpers see the end of their parent, and follow it
    while alive_in_group(process.pid) and time.monotonic() < until:
        time.sleep(0.02)
    assert alive_in_group(process.pid) == []
    assert not list(tmp_path.rglob(".lock*"))
