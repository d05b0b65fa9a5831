"""What a record was made by: code, libraries, hardware."""

import contextlib
import importlib.metadata
import os
import platform
import subprocess
import sys
from functools import cache
from pathlib import Path

PACKAGES = (
    "torch", "torchvision", "numpy", "scipy", "pandas", "pyarrow",
    "hydra-core", "pydantic", "lightning-fabric", "wandb",
)  # fmt: skip
# Those of them whose version may change the numbers of the same code.
NUMERICAL = ("torch", "torchvision", "numpy", "scipy", "lightning-fabric")
PACKAGE_ROOT = Path(__file__).resolve().parents[2]


def code_state() -> dict[str, object]:
    """Which state of the checkout it was: `commit` and `dirty`, None outside of one. See `store.code`, too."""
    commit = _git("rev-parse", "HEAD")
    # results, notes and pictures that changed do not make the code another
    changes = _git("status", "--porcelain", "--", "src", "scripts", "conf", "requirements.lock")
    dirty = None if commit is None or changes is None else bool(changes)
    return {"commit": commit, "dirty": dirty}


def _git(*arguments: str) -> str | None:
    root = PACKAGE_ROOT.parents[1]
    if not (root / ".git").exists():  # installed into some other project's checkout
        return None
    try:
        command = ["git", "-C", str(root), *arguments]
        return subprocess.run(command, capture_output=True, text=True, timeout=10, check=True).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return None


@cache
def versions() -> dict[str, str]:
    found = {}
    for package in PACKAGES:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            found[package] = importlib.metadata.version(package)
    return found


def environment() -> dict[str, object]:
    """Python, packages, platform and hardware; GPU and threads are torch's, where a run has loaded it."""
    torch = sys.modules.get("torch")
    gpu = torch is not None and torch.cuda.is_available() and torch.cuda.is_initialized()
    return {
        "python": platform.python_version(),
        "versions": versions(),
        "platform": platform.platform(),
        "cpu": _cpu(),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "gpu": torch.cuda.get_device_name() if torch is not None and gpu else None,
        "threads": torch.get_num_threads() if torch is not None else None,
    }


def _cpu() -> str:
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()
