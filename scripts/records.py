"""Records: list, verify, diff, prune.

python scripts/records.py list --newer 12h           what there is, how it came about, what is damaged or of other code
python scripts/records.py verify                     every record against its checksums
python scripts/records.py diff                       what the newest two differ in, of those that count
python scripts/records.py diff 4b84 91cc             likewise these two
python scripts/records.py prune                      remove what killed processes left
"""

import sys

from repro.pipeline.presentation import inventory

if __name__ == "__main__":
    sys.exit(inventory.command(__doc__))
