"""Pictures with points beside them, in the layout of 300-W."""

from functools import cached_property
from pathlib import Path
from typing import Annotated, Literal, cast

from pydantic import Field, model_validator

from repro.data.content import content_of
from repro.data.settings import PointSettings
from repro.pipeline.settings import Count, implementation


class Settings(PointSettings):
    """`root`: a folder of pictures, each with its points beside it in a file of the same name: `.pts` as 300-W has
    them, or `.csv`, a row x, y a point. Folders or files that are called test (testset, …) are tested on.

    The crop is the square around a picture's points, with `margin` of its side added on each side, in grey, scaled to
    `side` × `side`. `background` is what transparent pixels are put on.
    """

    kind: Literal["landmarks"]
    root: str | None
    side: Count
    margin: Annotated[float, Field(ge=0, allow_inf_nan=False)]
    background: Literal["white", "black"]

    @cached_property
    def content(self) -> dict[str, str]:
        files = cast(list[Path], implementation(self, "used")(self))
        return {"root": content_of("data.root", Path(self.root or ""), files)}

    @model_validator(mode="after")
    def _root_is_there(self) -> "Settings":
        if self.root is None:
            raise ValueError("data.root=null: data=landmarks needs the folder of the pictures")
        return self
