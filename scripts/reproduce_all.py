"""python scripts/reproduce_all.py [experiment=NAME,NAME] [key=value ...]

Runs every experiment (conf/experiment/) that is not recorded yet, with the same overrides for each, and
draws all figures into results/figures/; with figures=false none.
"""

import sys

from repro.pipeline import cli
from repro.pipeline.execution import commands

if __name__ == "__main__":
    sys.exit(cli.over_all(commands.reproduce_all, __doc__))
