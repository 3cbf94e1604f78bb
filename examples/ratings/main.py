"""Ratings: a service with nothing but Python's standard library, behind a sidecar. See README.md beside this file.

    GET /ratings/TITLE        {"average": 4.5, "count": 2}; 404 if there is no rating
    GET /ratings?title=TITLE&title=…    the ratings of up to 100 titles, by title; without those that have none
    PUT /ratings/TITLE        {"stars": 1 to 5}, as the caller; the rating after it
    GET /healthz              what the sidecar asks
"""

import fcntl
import json
import logging
import os
import signal
import sqlite3
import stat
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs, unquote, urlsplit

SCHEMA = """
CREATE TABLE IF NOT EXISTS ratings (
    title TEXT NOT NULL, rater TEXT NOT NULL, stars INTEGER NOT NULL, PRIMARY KEY (title, rater)
) WITHOUT ROWID
"""
MOST_BYTES, MOST_CHARACTERS, MOST_TITLES = 1024, 100, 100
# How long a connection may send nothing, in seconds.
IDLE = 60


class Store:
    def __init__(self, path):
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        # As in every service: one process at a time has the database, and scripts/reset-data sees that it has.
        self._lock = open(f"{path}.lock", "w")
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            sys.exit(f"{path} is open in another process: stop that one, or name another file")
        self._turn = threading.Lock()
        self._database = sqlite3.connect(path, check_same_thread=False, isolation_level=None)
        self._database.execute("PRAGMA journal_mode = WAL")
        # The answer to a write means that the write is durable.
        self._database.execute("PRAGMA synchronous = FULL")
        self._database.execute(SCHEMA)

    def rate(self, title, rater, stars):
        with self._turn:
            self._database.execute("REPLACE INTO ratings VALUES (?, ?, ?)", (title, rater, stars))

    def ratings(self, titles):
        """The ratings by title, without titles that have none."""
        of_each = "SELECT title, avg(stars), count(*) FROM ratings WHERE title IN ({}) GROUP BY title"
        of_each = of_each.format(", ".join("?" * len(titles)))
        with self._turn:
            rows = self._database.execute(of_each, titles).fetchall()
        return {title: {"average": average, "count": count} for title, average, count in rows}

    def close(self):
        with self._turn:
            self._database.close()


class Refused(Exception):
    """An answer with the status and the text."""


class Handler(BaseHTTPRequestHandler):
    # The sidecar keeps connections open.
    protocol_version = "HTTP/1.1"
    timeout = IDLE
    # An answer is one packet: the second of two would wait for an acknowledgement of the first.
    wbufsize = -1
    store = None

    def do_GET(self):
        self._answer(self._get)

    def do_PUT(self):
        self._answer(self._put)

    def _get(self):
        url = urlsplit(self.path)
        if url.path == "/healthz":
            return {"status": "SERVING"}
        if url.path == "/ratings":
            titles = parse_qs(url.query).get("title", [])
            if not 1 <= len(titles) <= MOST_TITLES:
                raise Refused(400, f"expected 1 to {MOST_TITLES} of ?title=")
            return self.store.ratings(titles)
        return self._rating(self._title())

    def _put(self):
        title = self._title()
        # http.server reads the bytes of a header as Latin-1.
        caller = self.headers.get("mesh-caller", "anonymous").encode("latin-1").decode()
        try:
            stars = json.loads(self._body)["stars"]
        except (ValueError, TypeError, KeyError):
            raise Refused(400, 'expected a body such as {"stars": 5}') from None
        if type(stars) is not int or not 1 <= stars <= 5:
            raise Refused(400, "stars must be 1 to 5")
        # The sidecar has checked who calls, and no client can write the header.
        self.store.rate(title, caller, stars)
        return self._rating(title)

    def _title(self):
        kind, _, title = urlsplit(self.path).path.removeprefix("/").partition("/")
        title = unquote(title)
        if kind != "ratings" or not 1 <= len(title) <= MOST_CHARACTERS:
            raise Refused(404, "expected a path such as /ratings/TITLE")
        return title

    def _rating(self, title):
        rating = self.store.ratings([title]).get(title)
        if rating is None:
            raise Refused(404, f"title {title} has no rating")
        return rating

    def _read_body(self):
        """Reads the whole body, since the next request stands behind it."""
        try:
            length = int(self.headers.get("content-length", 0))
        except ValueError:
            length = -1
        if "transfer-encoding" in self.headers or not 0 <= length <= MOST_BYTES:
            self.close_connection = True
            raise Refused(413, f"expected a content-length of 0 to {MOST_BYTES}")
        self._body = self.rfile.read(length)

    def _answer(self, work):
        try:
            self._read_body()
            status, answer = 200, work()
        except Refused as refused:
            status, text = refused.args
            answer = {"message": text}
        except sqlite3.OperationalError:
            logging.exception("the database failed")
            status, answer = 503, {"message": "the database fails; retry later"}
        body = json.dumps(answer).encode()
        self.send_response(status)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format, *arguments):
        if getattr(self, "path", None) == "/healthz":
            return
        trace = self.headers.get("traceparent", "-") if hasattr(self, "headers") else "-"
        logging.info("%s traceparent=%s", format % arguments, trace)


def end_with_the_sidecar(stop):
    """Calls `stop` when the sidecar has ended, also if it was killed: it holds the other end of the standard input."""

    def wait():
        while os.read(0, 4096):
            pass
        stop()

    if stat.S_ISFIFO(os.fstat(0).st_mode):
        threading.Thread(target=wait, daemon=True).start()


def main():
    # The sidecar tells the address. The lines of the log go to standard error, and the address alone to standard output.
    host, _, port = os.environ.get("SIDECAR_APP", "127.0.0.1:50059").rpartition(":")
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    end_with_the_sidecar(stop.set)

    Handler.store = Store(os.environ.get("RATINGS_DATABASE", "data/ratings.db"))
    ThreadingHTTPServer.request_queue_size = 128
    server = ThreadingHTTPServer((host.strip("[]"), int(port)), Handler)
    serving = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.1})
    serving.start()
    print(f"ratings app listening on {host}:{server.server_port}", flush=True)

    stop.wait()
    # The sidecar has drained: no call is in flight, and connections that it keeps open are idle.
    server.shutdown()
    serving.join()
    Handler.store.close()
    logging.info("stopped")


if __name__ == "__main__":
    main()
