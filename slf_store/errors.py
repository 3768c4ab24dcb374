"""One error tree. Every message says what went wrong, where, and what to do next."""

from __future__ import annotations


class SlfError(Exception):
    """Base of every error this package raises on purpose.

    Args:
        what: what went wrong and where (file, table, clip, setting).
        hint: the next step for the person who reads it.

    >>> str(SlfError("no store at ./.slf", hint="run `slf init`"))
    'no store at ./.slf\\n  next: run `slf init`'
    """

    def __init__(self, what: str, *, hint: str = "") -> None:
        super().__init__(what)
        self.what = what
        self.hint = hint

    def __str__(self) -> str:
        return f"{self.what}\n  next: {self.hint}" if self.hint else self.what


class ConfigError(SlfError, ValueError):
    """A setting or an argument cannot be used."""


class DatabaseError(SlfError, RuntimeError):
    """PostgreSQL cannot be started, reached or used."""


class NotFoundInStore(SlfError, LookupError):
    """A named thing (snapshot, run, clip, constituent) is not in the store."""


class DatasetError(SlfError, ValueError):
    """A source tree or a metadata file cannot be understood."""


class ShardError(SlfError, ValueError):
    """An HDF5 shard is missing, damaged or not what the database says."""


class LeaseLost(SlfError, RuntimeError):
    """Another worker took over this work after its lease expired."""


class WorkerDied(SlfError, RuntimeError):
    """An extraction process ended without a word: killed, or out of memory."""


class ModelUnavailable(SlfError, RuntimeError):
    """Weights or a library an extractor needs are missing: nothing can be extracted with it.

    Unlike :class:`ClipError` this stops the flow instead of failing clip after clip.
    """


class ExtractorBroken(SlfError, RuntimeError):
    """Too many clips in a row failed with an unexpected error: the extractor, not the data, is bad."""


class ClipError(SlfError, ValueError):
    """One clip cannot give one constituent. Recorded with its reason code; the rest goes on.

    Args:
        code: a short reason code, e.g. ``no_audio``, ``no_face``, ``unreadable``.
        what: what was found in this clip.
    """

    def __init__(self, code: str, what: str, *, hint: str = "") -> None:
        super().__init__(what, hint=hint)
        self.args = (code, what)  # what pickle calls the class with
        self.code = code


class SelectionError(SlfError, ValueError):
    """A predicate, system or layout cannot be evaluated as given."""


class CheckpointError(SlfError, ValueError):
    """A checkpoint is missing, damaged or does not fit its configuration."""


class TrainingDiverged(SlfError, ArithmeticError):
    """Losses or gradients are not finite any more."""
