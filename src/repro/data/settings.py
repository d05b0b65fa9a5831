"""What the sources of one kind of experiment share of their settings."""

from typing import Annotated, Literal

from pydantic import Field, model_validator

from repro.pipeline.settings import Count, Data, Probability, Seed


class LinearSettings(Data):
    """Inputs X and targets Y of a linear network. `whiten` makes XXᵀ a multiple of the identity."""

    whiten: bool = False


class ImageSettings(Data):
    """Labelled images. `imbalance` is ρ = largest / smallest class, a long tail in between; 1 leaves classes alone.

    `held_out` is the fraction of each class that is tested on, for sources that bring no test split of their own.
    """

    root: str | None
    download: bool
    subset: Count | None
    imbalance: Annotated[float, Field(ge=1, allow_inf_nan=False)]
    targets: Literal["one_hot", "centred"]
    held_out: Probability
    crop_padding: Annotated[int, Field(ge=0)]
    flip: bool
    image_size: Count | None
    seed: Seed

    @property
    def resizes(self) -> bool:
        """Whether the source takes `image_size`."""
        return False

    @model_validator(mode="after")
    def _size_is_taken(self) -> "ImageSettings":
        if self.image_size is not None and not self.resizes:
            raise ValueError(f"data.image_size={self.image_size}: only data=image_folder resizes its images")
        return self


class Digits(Data):
    """MNIST's digits: those that a dependency carries, or all, from torchvision's layout in `root`."""

    source: Literal["mnist5k", "mnist"]
    root: str | None

    @property
    def content(self) -> dict[str, str]:
        """The same digits wherever they lie."""
        return {"root": self.source} if self.source == "mnist" else {}


class PairSettings(Data):
    """Inputs in [0, 1] and outputs that have a structure. `held_out`: the part of the instances to test on;
    `validation`: the part of the others that only chooses the epoch and the baselines' settings; `seed`: of both."""

    held_out: Probability
    validation: Probability
    seed: Seed


class PointSettings(PairSettings):
    """The outputs are points of a picture."""


class PictureSettings(PairSettings):
    """The outputs are a picture."""
