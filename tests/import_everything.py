"""Import every module of the installed package: ``python import_everything.py CHECKOUT``.

Fails if a module of the checkout is missing from the installation, or comes from the checkout itself.
"""

import importlib
import sys
from pathlib import Path

checkout = Path(sys.argv[1]).resolve()
names = []
for folder, package in (("pcsa", "pcsa"), *((name, f"pcsa.{name}") for name in ("models", "datasets", "scripts"))):
    for file in sorted((checkout / folder).rglob("*.py")):
        parts = file.relative_to(checkout / folder).with_suffix("").parts
        if folder == "pcsa" and parts[0] in ("models", "datasets", "scripts"):
            continue  # the symlinks
        names.append(".".join([package, *(p for p in parts if p != "__init__")]))
imported = 0
for name in names:
    try:
        origin = importlib.import_module(name).__file__ or ""
    except ModuleNotFoundError as error:
        # A file of kernels imports Triton, which torch for the CPU does not bring.
        if error.name != "triton":
            raise
        continue
    imported += 1
    if Path(origin).resolve().is_relative_to(checkout / "pcsa") or "site-packages" not in origin:
        sys.exit(f"{name} was imported from {origin}, not from the installation")
print(f"{imported} modules import from the wheel, {len(names) - imported} need Triton")
