"""The user's own images: folders of pictures, or parquet files."""

from typing import Literal

from pydantic import model_validator

from repro.data.settings import ImageSettings


class Settings(ImageSettings):
    """`image_folder`: a folder for each class, or train/ and test/ with a folder for each class in both.

    `parquet`: files as dataset hubs serve them, train*.parquet and test*.parquet, with image bytes and label.
    """

    kind: Literal["image_folder", "parquet"]

    @property
    def resizes(self) -> bool:
        return self.kind == "image_folder"

    @model_validator(mode="after")
    def _root_is_there(self) -> "Settings":
        if self.root is None:
            raise ValueError(f"data.root=null: data={self.kind} needs the folder of the images")
        return self
