"""Import every module of the installed package: ``python import_everything.py CHECKOUT [MISSING…]``.

Fails if a module of the checkout is missing from the installation, or comes from the checkout itself. A module may need
Triton, which torch for the CPU does not bring, and the packages that are named as missing.
"""

import collections
import importlib
import sys
from pathlib import Path

checkout = Path(sys.argv[1]).resolve()
may_miss = {"triton", *sys.argv[2:]}
names = []
for folder, package in (("pcsa", "pcsa"), *((name, f"pcsa.{name}") for name in ("models", "datasets", "scripts"))):
    for file in sorted((checkout / folder).rglob("*.py")):
        parts = file.relative_to(checkout / folder).with_suffix("").parts
        if folder == "pcsa" and parts[0] in ("models", "datasets", "scripts"):
            continue  # the symlinks
        names.append(".".join([package, *(p for p in parts if p != "__init__")]))
imported = 0
waiting: collections.Counter[str] = collections.Counter()
for name in names:
    try:
        origin = importlib.import_module(name).__file__ or ""
    except ModuleNotFoundError as error:
        missing = (error.name or "").partition(".")[0]
        if missing not in may_miss:
            raise
        waiting[missing] += 1
        continue
    imported += 1
    if Path(origin).resolve().is_relative_to(checkout / "pcsa") or "site-packages" not in origin:
        sys.exit(f"{name} was imported from {origin}, not from the installation")
print(
    f"{imported} of {len(names)} modules import from the wheel",
    *(f"{n} need {m}" for m, n in waiting.items()),
    sep="; ",
)
