"""What sources share that read pictures from a folder of the user's."""

from functools import cached_property
from pathlib import Path
from typing import ClassVar, Literal, cast

from pydantic import model_validator

from repro.data.content import content_of
from repro.pipeline.settings import Data, implementation


class Folder(Data):
    """`root`: the folder; `background`: what transparent pixels are put on. `HOLDS`: what a reader is asked for."""

    HOLDS: ClassVar[str] = "pictures"

    root: str | None
    background: Literal["white", "black"]

    @cached_property
    def content(self) -> dict[str, str]:
        files = cast(list[Path], implementation(self, "used")(self))
        return {"root": content_of("data.root", Path(self.root or ""), files)}

    @model_validator(mode="after")
    def _root_is_there(self) -> "Folder":
        if self.root is None:
            raise ValueError(f"data.root=null: data={self.kind} needs the folder of the {self.HOLDS}")
        return self
