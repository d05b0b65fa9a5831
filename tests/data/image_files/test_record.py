"""What was read is printed before anything trains, and stands in the record."""

import pytest

from repro.pipeline import settings
from repro.pipeline.execution import runner
from repro.pipeline.store import Run

SMALL = [
    *("scale=smoke", "device=cpu", "tracking.mode=disabled", "figures=false", "data=image_folder", "data.image_size=8"),
    *("data.subset=null", "data.imbalance=1", "data.crop_padding=0", "training.batch_size=8", "training.processes=1"),
    *("training.masks_per_step=1", "training.batch_norm=running"),
]
GRIDS = {
    "last_layer_dropout": ["seed=0", "options.monte_carlo_masks=64"],
    "dropblock_approximation": ["seed=[0,1]", "options.places=[features]"],
}


@pytest.mark.parametrize("experiment", GRIDS)
def test_record(experiment, pictures, tmp_path, capfd):
    for split in ("train", "val"):
        pictures(*(f"files/{split}/{name}/{n}.png" for name in ("2", "10") for n in range(4)))
    typed = [f"experiment={experiment}", *SMALL, *GRIDS[experiment], f"data.root={tmp_path}/files"]
    record = runner.execute(Run(settings.load([*typed, f"results={tmp_path}/results"]))).record
    assert record.summary["data"] == {
        "splits": {
            "train": {"use": "trained on", "files": {"train": 8}},
            "validation": {"use": "tested on", "files": {"val": 8}},
        },
        "classes": [{"name": "2", "train": 4, "validation": 4}, {"name": "10", "train": 4, "validation": 4}],
        "not_in_test": [],
        "conversions": {},
        "not_read": {},
        "trained_on": 8,
        "tested_on": 8,
    }
    said = capfd.readouterr().err
    told = f"data.root={tmp_path}/files: read as image_folder\n  train: 8 images in train, trained on\n"
    assert said.count(told) == 1
    assert said.index(told) < said.index("networks, images")
