"""Workarounds for other packages' faults, each with its reason."""

from __future__ import annotations

import importlib
import importlib.util
import os
import sys
from types import ModuleType
from typing import Any, NoReturn


def import_torchaudio_safely() -> ModuleType | None:
    """Import torchaudio even where its optional compiled extension cannot be loaded.

    torchaudio 2.11's extension needs CUDA libraries, so beside a CPU build of torch `import torchaudio` raises
    OSError, and with it speechbrain, pyannote.audio and diffusers. The extension is optional: on that error it is
    replaced by a stand-in and the import repeated. Call this before importing any of them; calling it again, or
    where torchaudio is fine or absent, changes nothing.

    Returns:
        The module, or None when torchaudio is not installed.
    """
    if importlib.util.find_spec("torchaudio") is None:
        return None
    try:
        return importlib.import_module("torchaudio")
    except OSError:
        for name in [name for name in sys.modules if name.partition(".")[0] == "torchaudio"]:
            del sys.modules[name]
        sys.modules["torchaudio._extension"] = _ExtensionStandIn("torchaudio._extension")
        return importlib.import_module("torchaudio")


def import_diffusers() -> Any:
    """diffusers, imported after torchaudio has been made harmless."""
    import_torchaudio_safely()
    return importlib.import_module("diffusers")


def import_speechbrain_classifiers() -> Any:
    """`speechbrain.inference.classifiers`, imported so that the rest of the process stays as it was.

    SpeechBrain sets torch's JIT and TF32 switches for everybody, which `SB_DISABLE_QUIRKS` prevents. And it leaves
    stand-ins for the modules of older versions in `sys.modules`: whoever looks through those, as pickle does when a
    process pool starts, imports them, and fails where k2 or flair is not installed. They are taken out again.
    """
    os.environ.setdefault("SB_DISABLE_QUIRKS", "allow_tf32,disable_jit_profiling")
    import_torchaudio_safely()
    classifiers = importlib.import_module("speechbrain.inference.classifiers")
    stand_in = importlib.import_module("speechbrain.utils.importutils").LazyModule
    for name in [name for name, module in sys.modules.items() if issubclass(type(module), stand_in)]:
        del sys.modules[name]
    return classifiers


class _ExtensionStandIn(ModuleType):
    """What torchaudio asks of its extension when that is not there."""

    _IS_TORCHAUDIO_EXT_AVAILABLE = False
    _IS_ALIGN_AVAILABLE = False

    @staticmethod
    def fail_if_no_align(function: Any) -> Any:
        """Decorator: forced alignment is the one thing that cannot do without the extension."""

        def missing(*_args: object, **_kwargs: object) -> NoReturn:
            raise RuntimeError(f"{function.__name__} needs torchaudio's compiled extension, which cannot be loaded")

        return missing
