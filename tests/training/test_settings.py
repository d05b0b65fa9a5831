"""Which ways of training there are, and what their settings refuse and say."""

import subprocess
import sys

import pytest

from repro.pipeline.settings import ours
from repro.training.network import Settings

NETWORK = {
    "kind": "network", "epochs": 3, "batch_size": 48, "learning_rate": 0.05, "momentum": 0.9, "warmup": 0.2,
    "clip_norm": 1.0, "loss": "squared_error", "mask_per": "batch", "masks_per_step": 8, "precision": "float32",
    "channels_last": True, "compile": False, "devices": 2, "processes": None,
}  # fmt: skip


def test_the_ways():
    kinds = ["adaptive", "network", "none", "pruning", "reweighting", "structured_output", "sweep", "variational"]
    assert list(ours("training")) == kinds
    assert (ours("training")["network"].ROUNDING, ours("training")["sweep"].ROUNDING) == (0.2, 0.01)


def test_processes_of_one_training():
    assert Settings(**NETWORK).world_size == 2
    assert Settings(**NETWORK | {"nodes": 4}).world_size == 8
    assert Settings(**NETWORK).smaller == "training.batch_size below 48"


def test_one_node_is_left_out_of_records():
    assert "nodes" not in Settings(**NETWORK).model_dump()
    assert Settings(**NETWORK | {"nodes": 2}).model_dump()["nodes"] == 2


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"mask_per": "sample"}, "training.masks_per_step=8: averages over masks only with mask_per=batch and"),
        ({"loss": "cross_entropy"}, "training.masks_per_step=8: averages over masks only"),
        ({"devices": 5}, "training.batch_size=48: must be a multiple of training.devices=5 "),
        ({"nodes": 5}, "training.batch_size=48: must be a multiple of training.devices=2 times nodes=5"),
        ({"momentum": 1.0}, r"(?s)momentum.*must lie in \[0, 1\)"),
    ],
)
def test_mistakes_are_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        Settings(**NETWORK | changes)


def test_settings_need_no_torch():
    script = "import sys; from repro.pipeline.settings import ours; ours('training'); print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout.split()
    assert "pydantic" in loaded
    assert not {"torch", "scipy"} & {*loaded}
