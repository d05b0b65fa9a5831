"""python scripts/reference.py [experiment=NAME] [key=value ...]

Takes the records of results/ and their figures into results/reference/SCALE, where there is none of the same code, with
the overrides that they were made with, such as scale=gpu. Never trains.
"""

import sys

from repro.pipeline import cli
from repro.pipeline.presentation import reference

if __name__ == "__main__":
    sys.exit(cli.over_all(reference.take, __doc__))
