"""Public data for tests: read from `$WALRAS_DATA`, never from the repository."""

import os
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def data_dir() -> Path:
    named = os.environ.get("WALRAS_DATA")
    if not named:
        pytest.skip("WALRAS_DATA is not set: the public data is not at hand")
    if not Path(named).is_dir():
        pytest.skip(f"WALRAS_DATA names no directory: {named}")
    return Path(named)
