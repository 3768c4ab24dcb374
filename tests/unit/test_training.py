"""Names of runs become folders: none may lead out of the store."""

from __future__ import annotations

from typing import Any, cast

import pytest

from slf_store.errors import ConfigError
from slf_store.jobs.training import create_run


@pytest.mark.parametrize("name", ["", ".", "..", "../x", "a/b", "/x", ".hidden", "a\0b"])
def test_a_run_name_that_is_no_folder_name_is_refused(name: str) -> None:
    with pytest.raises(ConfigError, match="run name"):
        create_run(cast("Any", None), name, snapshot="s", system_name="full-input", preset="tiny", seed=0)
