"""Settings as the tests give them: a text and some variables."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from athens_tx.config import ConfigError, Loaded, load


@pytest.fixture(autouse=True)
def logged() -> list[Any]:
    """Nothing here logs or knows a reactor, and looking after both takes longer than most of these tests."""
    return []


Load = Callable[..., Loaded]
Problems = Callable[..., list[str]]


@pytest.fixture
def load_text(tmp_path: Path) -> Load:
    """Load a text as the file C{athens.toml}; variables by keyword."""

    def call(text: str | bytes | None = "", *, strict: bool = False, mode: int = 0o600, **environ: str) -> Loaded:
        if text is not None:
            file = tmp_path / "athens.toml"
            file.write_bytes(text if isinstance(text, bytes) else text.encode())
            file.chmod(mode)
        return load(None, environ, cwd=tmp_path, strict=strict)

    return call


@pytest.fixture
def problems(load_text: Load, tmp_path: Path) -> Problems:
    """What is wrong with a text and some variables: the lines of the error, paths cut, without the warnings."""

    def call(text: str | bytes | None = "", **arguments: Any) -> list[str]:
        with pytest.raises(ConfigError) as caught:
            load_text(text, **arguments)
        lines = [line.replace(f"{tmp_path}/", "") for line in caught.value.problems]
        assert all("\n" not in line for line in lines)
        return [line for line in lines if not line.startswith("warning: ")]

    return call
