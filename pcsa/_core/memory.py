"""What the C library does with memory that tensors free."""

import ctypes
import os

# Of glibc's malloc.h.
_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3
# Larger blocks go back to the system at once; of the rest, what lies free at the end if it is more than that.
_LARGEST, _FREE = 1 << 26, 1 << 30


def keep_freed_memory() -> bool:
    """Let glibc keep the memory that tensors free on a CPU for the tensors after them; return whether it does.

    A training step frees what the next one takes. By default a large part of it goes back to the system in between,
    which fills each page with zeros again when it is first touched: a fifth of a step's processor time. Numbers stay
    the same. Nothing changes where the environment says what is wanted, nor with another C library.
    """
    if any(name.startswith("MALLOC_") for name in os.environ) or "malloc" in os.environ.get("GLIBC_TUNABLES", ""):
        return False
    try:
        mallopt = ctypes.CDLL(None).mallopt
    # Not the C library of Linux.
    except (AttributeError, OSError, TypeError):
        return False
    return bool(mallopt(_MMAP_THRESHOLD, _LARGEST) and mallopt(_TRIM_THRESHOLD, _FREE))
