"""Pictures with points beside them, in the layout of 300-W."""

from typing import Annotated, Literal

from pydantic import Field

from repro.data.folder import Folder
from repro.data.settings import PointSettings
from repro.pipeline.settings import Count


class Settings(Folder, PointSettings):
    """`root`: a folder of pictures, each with its points beside it in a file of the same name: `.pts` as 300-W has
    them, or `.csv`, a row x, y a point. Folders or files that are called test (testset, …) are tested on.

    The crop is the square around a picture's points, with `margin` of its side added on each side, in grey, scaled to
    `side` × `side`.
    """

    kind: Literal["landmarks"]
    side: Count
    margin: Annotated[float, Field(ge=0, allow_inf_nan=False)]
