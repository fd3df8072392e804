"""`python -m teflon` is the command `teflon`."""

import sys

from teflon.entry import main

if __name__ == "__main__":
    sys.exit(main())
