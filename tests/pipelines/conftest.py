"""What the tests of pipelines share: no progress bars."""

import pytest


@pytest.fixture(autouse=True)
def quiet(monkeypatch: pytest.MonkeyPatch) -> None:
    """Keeps progress bars out of the output of the tests."""
    monkeypatch.setenv("TQDM_DISABLE", "1")
