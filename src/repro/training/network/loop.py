"""The training loop for deep networks: SGD on the squared error under dropout of the last hidden layer.

For features G (d×B) of a batch, its targets Y (a×B) and the last layer U (a×d), masks that all samples of the batch
share enter the loss through their moments D = mean(z̃), S = mean(z̃z̃ᵀ) alone (z̃ = z/E[z], averaged over the step's
draws):

    mean ‖Y − U diag(z̃) G‖²_F = ‖Y‖² − 2⟨U diag(D), Y Gᵀ⟩ + ⟨S, UᵀU ∘ GGᵀ⟩,

so a step averages over as many masks as one likes at the price of one, and samples add up: data-parallel processes
with the same masks compute the same loss.

Every epoch draws its order, augmentation and masks from generators seeded by (seed, epoch): a run that resumes at
an epoch's start goes on with the same numbers, and nothing about generators has to be stored.
"""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import torch
from jaxtyping import Float, Int
from lightning_fabric import Fabric
from lightning_fabric.plugins.environments import LightningEnvironment, SLURMEnvironment
from lightning_fabric.strategies import DDPStrategy
from torch import Tensor, nn

from repro.data.images import Images, augmented
from repro.dropout.distribution import MaskDistribution
from repro.dropout.layers import FeatureDropout, Masked
from repro.models.normalization import synchronized
from repro.pipeline.system import distributed
from repro.pipeline.system.errors import UserError
from repro.training import checkpoint
from repro.training.network import Settings
from repro.training.network.measurement import Network
from repro.training.sweep.noise import seeded_generator

# Moments of masks are drawn for so many steps at a time, which costs little more than drawing for one.
STEPS_AHEAD = 16

# The share of the odds (1−θ)/θ under which a network with a warm-up starts: small enough for every direction to grow,
# and not 0, at which features and head would lose the scale that the penalty balances.
PENALTY_FLOOR = 0.03

Row = dict[str, float]
Measure = Callable[[int, Network], Row]
"""measure(epoch, network) with the network in evaluation mode; its numbers join the epoch's row."""


@dataclass(frozen=True)
class Task:
    """One network to train, in a form that crosses process borders.

    Attributes:
        build: makes the network, on the CPU, the same at every call.
        images: training and test set, on the CPU.
        training: the configuration of the loop.
        seed: of the order of the data, its augmentation and the masks.
        masks: of the last hidden layer; None for no dropout there.
        crop_padding: of the augmentation.
        flip: of the augmentation.
        checkpoint: file that is written every epoch and resumed from; None for none.
        code: what a checkpoint must match to be resumed from, such as a hash of the source and the configuration.
    """

    build: Callable[[], Network]
    images: Images
    training: Settings
    seed: int
    masks: MaskDistribution | None = None
    crop_padding: int = 0
    flip: bool = False
    checkpoint: Path | None = None
    code: str = ""


def fabric_of(training: Settings, device: str) -> Fabric:
    """Device, precision and processes of a configuration; `launch` spawns those that torchrun or SLURM have not."""
    already_there = distributed.started() is not None
    strategy: str | DDPStrategy = "auto"
    if training.world_size > 1 and not already_there:
        distributed.on_this_machine()
    if training.world_size > 1:
        # spawned, not launched by running the script again: the parent goes on with the record
        strategy = DDPStrategy(start_method="popen" if already_there else "spawn")
    # Fabric takes any SLURM allocation for one whose processes are there already, but for an interactive one
    here = LightningEnvironment() if not already_there else SLURMEnvironment() if distributed.by_slurm() else None
    return Fabric(
        accelerator=device,
        devices=training.devices,
        num_nodes=training.nodes,
        strategy=strategy,
        plugins=[here] if here else [],
        precision="bf16-mixed" if training.precision == "bf16" else "32-true",
    )


def check(task: Task) -> None:
    """Before anything trains: a `UserError` for batches larger than the training set, and for batches of one image of
    which one pixel is left at the end, which batch normalisation cannot train on."""
    batch, count = task.training.batch_size, len(task.images.train)
    if batch > count:
        raise UserError(f"training.batch_size={batch}: must be at most {count}, the training images")
    if batch > 1:
        return
    try:
        with torch.no_grad(), torch.random.fork_rng(devices=[]):
            task.build().train().features(task.images.normalized(task.images.train.images[:1]))
    except ValueError as error:
        if "more than 1 value" not in str(error):
            raise
        why = "the last maps of an image are one pixel, which alone cannot be normalised over the batch"
        raise UserError(f"training.batch_size=1: must be at least 2: {why}") from None


def fit(
    fabric: Fabric,
    task: Task,
    measure: Measure,
    advance: Callable[[int], object] = lambda images: None,
    tell: Callable[[Row], object] = lambda row: None,
) -> list[Row]:
    """Train `task`'s network, and return one row an epoch, 0 being the start.

    Args:
        fabric: device, precision and processes, launched.
        task: what to train.
        measure: called before the first and after every epoch, by process 0 alone.
        advance: called with the number of images done since the last call, by process 0 alone.
        tell: called with every row, those of a checkpoint as well, as soon as it is there, by process 0 alone.

    Returns:
        Rows with `epoch`, `train_loss` (mean over the epoch's batches, per sample, of the loss that was
        descended; NaN at epoch 0) and what `measure` returned. The network of the last epoch is what `measure` saw
        last. A network whose loss is no longer finite is given up at the end of that epoch: its rows end there.
    """
    training, images = task.training, task.images.to(fabric.device)
    rank, processes = fabric.global_rank, fabric.world_size
    network = task.build()
    assert isinstance(network, nn.Module)
    network = synchronized(network, processes, fabric.device.type)
    if training.channels_last:
        network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    # The head is used apart from the features: wrapping both would hide it from data-parallel training.
    wrapped = _Loss(network, task.masks, training)
    optimizer = torch.optim.SGD(
        wrapped.parameters(), lr=training.learning_rate, momentum=training.momentum, nesterov=training.momentum > 0
    )
    model, optimizer = fabric.setup(wrapped, optimizer)
    rows, first = _resume(task, wrapped, optimizer)
    masked = [module for module in wrapped.modules() if isinstance(module, Masked | _Loss)]

    count = len(images.train)
    steps = count // training.batch_size  # an epoch; the rest of the permutation sits it out
    if steps == 0:
        raise ValueError(f"batch_size must be at most {count}, the training images, got {training.batch_size}")
    share = training.batch_size // processes
    peak = training.learning_rate / _amplification(task.masks, training)
    total = training.epochs * steps
    main = rank == 0
    end = first if first and _diverged(rows) else training.epochs
    if main and first == 0:
        rows.append({"epoch": 0.0, "train_loss": math.nan} | measure(0, wrapped.network.eval()))
    for row in rows if main else ():
        tell(row)

    for epoch in range(first, end):
        wrapped.train()
        wrapped.weaken(epoch / training.epochs)
        draw = seeded_generator(f"augmentation {task.seed} {epoch}", fabric.device)
        for number, module in enumerate(masked):
            module.generator = seeded_generator(f"masks {number} {task.seed} {epoch}", fabric.device)
            module.shard = (rank, processes)
        permutation = order_of(count, task.seed, epoch).to(fabric.device)
        losses = []
        for step in range(steps):
            batch = images.train[permutation[step * training.batch_size :][: training.batch_size]]
            pixels = augmented(batch.images, task.crop_padding, task.flip, draw)
            mine = slice(rank * share, (rank + 1) * share)
            inputs = images.normalized(pixels[mine])
            if training.channels_last:
                inputs = inputs.contiguous(memory_format=torch.channels_last)
            done = epoch * steps + step
            for group in optimizer.param_groups:
                group["lr"] = peak * schedule(done / total, training.warmup, 1 / total)
            loss = model(inputs, images.targets[batch.labels[mine]])
            fabric.backward(loss)
            if training.clip_norm is not None:
                fabric.clip_gradients(model, optimizer, max_norm=training.clip_norm, error_if_nonfinite=False)
            optimizer.step()
            optimizer.zero_grad()
            losses.append(loss.detach())
            if main:
                advance(training.batch_size)
        mean_loss = fabric.all_reduce(torch.stack(losses).double().mean(), reduce_op="mean")
        assert isinstance(mean_loss, Tensor)
        row = {"epoch": epoch + 1.0, "train_loss": float(mean_loss)}
        if main:
            wrapped.eval()
            rows.append(row | measure(epoch + 1, wrapped.network))
            tell(rows[-1])
            _save(task, wrapped, optimizer, rows, epoch + 1)
        fabric.barrier()
        if not math.isfinite(row["train_loss"]):
            break
    if main and first == end:
        wrapped.eval()
        measure(first, wrapped.network)  # a finished checkpoint: measure sees the last network all the same
    return rows


def _diverged(rows: list[Row]) -> bool:
    return not math.isfinite(rows[-1]["train_loss"])


class _Loss(nn.Module):
    """The loss of a batch, per sample: what data-parallel training wraps, so that it sees every parameter used."""

    def __init__(self, network: Network, masks: MaskDistribution | None, training: Settings) -> None:
        super().__init__()
        self.network, self.masks, self.training_config = network, masks, training
        self._whole = masks
        self.generator: torch.Generator | None = None
        self._drawing_from: torch.Generator | None = None
        self._moments: Iterator[tuple[Tensor, Tensor]] = iter(())
        self.shard = (0, 1)
        quadratic = training.loss == "squared_error" and training.mask_per == "batch"
        self.moments = quadratic and masks is not None
        # The masks' generators have no place in a compiled graph, the convolutions are what there is to gain.
        self.features = torch.compile(network.features) if training.compile else network.features
        self.dropout = (
            FeatureDropout(masks, training.mask_per) if masks is not None and not quadratic else nn.Identity()
        )

    def forward(self, inputs: Float[Tensor, "N c h w"], targets: Float[Tensor, "N a"]) -> Float[Tensor, ""]:
        features = self.features(inputs)
        # The loss in float32 whatever the network's precision: it is a small difference of large numbers.
        with torch.autocast(inputs.device.type, enabled=False):
            features = features.float()
            weight, bias = self.network.head.weight, self.network.head.bias
            if self.moments:
                first, second = self._draw(features)
                left = targets if bias is None else targets - bias
                return quadratic_loss(weight, features, left, first, second) / len(targets)
            outputs = nn.functional.linear(self.dropout(features), weight, bias)
            if self.training_config.loss == "cross_entropy":
                return nn.functional.cross_entropy(outputs, targets.argmax(1))
            return (targets - outputs).square().sum() / len(targets)

    def weaken(self, done: float) -> None:
        """Go on under the masks of an epoch at whose start the fraction `done` of training is over."""
        if self._whole is not None:
            self.masks = warmed_up(self._whole, self.training_config, done)
            if isinstance(self.dropout, FeatureDropout):
                self.dropout.masks = self.masks

    def _draw(self, like: Tensor) -> tuple[Tensor, Tensor]:
        assert self.masks is not None
        assert self.generator is not None
        if self.generator is not self._drawing_from:  # a new epoch
            self._drawing_from = self.generator
            self._moments = moments(self.masks, self.training_config.masks_per_step, self.generator, like.dtype)
        return next(self._moments)


def moments(
    masks: MaskDistribution, size: int, generator: torch.Generator, dtype: torch.dtype
) -> Iterator[tuple[Float[Tensor, " d"], Float[Tensor, "d d"]]]:
    """D = mean(z̃) and S = mean(z̃z̃ᵀ) over the `size` masks of one step after another, without end."""
    while True:
        first, second = masks.sample_moments(STEPS_AHEAD, size, generator, dtype)
        yield from zip(first, second, strict=True)


def quadratic_loss(
    U: Float[Tensor, "a d"],
    features: Float[Tensor, "N d"],
    targets: Float[Tensor, "N a"],
    first: Float[Tensor, " d"],
    second: Float[Tensor, "d d"],
) -> Float[Tensor, ""]:
    """mean over masks of ‖Y − U diag(z̃) G‖²_F, from the masks' moments D = `first` and S = `second`."""
    fit = ((U * first) * (targets.mT @ features)).sum()
    return targets.square().sum() - 2 * fit + (second * (U.mT @ U) * (features.mT @ features)).sum()


def schedule(done: float, warmup: float, step: float) -> float:
    """The fraction of the peak step size after the fraction `done` of the steps: linear rise, cosine decay to 0.

    `step` is the fraction that one step is, so that the first one moves.
    """
    rise = min(1.0, (done + step) / max(step, warmup))
    return rise * 0.5 * (1 + math.cos(math.pi * done))


def warmed_up(masks: MaskDistribution, training: Settings, done: float) -> MaskDistribution:
    """The masks after the fraction `done` of training: θ' with odds (1−θ')/θ' a share of the final ones, which is
    PENALTY_FLOOR at first and 1 in the end; see `penalty_warmup` in `Settings`."""
    hold, full = training.penalty_warmup or (-1.0, 0.0)
    share = min(1.0, max(PENALTY_FLOOR, (done - hold) / (full - hold)))
    return masks if share == 1 else masks.with_retain(masks.retain / (masks.retain + share * (1 - masks.retain)))


def _amplification(masks: MaskDistribution | None, training: Settings) -> float:
    """1 + max_i C̄_ii / m: by how much m averaged masks raise the curvature that a step sees."""
    if masks is None:
        return 1.0
    return 1.0 + float(masks.relative_covariance.diagonal().max()) / training.masks_per_step


def order_of(count: int, seed: int, epoch: int) -> Int[Tensor, " N"]:
    """The order in which epoch number `epoch` (from 0) goes through the training images."""
    return torch.randperm(count, generator=seeded_generator(f"order {seed} {epoch}"))


# ---------------------------------------------------------------------- checkpoints


def _save(task: Task, module: nn.Module, optimizer: torch.optim.Optimizer, rows: list[Row], epoch: int) -> None:
    if task.checkpoint is None:
        return
    state = {"epoch": epoch, "rows": rows, "network": module.state_dict(), "optimizer": optimizer.state_dict()}
    checkpoint.save(task.checkpoint, task.code, state, _previous(task.checkpoint))


def _previous(path: Path) -> Path:
    return path.with_suffix(".previous")


def _resume(task: Task, module: nn.Module, optimizer: torch.optim.Optimizer) -> tuple[list[Row], int]:
    """Loads the last good checkpoint of the same code and configuration, if any: its rows, and the next epoch."""
    for path in (task.checkpoint, _previous(task.checkpoint)) if task.checkpoint else ():
        if (state := checkpoint.load(path, task.code)) is not None:
            module.load_state_dict(cast(dict[str, Tensor], state["network"]))
            optimizer.load_state_dict(cast(dict[str, object], state["optimizer"]))
            return cast(list[Row], state["rows"]), cast(int, state["epoch"])
    return [], 0
