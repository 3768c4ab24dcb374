"""A snapshot holds ethnicities as they were mapped when it was frozen, whatever the setting says later."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest

from slf_store.errors import ConfigError
from slf_store.query.manifest import open_snapshot
from slf_store.query.selection import Selection, select
from slf_store.query.snapshot import freeze
from slf_store.store import Store

pytestmark = pytest.mark.integration

LABELS = ("asian", "latino hispanic", "white", None)
MERGED = {"asian": "asian", "latino hispanic": "white", "white": "white"}


@pytest.fixture
def store_of_all(extracted: Store) -> Iterator[Store]:
    """The extracted sample; its settings as they were afterwards."""
    before = extracted.settings.ethnicity_mapping
    yield extracted
    extracted.settings.ethnicity_mapping = before


def stated(store: Store) -> Selection:
    """A selection whose clips have DeepFace's labels in turn (the offline sample states none)."""
    selection = select(store, missing="skip")
    labels = np.array([LABELS[i % len(LABELS)] for i in range(len(selection))], object)
    return replace(selection, columns={**selection.columns, "ethnicity": labels})


def frozen(store: Store, name: str) -> list[str | None]:
    return [row["ethnicity"] for row in open_snapshot(store, name).attributes][: len(LABELS)]


def test_labels_are_mapped_when_a_snapshot_is_frozen(store_of_all: Store) -> None:
    store, selection = store_of_all, stated(store_of_all)
    plain = freeze(store, selection, "ethnicity-plain")
    assert frozen(store, "ethnicity-plain") == ["asian", None, "white", None]
    store.settings.ethnicity_mapping = MERGED
    merged = freeze(store, selection, "ethnicity-merged")
    assert frozen(store, "ethnicity-merged") == ["asian", "white", "white", None]
    assert merged.hash != plain.hash
    assert frozen(store, "ethnicity-plain") == ["asian", None, "white", None]
    store.settings.ethnicity_mapping = {**MERGED, "never seen": "black"}
    assert freeze(store, selection, "ethnicity-again").hash == merged.hash


def test_the_mapping_is_written_into_the_audit_log(store_of_all: Store) -> None:
    store_of_all.settings.ethnicity_mapping = MERGED
    freeze(store_of_all, stated(store_of_all), "ethnicity-audited")
    (row,) = store_of_all.query(
        "SELECT detail -> 'ethnicity_mapping' AS mapping FROM audit_log WHERE detail ->> 'snapshot' = :name",
        name="ethnicity-audited",
    )
    assert row["mapping"] == MERGED


def test_a_wrong_mapping_freezes_nothing(store_of_all: Store) -> None:
    store_of_all.settings.ethnicity_mapping = {"asian": "Asian"}
    with pytest.raises(ConfigError, match="'Asian'"):
        freeze(store_of_all, stated(store_of_all), "ethnicity-wrong")
    assert store_of_all.query("SELECT count(*) AS n FROM snapshot WHERE name = 'ethnicity-wrong'") == [{"n": 0}]
