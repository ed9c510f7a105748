"""``pyln.testing.db``: a node's database."""

from __future__ import annotations

import os
import shutil
import sqlite3
from typing import Any, Dict, List, Optional, Sequence


class BaseDb:
    """A database."""

    def wipe_db(self) -> None:
        raise NotImplementedError("wipe_db method must be implemented by the subclass")


class Sqlite3Db(BaseDb):
    """lightningd's file, ``lightningd.sqlite3``."""

    def __init__(self, path: str) -> None:
        self.path = path
        self.provider: Optional[SqliteDbProvider] = None

    def get_dsn(self) -> None:
        """There is no option to set for it."""

    def query(self, query: str) -> List[Dict[str, Any]]:
        """The rows, from a copy: the node may be writing."""
        copy = self.path + ".copy"
        shutil.copyfile(self.path, copy)
        db = sqlite3.connect(copy)
        try:
            db.row_factory = sqlite3.Row
            rows = [dict(row) for row in db.execute(query).fetchall()]
            db.commit()
        finally:
            db.close()
        return rows

    def execute(self, query: str, params: Sequence[Any] = ()) -> None:
        """Executes a statement, whose placeholders are ``?``."""
        self._write(lambda db: db.execute(query, params))

    def executemany(self, query: str, seq_of_params: Sequence[Sequence[Any]]) -> None:
        """Executes a statement for each of these."""
        self._write(lambda db: db.executemany(query, seq_of_params))

    def _write(self, work: Any) -> None:
        db = sqlite3.connect(self.path, timeout=5)
        try:
            with db:
                work(db)
        finally:
            db.close()

    def stop(self) -> None:
        """Nothing runs."""

    def wipe_db(self) -> None:
        """Removes it."""
        if os.path.exists(self.path):
            os.remove(self.path)


class SqliteDbProvider:
    """Gives each node its database."""

    def __init__(self, directory: str) -> None:
        self.directory = directory

    def start(self) -> None:
        """Nothing to start."""

    def get_db(self, node_directory: str, testname: str, node_id: int) -> Sqlite3Db:
        """The database of the node with this network directory."""
        return Sqlite3Db(os.path.join(node_directory, "lightningd.sqlite3"))

    def stop(self) -> None:
        """Nothing to stop."""
