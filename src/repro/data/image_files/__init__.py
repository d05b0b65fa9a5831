"""The user's own images: folders of pictures, or parquet files."""

from functools import cached_property
from pathlib import Path
from typing import Literal

from pydantic import model_validator

from repro.data.content import content_of
from repro.data.settings import ImageSettings

SUFFIXES = {".png", ".jpg", ".jpeg", ".bmp", ".ppm", ".webp"}


class Settings(ImageSettings):
    """`image_folder`: a folder for each class, or train/ and test/ with a folder for each class in both.

    `parquet`: files as dataset hubs serve them, train*.parquet and test*.parquet, with image bytes and label.
    """

    kind: Literal["image_folder", "parquet"]

    @property
    def resizes(self) -> bool:
        return self.kind == "image_folder"

    @cached_property
    def content(self) -> dict[str, str]:
        root = Path(self.root or "")
        if self.kind == "parquet":
            return {"root": content_of("data.root", root, root.rglob("*.parquet"))}
        splits = [root / "train", root / "test"] if (root / "train").is_dir() else [root]
        classes = [folder for split in splits for folder in split.glob("*") if folder.is_dir()]
        pictures = (file for folder in classes for file in folder.glob("*") if file.suffix.lower() in SUFFIXES)
        return {"root": content_of("data.root", root, pictures, classes)}

    @model_validator(mode="after")
    def _root_is_there(self) -> "Settings":
        if self.root is None:
            raise ValueError(f"data.root=null: data={self.kind} needs the folder of the images")
        return self
