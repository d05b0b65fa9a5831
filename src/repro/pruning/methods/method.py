"""What every way to prune a layer has in common."""

from abc import ABC, abstractmethod
from typing import TypeAlias

import torch
from jaxtyping import Float, Int
from torch import Tensor

from repro.pruning.schedule import Number, target

State: TypeAlias = dict[str, Tensor | int]


class Method(ABC):
    """Which groups of one layer are penalised how much, and which are gone.

    Before each step of training, `update` is given the scores of all groups; the gradient then gains λ_g w, and groups
    that are no longer alive are held at 0. Its whole state is `state_dict`.

    Attributes:
        target: ⌈ratio · groups⌉ groups that are to go.
        alive: those that are not removed, for good.
        penalties: λ_g, in float64; 0 of removed groups.
        updates: those made so far.

    Raises:
        ValueError: `ratio` outside (0, 1), or so large that no group would be left.
    """

    STATE: tuple[str, ...] = ("alive", "penalties", "updates")
    """Names of what changes."""

    def __init__(self, groups: int, ratio: Number) -> None:
        self.target = target(groups, ratio)
        if self.target == groups:
            raise ValueError(f"ratio={ratio} removes all {groups} groups of a layer; at least one must be left")
        self.alive = torch.ones(groups, dtype=torch.bool)
        self.penalties = torch.zeros(groups, dtype=torch.float64)
        self.updates = 0

    @property
    def removed(self) -> int:
        return int((~self.alive).sum())

    @property
    def done(self) -> bool:
        """Whether the target is reached; nothing changes from then on."""
        return self.removed >= self.target

    def update(
        self, scores: Float[Tensor, " groups"], norms: Float[Tensor, " groups"] | None = None
    ) -> Float[Tensor, " groups"]:
        """The penalties of the next step of training.

        Args:
            scores: Σ|w| of each group.
            norms: ‖w‖₂ of each group, which AFP and the group lasso need.

        Raises:
            ValueError: another number of groups, scores that are not finite, or no norms where they are needed.
        """
        scores = self._checked("scores", scores)
        if self.done:
            return self.penalties
        self.updates += 1
        self._update(scores, None if norms is None else self._checked("norms", norms))
        if self.done:
            self.penalties = torch.zeros_like(self.penalties)
        return self.penalties

    def finish(self, scores: Float[Tensor, " groups"]) -> None:
        """Removes at once what the target still lacks, lowest first: for training that ends before the method does."""
        self._remove(self.order(self._checked("scores", scores))[: self.target - self.removed])
        self.penalties = torch.zeros_like(self.penalties)

    def order(self, scores: Float[Tensor, " groups"]) -> Int[Tensor, " alive"]:
        """The groups alive, those first that go first."""
        return self._lowest(scores)

    @abstractmethod
    def _update(self, scores: Tensor, norms: Tensor | None) -> None: ...

    def _lowest(self, scores: Tensor) -> Tensor:
        """The groups alive by rising score; equal ones in their own order."""
        groups = self.alive.nonzero()[:, 0]
        return groups[scores[groups].argsort(stable=True)]

    def _remove(self, groups: Tensor) -> None:
        self.alive[groups] = False
        self.penalties[groups] = 0

    def _checked(self, name: str, values: Tensor) -> Tensor:
        if values.shape != self.alive.shape:
            raise ValueError(f"{name} must have shape {tuple(self.alive.shape)}, got {tuple(values.shape)}")
        values = values.detach().to("cpu", torch.float64)
        if not values.isfinite().all():
            raise ValueError(f"{name} must be finite: training has diverged")
        return values

    def state_dict(self) -> State:
        found = {name: getattr(self, name) for name in self.STATE}
        return {name: value.clone() if isinstance(value, Tensor) else value for name, value in found.items()}

    def load_state_dict(self, state: State) -> None:
        """Goes on from a state of the same method on as many groups.

        Raises:
            ValueError: it is of another one.
        """
        if set(state) != set(self.STATE):
            raise ValueError(f"a state of {type(self).__name__} has {sorted(self.STATE)}, got {sorted(state)}")
        for name, value in state.items():
            mine = getattr(self, name)
            if isinstance(mine, Tensor):
                if not isinstance(value, Tensor) or value.shape != mine.shape:
                    raise ValueError(f"{name} of the state must have shape {tuple(mine.shape)}")
                value = value.detach().to("cpu", mine.dtype).clone()
            setattr(self, name, value)
