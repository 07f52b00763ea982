"""`python -m` with the name of this package scores folders of edge maps."""

import sys

from .tool.command import main

if __name__ == "__main__":
    sys.exit(main())
