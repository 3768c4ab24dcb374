"""torchaudio whose compiled extension cannot be loaded is imported all the same."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from slf_store.compat import import_torchaudio_safely


@pytest.fixture
def broken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A torchaudio like 2.11 beside a CPU build of torch."""
    package = tmp_path / "torchaudio"
    (package / "_extension").mkdir(parents=True)
    (package / "__init__.py").write_text(
        "from . import _extension\nfrom .align import align\nAVAILABLE = _extension._IS_TORCHAUDIO_EXT_AVAILABLE\n"
    )
    (package / "align.py").write_text(
        "from ._extension import fail_if_no_align\n\n\n@fail_if_no_align\ndef align():\n    return 1\n"
    )
    (package / "_extension" / "__init__.py").write_text("raise OSError('Could not load this library')\n")
    monkeypatch.syspath_prepend(tmp_path)
    for name in [name for name in sys.modules if name.partition(".")[0] == "torchaudio"]:
        monkeypatch.delitem(sys.modules, name)


@pytest.mark.usefixtures("broken")
def test_the_rest_of_it_works_and_the_missing_part_says_so() -> None:
    module = import_torchaudio_safely()
    assert module is not None
    assert module.AVAILABLE is False
    assert import_torchaudio_safely() is module
    with pytest.raises(RuntimeError, match="align needs torchaudio's compiled extension"):
        module.align()
    for name in [name for name in sys.modules if name.partition(".")[0] == "torchaudio"]:
        del sys.modules[name]
