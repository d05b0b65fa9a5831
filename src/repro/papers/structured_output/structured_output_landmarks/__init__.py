"""tmp"""
from repro.papers.structured_output.settings import Options, PointConfig
class Config(PointConfig):
    options: Options
CLAIMS=()
CAPTIONS={}
