"""Where recorded data lies that is not part of the project; tests that need it skip where it is absent."""

from pathlib import Path

import pytest

_FOLDER = Path(__file__).resolve().parents[2] / "shared" / "data"


def shared_data(name: str) -> Path:
    """The path of a recorded file; skips the calling test, with the reason, where there is none."""
    path = _FOLDER / name
    if not path.is_file():
        pytest.skip(f"no recorded data here: ../shared/data/{name}")
    return path
