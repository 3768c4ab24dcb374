"""Settings: `SLF_*` variables, then `slf.toml` (in the store or the working folder), then defaults."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, SecretStr, ValidationError
from pydantic_settings import (
    BaseSettings,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    TomlConfigSettingsSource,
)

from slf_store.errors import ConfigError


class Settings(BaseSettings):
    """Everything that can be set, in one place.

    >>> Settings(home="somewhere").profile
    'offline'
    """

    model_config = SettingsConfigDict(env_prefix="SLF_", extra="forbid", validate_default=True)

    home: Path = Field(Path(".slf"), description="The store: database files, shards, runs.")
    database_url: SecretStr | None = Field(
        None, description="An external PostgreSQL >= 15 with pgvector >= 0.8; embedded when unset."
    )
    researcher_url: SecretStr | None = Field(
        None, description="Login of your own for researchers' SQL text, on an external server."
    )
    analyst_url: SecretStr | None = Field(
        None, description="Login of your own for analysts' SQL text, on an external server."
    )
    pg_bin: Path | None = Field(None, description="Folder of initdb and postgres; the wheel's when unset.")
    models_dir: Path | None = Field(None, description="Weights folder; `<home>/models` when unset.")
    profile: Literal["offline", "hub"] = Field("offline", description="Which weights extractors load.")
    face_detector: str = Field("dlib", description="DeepFace detector backend.")
    face_model: str = Field("Dlib", description="Face embedding model; the one generated faces are searched with.")
    face_models: tuple[str, ...] = Field((), description="Further face embedding models, kept side by side.")
    frame_choice: Literal["seeded", "fixed"] = Field("seeded", description="Which frame the face is taken from.")
    face_tracks: bool = Field(True, description="Where a clip shows several faces, follow its published face track.")
    constituents: tuple[str, ...] = Field((), description="What `slf extract` makes; the profile's set when empty.")
    parameters: dict[str, dict[str, Any]] = Field(
        {}, description="Parameters of extractors that differ from the default, by constituent: a new version each."
    )
    ethnicity_mapping: dict[str, str] = Field(
        {label: label for label in ("asian", "black", "indian", "middle eastern", "white")},
        description="Which of the paper's five ethnicities a source's label is, for snapshots; others are unknown.",
    )
    """DeepFace tells six apart: its `latino hispanic` has no place among the paper's five, which nobody says how to
    come by (the published code gave all six a position of their own), and is unknown unless it is mapped here."""
    device: str = Field("auto", description="Where networks run: auto, cpu, cuda, cuda:1, …")
    seed: int = Field(0, ge=0, description="Seed of every random choice.")
    workers: int = Field(0, ge=0, le=1024, description="Extraction processes; 0 = one per core.")
    threads: int = Field(0, ge=0, le=1024, description="Threads of a training; 0 = one per core. 1 on a busy machine.")
    chunk_size: int = Field(16, ge=1, le=4096, description="Clips per claimed chunk (= rows per shard at most).")
    batch_clips: int = Field(8, ge=1, le=4096, description="Clips held in memory at once by an extraction process.")
    gpu_constituents: tuple[str, ...] = Field((), description="Constituents whose chunks go to a GPU.")
    gpu_share: float = Field(1.0, gt=0, le=8, description="GPUs of a chunk on a cluster; 0.25: four share one.")
    ray_address: str | None = Field(None, description="Extract on this Ray cluster: HOST:6379, or auto.")
    lease_minutes: float = Field(10.0, gt=0, description="A worker that says nothing this long loses its chunk.")
    database_patience_s: float = Field(60.0, ge=0, description="How long extraction waits for a database gone away.")
    shard_grace_hours: float = Field(24.0, ge=0, description="Shards that `slf compact` replaced stay this long.")
    error_ceiling: float = Field(0.2, gt=0, le=1, description="Share of unexpected failures that stops a flow.")
    statement_timeout_s: float = Field(60.0, gt=0, description="Limit for SQL text given by a user.")

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        home = Path(init_settings().get("home") or os.environ.get("SLF_HOME") or ".slf")
        files = [Path("slf.toml"), home / "slf.toml"]
        toml = TomlConfigSettingsSource(settings_cls, [f for f in files if f.is_file()])
        return init_settings, env_settings, toml

    @property
    def models(self) -> Path:
        """Folder of model weights."""
        return (self.models_dir or self.home / "models").absolute()

    @property
    def thread_count(self) -> int:
        """Threads of a training: the setting, or one per usable core."""
        return self.threads or len(os.sched_getaffinity(0))

    @property
    def worker_count(self) -> int:
        """Extraction processes: the setting, or one per usable core."""
        return self.workers or len(os.sched_getaffinity(0))


def load_settings(home: Path | str | None = None, **overrides: object) -> Settings:
    """Read settings; `home` and `overrides` win over the environment.

    Raises:
        ConfigError: a variable or `slf.toml` holds an unknown name or a bad value.
    """
    values = {k: v for k, v in overrides.items() if v is not None}
    if home is not None:
        values["home"] = Path(home)
    try:
        settings = Settings(**values)  # type: ignore[arg-type]
    except ValidationError as error:
        first = error.errors(include_input=False, include_url=False)[0]
        name = ".".join(str(part) for part in first["loc"]) or "settings"
        raise ConfigError(
            f"setting {name}: {first['msg']}",
            hint=f"correct SLF_{name.upper()} or `{name}` in slf.toml",
        ) from None
    return settings.model_copy(update={"home": settings.home.absolute()})
