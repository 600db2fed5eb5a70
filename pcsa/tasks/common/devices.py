"""The device that an option names."""

from __future__ import annotations

import torch


def pick_device(name: str) -> torch.device:
    """Return the device that an option names; ``auto`` takes CUDA where there is one.

    Raises:
        ValueError: If the device cannot be used; the message says why.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        raise ValueError(f"`device` (={name!r}) cannot be used: {str(error).splitlines()[0]}") from None
    return device
