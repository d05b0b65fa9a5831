"""python scripts/run.py experiment=NAME [key=value ...]        --help says more"""

import sys

import hydra

from repro.pipeline import cli


# Hydra's own entry point answers --info, --hydra-help and shell completion. The rest goes through repro.pipeline.cli,
# which checks every configuration before the first one runs and leaves no files of Hydra's behind.
@hydra.main(version_base="1.3", config_path="../conf", config_name="config")
def hydra_app(config: object) -> None:
    raise AssertionError("runs do not come here")


if __name__ == "__main__":
    sys.exit(cli.run(hydra_app))
