"""DropBlock beside torchvision's and timm's: forward and backward, time and peak memory.

    python benchmarks/dropblock.py

Maps of 64×256×15×15 with blocks of 5×5 and features of 512×4096 with blocks of 8, θ = 0.9, masks for each sample and
channel; one thread on the CPU, and CUDA where there is a GPU. Both libraries' blocks overlap. The overlapping one of
ours on maps is torchvision's at an exact rate. On features timm sees maps of height 1; torchvision, which cuts the
block to the smaller side of the map, has no such DropBlock. Peak memory is what forward and backward passes add.
"""

import ctypes
import multiprocessing
import re
from collections.abc import Callable
from pathlib import Path

import torch
from timm.layers.drop import drop_block_2d as timm_drop_block
from torch import Tensor, nn
from torchvision.ops import drop_block2d as torchvision_drop_block

from repro.dropout import DropBlock, OverlappingDropBlock
from repro.dropout.layers import DropBlock2d, FeatureDropout
from repro.dropout.original_dropblock import OriginalDropBlock2d
from support.timing import ratio, save, seconds_per_call, shown, summary

MAPS, MAP_BLOCK = (64, 256, 15, 15), 5
FEATURES, FEATURE_BLOCK = (512, 4096), 8
RETAIN, SECONDS = 0.9, 6.0
MIB = 2**20
M_MMAP_THRESHOLD = -3  # in malloc.h

Layer = Callable[[Tensor], Tensor]


def seeded(module: nn.Module, device: str) -> Layer:
    module.generator = torch.Generator(device).manual_seed(0)
    return module.train()


def on_maps(device: str) -> dict[str, Layer]:
    return {
        "disjoint": seeded(DropBlock2d(MAP_BLOCK, RETAIN), device),
        "overlapping": seeded(OriginalDropBlock2d(MAP_BLOCK, RETAIN), device),  # torchvision's, at an exact rate
        "torchvision": lambda x: torchvision_drop_block(x, 1 - RETAIN, MAP_BLOCK),
        "timm": lambda x: timm_drop_block(x, 1 - RETAIN, MAP_BLOCK, couple_channels=False),
    }


def on_features(device: str) -> dict[str, Layer]:
    width = FEATURES[1]
    return {
        "disjoint": seeded(FeatureDropout(DropBlock(width, FEATURE_BLOCK, RETAIN)), device),
        "overlapping": seeded(FeatureDropout(OverlappingDropBlock(width, FEATURE_BLOCK, RETAIN)), device),
        "timm": lambda x: timm_drop_block(x[:, None, None], 1 - RETAIN, FEATURE_BLOCK)[:, 0, 0],
    }


def forward(layer: Layer, x: Tensor) -> Callable[[], object]:
    return lambda: layer(x)


def both(layer: Layer, x: Tensor) -> Callable[[], object]:
    wanted = x.clone(memory_format=torch.preserve_format).requires_grad_()
    return lambda: torch.autograd.grad(layer(wanted), wanted, x)


def memory(what: str) -> float:
    """Bytes of memory of this process, as Linux tells them."""
    return 1024.0 * int(re.search(rf"{what}:\s+(\d+)", Path("/proc/self/status").read_text())[1])


def added_memory(call: Callable[[], object], device: str) -> float:
    """Bytes that a call needs at most beyond what is there; on the CPU measured in a process of its own."""
    if device == "cuda":
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        call()
        return float(torch.cuda.max_memory_allocated() - before)

    def child(pipe) -> None:
        libc = ctypes.CDLL(None)
        libc.mallopt(M_MMAP_THRESHOLD, 2**16)  # large blocks go back to the system when freed
        libc.malloc_trim(0)
        Path("/proc/self/clear_refs").write_text("5")  # the peak is counted from here on
        before = memory("VmRSS")
        call()
        pipe.send(memory("VmHWM") - before)

    call()
    context = multiprocessing.get_context("fork")  # torch computes on one thread: there is no pool to lose
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(target=child, args=(sender,))
    process.start()
    added = receiver.recv()
    process.join()
    return added


def main() -> None:
    torch.set_num_threads(1)
    devices = ["cpu", *(["cuda"] if torch.cuda.is_available() else [])]
    if devices == ["cpu"]:
        print("no CUDA GPU here: only the CPU is measured")
    found, ratios = {}, {}
    print(
        f"{'':<22}{'':<14}{'forward, ms':>24}{'and backward, ms':>26}{'added, MiB':>12}  torchvision/ours   timm/ours"
    )
    for device in devices:
        channels_last = torch.randn(MAPS, device=device).contiguous(memory_format=torch.channels_last)
        inputs = {
            "maps": (torch.randn(MAPS, device=device), on_maps(device)),
            "maps, channels last": (channels_last, on_maps(device)),
            "features": (torch.randn(FEATURES, device=device), on_features(device)),
        }
        for what, (x, layers) in inputs.items():
            synchronized = torch.cuda.synchronize if device == "cuda" else lambda: None
            added = {name: added_memory(both(layer, x), device) for name, layer in layers.items()}
            calls = {(name, step): work(layer, x) for name, layer in layers.items() for step, work in STEPS.items()}

            def timed(call, synchronized=synchronized):
                return lambda: (call(), synchronized())

            times = seconds_per_call({key: timed(call) for key, call in calls.items()}, seconds=SECONDS)
            peers = [name for name in layers if name in ("torchvision", "timm")]
            for name in layers:
                ms = [shown(summary([1e3 * t for t in times[name, step]]), 2) for step in STEPS]
                found[f"{device}, {what}, {name}"] = {
                    "seconds": {step: summary(times[name, step]) for step in STEPS},
                    "added_bytes": added[name],
                }
                quotients = ""
                for peer in ("torchvision", "timm") if name not in peers else ():
                    if peer in peers:
                        quotient = ratio(times[peer, "forward and backward"], times[name, "forward and backward"])
                        ratios[f"{name} DropBlock, {what}, {device}: {peer}"] = quotient
                        quotients += f"{shown(quotient):>18}"
                    else:
                        quotients += f"{'-':>18}"
                row = f"{f'{device} {what}':<24}{name:<14}{ms[0]:>24}{ms[1]:>26}{added[name] / MIB:>12.0f}{quotients}"
                print(row)
    save("dropblock", found, ratios)


STEPS = {"forward": forward, "forward and backward": both}


if __name__ == "__main__":
    main()
