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
for name in names:
    origin = importlib.import_module(name).__file__ or ""
    if Path(origin).resolve().is_relative_to(checkout / "pcsa") or "site-packages" not in origin:
        sys.exit(f"{name} was imported from {origin}, not from the installation")
print(f"{len(names)} modules import from the wheel")
