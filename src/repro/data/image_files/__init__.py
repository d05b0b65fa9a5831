"""The user's own images: folders of pictures, or parquet files."""

from functools import cached_property
from pathlib import Path
from typing import Literal, cast

from pydantic import model_validator

from repro.data.content import content_of
from repro.data.settings import ImageSettings
from repro.pipeline.settings import implementation


class Settings(ImageSettings):
    """`image_folder`: a folder for each class, or in train/ and test/ (val/, …) a folder for each class.

    `parquet`: files as dataset hubs serve them, the split in the file's name or its folder's, with image and label.

    `background` is what transparent pixels are put on.
    """

    kind: Literal["image_folder", "parquet"]
    background: Literal["white", "black"]

    @property
    def resizes(self) -> bool:
        return self.kind == "image_folder"

    @cached_property
    def content(self) -> dict[str, str]:
        files = cast(list[Path], implementation(self, "used")(self))
        return {"root": content_of("data.root", Path(self.root or ""), files)}

    @model_validator(mode="after")
    def _root_is_there(self) -> "Settings":
        if self.root is None:
            raise ValueError(f"data.root=null: data={self.kind} needs the folder of the images")
        return self
