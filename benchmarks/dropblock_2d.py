"""Disjoint 2-D DropBlock of ours beside torchvision's DropBlock2d, forward and backward, on 64×256×15×15, block 5.

    python benchmarks/dropblock_2d.py

The best of several calls, milliseconds; on the CPU with one thread, and on CUDA where there is a GPU.
"""

import time
from collections.abc import Callable

import torch
from torch import Tensor, nn
from torchvision.ops import DropBlock2d

from repro.dropout.layers import DisjointDropBlock2d

SHAPE, BLOCK, RETAIN, CALLS = (64, 256, 15, 15), 5, 0.9, 10


def best(work: Callable[[], object], device: str) -> float:
    """Milliseconds of the fastest of `CALLS` calls after a first one."""
    times = []
    for _ in range(CALLS + 1):
        if device == "cuda":
            torch.cuda.synchronize()
        start = time.perf_counter()
        work()
        if device == "cuda":
            torch.cuda.synchronize()
        times.append(time.perf_counter() - start)
    return 1e3 * min(times[1:])


def steps(module: nn.Module, maps: Tensor) -> dict[str, Callable[[], object]]:
    wanted = maps.clone(memory_format=torch.preserve_format).requires_grad_()
    return {
        "forward": lambda: module(maps),
        "forward and backward": lambda: torch.autograd.grad(module(wanted), wanted, maps),
    }


def main() -> None:
    torch.set_num_threads(1)
    devices = ["cpu", *(["cuda"] if torch.cuda.is_available() else [])]
    if devices == ["cpu"]:
        print("no CUDA GPU here: only the CPU is measured")
    print(f"{'':44}{'torchvision':>12}{'ours':>10}{'ratio':>8}")
    for device in devices:
        ours = DisjointDropBlock2d(BLOCK, RETAIN)
        ours.generator = torch.Generator(device).manual_seed(0)
        theirs = DropBlock2d(1 - RETAIN, BLOCK)
        for memory_format in (torch.contiguous_format, torch.channels_last):
            maps = torch.randn(SHAPE, device=device).contiguous(memory_format=memory_format)
            for what, reference in steps(theirs, maps).items():
                slow, fast = best(reference, device), best(steps(ours, maps)[what], device)
                name = f"{device} {str(memory_format).removeprefix('torch.')} {what}"
                print(f"{name:<46}{slow:>10.2f}{fast:>10.2f}{slow / fast:>7.1f}×")


if __name__ == "__main__":
    main()
