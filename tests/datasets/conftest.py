import os
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def real_data() -> Path:
    """The folder of the real data; tests that want it are skipped where there is none."""
    folder = os.environ.get("PCSA_TEST_DATA")
    if not folder:
        pytest.skip("PCSA_TEST_DATA is not set")
    return Path(folder)
