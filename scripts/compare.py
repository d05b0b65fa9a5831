"""python scripts/compare.py [experiment=NAME] [key=value ...]

Sets your records beside the reference in results/reference/, claim by claim and curve by curve. Never trains.
Exit code 1 where they differ by more than the noise of hardware.
"""

import sys

from repro.pipeline import cli
from repro.pipeline.presentation import commands

if __name__ == "__main__":
    sys.exit(cli.over_all(commands.compare, __doc__))
