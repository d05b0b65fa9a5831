"""The user's own images: folders of pictures, parquet files, or arrays in an npz."""

import hashlib
from functools import cached_property
from pathlib import Path
from typing import Literal

from pydantic import model_validator

from repro.data.content import content_of
from repro.data.settings import ImageSettings
from repro.pipeline.system.errors import UserError

SUFFIXES = {".png", ".jpg", ".jpeg", ".bmp", ".ppm", ".webp"}


class Settings(ImageSettings):
    """`image_folder`: a folder for each class, or train/ and test/ with a folder for each class in both.

    `parquet`: files as dataset hubs serve them, train*.parquet and test*.parquet, with image bytes and label.

    `image_arrays`: one npz with the arrays `images`, N × channels × height × width, bytes or numbers in [0, 1], and
    `labels`, N whole numbers from 0; `test_images` and `test_labels` too, where there is a test split.
    """

    kind: Literal["image_folder", "parquet", "image_arrays"]

    @property
    def resizes(self) -> bool:
        return self.kind == "image_folder"

    @cached_property
    def content(self) -> dict[str, str]:
        root = Path(self.root or "")
        if self.kind == "image_arrays":
            try:
                with root.open("rb") as opened:
                    return {"root": hashlib.file_digest(opened, "sha256").hexdigest()}
            except OSError as error:
                raise UserError(f"data.root={root}: {error.strerror or error}") from None
        if self.kind == "parquet":
            return {"root": content_of("data.root", root, root.rglob("*.parquet"))}
        splits = [root / "train", root / "test"] if (root / "train").is_dir() else [root]
        classes = [folder for split in splits for folder in split.glob("*") if folder.is_dir()]
        pictures = (file for folder in classes for file in folder.glob("*") if file.suffix.lower() in SUFFIXES)
        return {"root": content_of("data.root", root, pictures, classes)}

    @model_validator(mode="after")
    def _root_is_there(self) -> "Settings":
        if self.root is None:
            what = "npz with the arrays images and labels" if self.kind == "image_arrays" else "folder of the images"
            raise ValueError(f"data.root=null: data={self.kind} needs the {what}")
        return self
