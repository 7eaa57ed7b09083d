"""HTTP requests over connections that stay: with the image's bytes, or where they lie.

An answer is JSON: the list of an image's detections; with attribute models, of pairs of a detection and its attributes.
A batch is asked of no-op models alone, whose one list is empty.
"""

import http.client
import itertools
import json
import queue
import select
import threading
import time

from harness.drivers import Done, Material, check_described

READY_S = 180
ANSWER_S = 60
POLL_S = 0.2
CONNECTIONS_MAX = 16


class Connection:
    """One connection for round trips, and as many as are needed for what is submitted, each with a thread."""

    def __init__(self, address: str, material: Material, options: dict) -> None:
        """Wait for the server.

        `options`: the route; `by`, "inline" or "path"; which attribute models describe how many crops of a frame.
        """
        self._address = address
        self._route = options["route"]
        self._material = material
        self._is_inline = options["by"] == "inline"
        self._attributes = set(options["attributes"])
        self._crops_max = options["crops_max"]
        self._bodies: dict[int, itertools.cycle] = {}
        self._jobs: queue.SimpleQueue = queue.SimpleQueue()
        self._threads: list[threading.Thread] = []
        self._busy = 0
        self._lock = threading.Lock()
        self._connection = self._open()
        self._await_ready()
        self._bodies.clear()  # the images begin with the first one again

    def round_trip(self, batch: int) -> list[int]:
        """Ask, and look at the answer."""
        return self._ask(self._connection, next(self._made(batch)), batch)

    def submit(self, batch: int, done: Done) -> None:
        """Hand the request to a thread; start one where all are busy."""
        with self._lock:
            self._busy += 1
            if self._busy > len(self._threads) < CONNECTIONS_MAX:
                self._threads.append(threading.Thread(target=self._work, daemon=True))
                self._threads[-1].start()
        self._jobs.put((next(self._made(batch)), batch, done))

    def close(self) -> None:
        """End threads and connections."""
        for _ in self._threads:
            self._jobs.put(None)
        self._connection.close()

    def _work(self) -> None:
        connection = self._open()
        while job := self._jobs.get():
            body, batch, done = job
            try:
                found = self._ask(connection, body, batch)
            except (OSError, http.client.HTTPException, RuntimeError, ValueError):
                found = [None] * batch
            with self._lock:
                self._busy -= 1
            done(found)
        connection.close()

    def _ask(self, connection: http.client.HTTPConnection, body: bytes, batch: int) -> list[int]:
        # Servers close connections that were idle for some seconds (LitServe's after 5): what can be read before
        # anything was asked is that end, and `request` then connects anew, as HTTP libraries do.
        if connection.sock and select.select([connection.sock], [], [], 0)[0]:
            connection.close()
        try:
            return self._answer(connection, body, batch)
        except Exception:
            connection.close()  # it may be in the midst of an answer
            raise

    def _answer(self, connection: http.client.HTTPConnection, body: bytes, batch: int) -> list[int]:
        kind = "application/octet-stream" if self._is_inline else "application/json"
        connection.request("POST", self._route, body, {"Content-Type": kind})
        answer = connection.getresponse()
        text = answer.read()
        if answer.status != http.client.OK:
            raise RuntimeError(f"{self._address}{self._route} answered {answer.status}: {text[:200]!r}")
        found = json.loads(text)
        try:
            if not isinstance(found, list) or (batch > 1 and found):
                raise TypeError
            models = [{one[0] for one in attributes} for _, attributes in found] if self._attributes else []
        except (TypeError, IndexError, ValueError) as error:
            raise RuntimeError(f"{self._address}{self._route} answered {text[:200]!r}") from error
        if self._attributes:
            check_described(models, self._attributes, self._crops_max)
        return [len(found)] * batch

    def _open(self) -> http.client.HTTPConnection:
        return http.client.HTTPConnection(self._address, timeout=ANSWER_S)

    def _await_ready(self) -> None:
        until = time.monotonic() + READY_S
        while True:
            try:
                self.round_trip(1)
                return
            except (OSError, http.client.HTTPException, RuntimeError, ValueError) as error:
                if time.monotonic() > until:
                    raise TimeoutError(f"{self._address} is not ready after {READY_S} s: {error}") from error
            time.sleep(POLL_S)

    def _made(self, batch: int) -> itertools.cycle:
        if batch not in self._bodies:
            if self._material.raw:
                parts = [(self._material.files[0], sum(self._material.sizes[:batch]))]
            elif batch == 1:
                parts = list(zip(self._material.files, self._material.sizes, strict=True))
            else:
                raise ValueError("encoded images are one a request")
            self._bodies[batch] = itertools.cycle([self._body(*part) for part in parts])
        return self._bodies[batch]

    def _body(self, path: str, size: int) -> bytes:
        if not self._is_inline:
            return json.dumps({"path": path, "offset": 0, "size": size}).encode()
        with open(path, "rb") as file:
            return file.read(size)
