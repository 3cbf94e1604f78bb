"""The database of the service: what viewers have watched. No other program opens it."""

import fcntl
import sqlite3
import sys
import threading
import time
from contextlib import contextmanager
from pathlib import Path

SCHEMA = """
CREATE TABLE IF NOT EXISTS watched (
    viewer TEXT NOT NULL, title TEXT NOT NULL, time_us INTEGER NOT NULL, PRIMARY KEY (viewer, title)
) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS watched_by_title ON watched (title, viewer);
CREATE TABLE IF NOT EXISTS requests (
    request_id TEXT NOT NULL PRIMARY KEY, request BLOB NOT NULL, answer BLOB NOT NULL, time_us INTEGER NOT NULL
);
CREATE INDEX IF NOT EXISTS requests_by_age ON requests (time_us);
"""

# Others who have watched one of the viewer's titles, and what else they have watched.
RECOMMENDED = """
SELECT also.title, count(DISTINCT also.viewer) AS viewers
FROM watched AS own
JOIN watched AS same ON same.title = own.title AND same.viewer <> own.viewer
JOIN watched AS also ON also.viewer = same.viewer
WHERE own.viewer = ?1 AND NOT EXISTS (SELECT 1 FROM watched WHERE viewer = ?1 AND title = also.title)
GROUP BY also.title ORDER BY viewers DESC, also.title LIMIT ?2
"""

# How long the answer to a request is kept, in microseconds. The contract has it in hours.
KEPT_US = 24 * 3600 * 1_000_000


class Reused(Exception):
    """A request_id was used before, for another request."""


class Store:
    def __init__(self, path):
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        # As in every service: one process at a time has the database, and scripts/reset-data sees that it has.
        self._lock = open(f"{path}.lock", "w")
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            sys.exit(f"{path} is open in another process: stop that one, or name another file")
        # Statements are short: threads take turns at one connection.
        self._turn = threading.Lock()
        self._database = sqlite3.connect(path, check_same_thread=False, isolation_level=None)
        self._database.execute("PRAGMA journal_mode = WAL")
        # The answer to a write means that the write is durable.
        self._database.execute("PRAGMA synchronous = FULL")
        self._database.executescript(SCHEMA)

    def close(self):
        with self._turn:
            self._database.close()

    def answered(self, request_id, request):
        """The answer of the first request with this id; None if there is none."""
        with self._turn:
            return self._answered(request_id, request)

    def note(self, viewer, title, request_id, request, answer):
        """Notes that a viewer has watched a title. The request, its work and its answer are in one transaction.

        `answer` makes the answer from the time in microseconds. Returns that of the first request with this id.
        """
        with self._turn, self._transaction():
            first = self._answered(request_id, request)
            if first is not None:
                return first
            now = time.time_ns() // 1000
            self._database.execute("INSERT INTO watched VALUES (?, ?, ?) ON CONFLICT DO NOTHING", (viewer, title, now))
            noted = "SELECT time_us FROM watched WHERE viewer = ? AND title = ?"
            first = answer(self._database.execute(noted, (viewer, title)).fetchone()[0])
            self._database.execute("INSERT INTO requests VALUES (?, ?, ?, ?)", (request_id, request, first, now))
            self._database.execute("DELETE FROM requests WHERE time_us < ?", (now - KEPT_US,))
            return first

    def recommended(self, viewer, most):
        """Titles with the number of their viewers, the best first."""
        with self._turn:
            return self._database.execute(RECOMMENDED, (viewer, most)).fetchall()

    def _answered(self, request_id, request):
        statement = "SELECT request, answer FROM requests WHERE request_id = ?"
        first = self._database.execute(statement, (request_id,)).fetchone()
        if first is not None and first[0] != request:
            raise Reused
        return first and first[1]

    @contextmanager
    def _transaction(self):
        self._database.execute("BEGIN IMMEDIATE")
        try:
            yield
            self._database.execute("COMMIT")
        except BaseException:
            self._database.rollback()
            raise
