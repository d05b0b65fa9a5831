"""Splits without a common instance, what is known alone, and generated rings."""

import numpy as np
import pytest
import torch

from repro.data import pairs
from repro.data.digit_halves.load import digits
from repro.data.half_digits import Settings as Halves
from repro.data.rings import Settings as Rings
from repro.pipeline.system.errors import UserError

SHARED = {"held_out": 0.2, "validation": 0.1, "seed": 0}


def rings(**changes):
    return pairs.load(Rings(**{"kind": "rings", "samples": 100, "side": 16, "noise": 0.1} | SHARED | changes))


def rows(part):
    return {bytes(np.ascontiguousarray(row)) for row in torch.cat(part[:2], 1).numpy()}


def test_no_instance_is_in_two_sets():
    data = rings()
    sets = [rows(part) for part in (data.train, data.validation, data.test)]
    assert [len(some) for some in sets] == [72, 8, 20]
    assert len(set.union(*sets)) == 100


def test_what_is_known_alone_is_of_no_pair_and_never_both_sides_of_one():
    data = rings()
    known = data.choose(20, torch.Generator().manual_seed(3))
    parts = [set(part.tolist()) for part in (known.pairs, known.inputs, known.outputs)]
    assert [len(part) for part in parts] == [20, 26, 26]
    assert set.union(*parts) == set(range(72))
    every = data.choose(72, torch.Generator().manual_seed(3))
    assert (len(every.pairs), len(every.inputs), len(every.outputs)) == (72, 0, 0)
    other = data.choose(20, torch.Generator().manual_seed(4))
    assert not torch.equal(known.pairs, other.pairs)


def test_halves_are_halves():
    data = pairs.load(Halves(kind="half_digits", source="mnist5k", root=None, **SHARED))
    assert data.shape == (14, 28)
    whole = {bytes(image.numpy()) for image in digits("mnist5k", None)}
    for part in (data.train, data.validation, data.test):
        images = (torch.cat(part[:2], 1) * 255).round().byte()
        assert {bytes(image.numpy()) for image in images} <= whole
    assert len(data.train.inputs) + len(data.validation.inputs) + len(data.test.inputs) == 5000


def test_rings_are_rings():
    data = rings(noise=0.0, samples=400)
    masks = data.train.outputs.view(-1, 16, 16)
    assert set(masks.unique().tolist()) == {0.0, 1.0}
    share = masks.mean((1, 2))
    assert 0.03 < float(share.min()) < float(share.max()) < 0.6
    assert float(masks[:, [0, 0, -1, -1], [0, -1, 0, -1]].sum()) == 0  # corners are outside
    inputs = data.train.inputs
    assert 0 <= float(inputs.min()) < float(inputs.max()) <= 1
    torch.testing.assert_close(rings().train.inputs, rings().train.inputs, atol=0, rtol=0)
    assert not torch.equal(rings().train.inputs[:5], rings(seed=1).train.inputs[:5])


def test_too_few_instances_are_told():
    with pytest.raises(UserError, match="data: 2 instances leave none for the test set"):
        rings(samples=2)
