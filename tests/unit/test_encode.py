"""Ethnicities of a source become the paper's five, by a mapping that is a setting."""

from __future__ import annotations

import pytest

from slf_store.errors import ConfigError
from slf_store.query.encode import ETHNICITIES, encode_values, map_ethnicities
from slf_store.settings import Settings, load_settings

DEEPFACE = ("asian", "indian", "black", "white", "middle eastern", "latino hispanic")


def mapped(label: str | None, mapping: dict[str, str]) -> str | None:
    (row,) = map_ethnicities([{"clip_id": 1, "ethnicity": label}], mapping)
    assert row["clip_id"] == 1
    found: str | None = row["ethnicity"]
    return found


def test_by_default_five_of_deepface_s_six_stay_and_the_sixth_is_unknown() -> None:
    default = Settings().ethnicity_mapping
    assert default == {label: label for label in ETHNICITIES}
    assert [mapped(label, default) for label in DEEPFACE] == [*DEEPFACE[:5], None]
    assert mapped(None, default) is None


def test_unknown_stays_unknown_and_is_masked() -> None:
    rows = map_ethnicities(
        [{"ethnicity": label} for label in (None, "latino hispanic", "", "WHITE", "white")], {"white": "white"}
    )
    values, visible = encode_values("ethnicity", [row["ethnicity"] for row in rows])
    assert visible.tolist() == [False, False, False, False, True]
    assert values.sum(axis=1).tolist() == [0, 0, 0, 0, 1]


def test_a_mapping_can_name_any_label_and_no_other_ethnicity() -> None:
    mapping = {"latino hispanic": "white", "South Asian": "indian"}
    assert mapped("latino hispanic", mapping) == "white"
    assert mapped("South Asian", mapping) == "indian"
    assert mapped("asian", mapping) is None
    with pytest.raises(ConfigError, match=r"'latino hispanic' = 'latino'.*asian, black, indian, middle eastern, white"):
        map_ethnicities([], {"latino hispanic": "latino"})


def test_the_mapping_is_a_setting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SLF_ETHNICITY_MAPPING", '{"latino hispanic": "white"}')
    assert load_settings().ethnicity_mapping == {"latino hispanic": "white"}
    monkeypatch.setenv("SLF_ETHNICITY_MAPPING", '{"latino hispanic": 3}')
    with pytest.raises(ConfigError, match="ethnicity_mapping"):
        load_settings()
