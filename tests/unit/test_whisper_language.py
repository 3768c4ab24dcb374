"""Whisper's language codes as labels."""

from __future__ import annotations

import pytest

from slf_store.constituents.whisper_language import LANGUAGES
from slf_store.query.encode import LANGUAGES as COMMON_LANGUAGE

UNKNOWN_TO_WHISPER = {
    "Chinese_Taiwan", "Chuvash", "Dhivehi", "Esperanto", "Frisian", "Hakha_Chin", "Interlingua", "Kabyle",
    "Kinyarwanda", "Kyrgyz", "Romansh_Sursilvan", "Sakha",
}  # fmt: skip


def test_every_code_of_the_library_has_a_label_of_its_own() -> None:
    tokenizer = pytest.importorskip("faster_whisper.tokenizer")
    assert set(LANGUAGES) == set(tokenizer._LANGUAGE_CODES)
    assert len(set(LANGUAGES.values())) == len(LANGUAGES) == 100


def test_labels_are_commonlanguages_where_it_has_the_language() -> None:
    assert set(COMMON_LANGUAGE) - set(LANGUAGES.values()) == UNKNOWN_TO_WHISPER
    assert len(set(COMMON_LANGUAGE) & set(LANGUAGES.values())) == 33
    assert {code: LANGUAGES[code] for code in ("en", "uk", "zh", "yue", "fa", "mn")} == {
        "en": "English",
        "uk": "Ukranian",
        "zh": "Chinese_China",
        "yue": "Chinese_Hongkong",
        "fa": "Persian",
        "mn": "Mongolian",
    }
