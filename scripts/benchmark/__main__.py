"""python -m scripts.benchmark"""

import sys

from scripts.benchmark.program import main

if __name__ == "__main__":
    sys.exit(main())
