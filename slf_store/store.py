"""The store: PostgreSQL and the folder of shards, opened together."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

from sqlalchemy import ColumnElement, Engine, text

from slf_store.errors import DatabaseError
from slf_store.settings import Settings, load_settings

if TYPE_CHECKING:
    from slf_store.query.arrow import Clips
    from slf_store.query.constituent import Constituent
    from slf_store.query.selection import Selection
    from slf_store.query.systems import System


class Store:
    """One open store.

    Example::

        with Store.open(".slf") as store:
            print(store.query("SELECT count(*) AS clips FROM clips"))

    Args:
        settings: where everything is.
        engine: open SQLAlchemy engine of its database, migrated.
    """

    def __init__(self, settings: Settings, engine: Engine) -> None:
        self.settings = settings
        self.engine = engine

    @classmethod
    def open(cls, home: Path | str | None = None, *, settings: Settings | None = None) -> Store:
        """Open an existing store, starting its embedded server if need be.

        Raises:
            DatabaseError: there is no store there, its server cannot start, or its schema is another version's.
        """
        from slf_store.db.engine import open_engine
        from slf_store.db.migrate import check_schema

        settings = settings or load_settings(home)
        if not settings.home.is_dir():
            raise DatabaseError(f"no store at {settings.home}", hint="run `slf init`, or name another with --home")
        engine = open_engine(settings)
        check_schema(engine)
        return cls(settings, engine)

    @classmethod
    def create(
        cls, home: Path | str | None = None, *, settings: Settings | None = None, tethered: bool = False
    ) -> Store:
        """Create the store if it is not there yet, and bring its schema to this version. Safe to repeat."""
        from slf_store.db.engine import open_engine
        from slf_store.db.migrate import upgrade

        settings = settings or load_settings(home)
        try:
            (settings.home / "shards").mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise DatabaseError(
                f"cannot create a store at {settings.home}: {error.strerror}", hint="choose another folder with --home"
            ) from error
        engine = open_engine(settings, tethered=tethered)
        upgrade(engine)
        return cls(settings, engine)

    @cached_property
    def shards(self) -> Path:
        """Folder of the shards."""
        return self.settings.home / "shards"

    @property
    def runs(self) -> Path:
        """Folder of training runs: checkpoints and generated faces."""
        return self.settings.home / "runs"

    def query(self, sql: str, /, **parameters: Any) -> Sequence[dict[str, Any]]:
        """Rows of a statement as dictionaries; parameters are bound by name (`:name`)."""
        with self.engine.connect() as connection:
            return [dict(row) for row in connection.execute(text(sql), parameters).mappings()]

    def clips(self, clips: Any = "true") -> Clips:
        """Rows of the view `clips` for other tools: `store.clips("gender = 'f'").to_arrow()`.

        Args:
            clips: SQL predicate, selection, manifest, or (n,) clip ids.
        """
        from slf_store.query.arrow import Clips, clip_ids_of

        return Clips(self, clips) if isinstance(clips, str) else Clips(self, ids=clip_ids_of(self, clips))

    def constituent(self, name: str) -> Constituent:
        """One constituent as numpy arrays: `store.constituent("mel").read("gender = 'f'").values`.

        Args:
            name: `mel`, or `mel@97bf` for a version.

        Raises:
            NotFoundInStore: there is none.
        """
        from slf_store.query.constituent import Constituent

        return Constituent(self, name)

    def select(
        self,
        predicate: str | ColumnElement[bool] = "true",
        *,
        system: str = "full-input",
        layout: str = "slf-256x768",
        **choice: Any,
    ) -> Selection:
        """Clips that fit an SQL predicate over the view `clips`: see :func:`slf_store.query.selection.select`.

        Example::

            chosen = store.select("gender = 'f' AND duration_s >= 5", system="no-image-guide", missing="skip")
            print(chosen.report())
        """
        from slf_store.query.selection import select

        return select(self, predicate, system_name=system, layout_name=layout, **choice)

    def system(self, name: str) -> System:
        """A system by name, built in or this store's own: see :func:`slf_store.query.systems.find_system`."""
        from slf_store.query.systems import find_system

        return find_system(self, name)

    def close(self) -> None:
        """Close connections. The embedded server stays; `slf stop` ends it."""
        self.engine.dispose()

    def __enter__(self) -> Store:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
