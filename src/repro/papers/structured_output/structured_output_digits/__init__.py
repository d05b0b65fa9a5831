"""tmp"""
from repro.papers.structured_output.settings import Options, PictureConfig
class Config(PictureConfig):
    options: Options
CLAIMS=()
CAPTIONS={}
