from pathlib import Path

from repro.data.image_files import Settings, folders, tables
from repro.data.image_files.source import Source


def used(settings: Settings) -> list[Path]:
    """The files whose content the images depend on."""
    return find(settings).files


def find(settings: Settings) -> Source:
    """What lies in the data's folder, without reading a picture."""
    return (folders if settings.kind == "image_folder" else tables).find(Path(settings.root or ""))
