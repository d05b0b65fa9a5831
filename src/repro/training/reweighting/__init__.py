"""Linear regression under adaptive dropout, many cells at once: reweighted ridge regressions, and SGD under masks."""

from typing import ClassVar, Literal

from repro.pipeline.settings import Count, Positive, Training


class Settings(Training):
    """`iterations`, `tolerance`: of reweighting, which ends when no weight moves by more than the tolerance.

    `steps`, `masks_per_step`, `learning_rate`: of SGD under masks, whose step decays to 0 as a cosine.
    """

    BATCHED: ClassVar[bool] = True
    ON_GPU: ClassVar[bool] = False

    kind: Literal["reweighting"]
    iterations: Count
    tolerance: Positive
    steps: Count
    masks_per_step: Count
    learning_rate: Positive

    @property
    def smaller(self) -> str:
        return "fewer cells (seed, options.strengths)"
