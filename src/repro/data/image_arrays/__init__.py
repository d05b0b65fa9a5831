"""The user's own images as arrays, in one npz."""

import hashlib
from functools import cached_property
from typing import Literal

from pydantic import model_validator

from repro.data.settings import ImageSettings
from repro.pipeline.system.errors import UserError


class Settings(ImageSettings):
    """The file `root` has the arrays `images`, N × channels × height × width, bytes or numbers in [0, 1], and `labels`,
    N whole numbers from 0; `test_images` and `test_labels` too, where there is a test split."""

    kind: Literal["image_arrays"]

    @cached_property
    def content(self) -> dict[str, str]:
        try:
            with open(self.root or "", "rb") as opened:
                return {"root": hashlib.file_digest(opened, "sha256").hexdigest()}
        except OSError as error:
            raise UserError(f"data.root={self.root}: {error.strerror or error}") from None

    @model_validator(mode="after")
    def _root_is_there(self) -> "Settings":
        if self.root is None:
            raise ValueError("data.root=null: data=image_arrays needs the npz with the arrays images and labels")
        return self
