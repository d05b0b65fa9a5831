"""The user's own images: folders of pictures, or parquet files."""

from typing import ClassVar, Literal

from repro.data.folder import Folder
from repro.data.settings import ImageSettings


class Settings(Folder, ImageSettings):
    """`image_folder`: a folder for each class, or in train/ and test/ (val/, …) a folder for each class.

    `parquet`: files as dataset hubs serve them, the split in the file's name or its folder's, with image and label.
    """

    HOLDS: ClassVar[str] = "images"

    kind: Literal["image_folder", "parquet"]

    @property
    def resizes(self) -> bool:
        return self.kind == "image_folder"
