"""The most memory that the process of a benchmark ever had."""

from pathlib import Path

import psutil


def peak_memory() -> int:
    """Give the highest resident size of this process so far, in bytes.

    On Linux by the kernel's own count, since `resource` counts that of the parent too.
    """
    status = Path("/proc/self/status")
    if status.exists():
        (peak,) = (line for line in status.read_text().splitlines() if line.startswith("VmHWM"))
        return int(peak.split()[1]) * 1024
    on_windows = getattr(psutil.Process().memory_info(), "peak_wset", None)
    return on_windows if on_windows is not None else _peak_on_macos()


def _peak_on_macos() -> int:
    import resource  # not there on Windows

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
