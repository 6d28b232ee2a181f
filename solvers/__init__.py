"""The optimisation core: arrays in, arrays out; NumPy, Numba and OR-tools only.

Kernels are compiled once and cached on disk. Numba's cache does not notice that a *callee* changed, so the
cache lives in a folder named by a hash of all sources here; it must be named before Numba is imported. Where that
folder cannot be made, Numba keeps its cache beside the sources, as it does by default.
"""

from __future__ import annotations

import hashlib
import os
from contextlib import suppress
from pathlib import Path


def _name_kernel_cache() -> None:
    sources = sorted(Path(__file__).parent.rglob("*.py"))
    digest = hashlib.sha256(b"\0".join(path.read_bytes() for path in sources)).hexdigest()[:16]
    root = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    folder = root / "walras" / "numba" / digest
    with suppress(OSError):
        folder.mkdir(parents=True, exist_ok=True)
        os.environ.setdefault("NUMBA_CACHE_DIR", str(folder))


_name_kernel_cache()
