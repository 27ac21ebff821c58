"""``python -m camera_trap_al``: the command line where the terminal does not know ``camera-trap-al``."""

import sys

from camera_trap_al.cli import main

if __name__ == "__main__":
    sys.exit(main())
