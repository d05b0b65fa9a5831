"""python scripts/run.py experiment=NAME [key=value ...]        --help says more"""

import sys

from repro.pipeline import cli

# Hydra's shell completion serves scripts in which it reads @hydra.main; cli calls that for it.
if __name__ == "__main__":
    sys.exit(cli.run())
