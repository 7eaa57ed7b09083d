"""One peer under one workload: its server started, looked at once, measured by the client's process, ended."""

import json
import os
import random
import subprocess
import threading
import time
from contextlib import nullcontext

from cascade import manifest

from harness import answers
from harness.leftovers import Leftovers
from harness.peers import DETECT_PROCESSES, ROOT, Peer, Place
from harness.process import Held, cpu_s, kill_one, machine_busy_s, pss_bytes
from harness.server import Server
from harness.workloads import Workload

KILL_EVERY_S = 5.0
START_S = 240
LOOK_S = 0.5
"""How often it is asked whether a server lives that has not answered yet."""
LEEWAY = 3
"""A measure may take so many times as long as its window, and START_S."""
COMPLAINT_CHARS = 2000


class SessionError(Exception):
    """A peer could not be measured."""


class Killer:
    """Kills a process of detect every KILL_EVERY_S, from a seed, until it is closed."""

    def __init__(self, peer: Peer, server: Server, begun: float) -> None:
        """Begin to wait for the first kill."""
        self.kills_s: list[float] = []
        self._peer = peer
        self._server = server
        self._begun = begun
        self._chance = random.Random(1)
        self._closed = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def close(self) -> list[float]:
        """Stop; return when kills were, in seconds from the beginning."""
        self._closed.set()
        self._thread.join()
        return self.kills_s

    def _run(self) -> None:
        while not self._closed.wait(KILL_EVERY_S):
            victims = self._peer.victims(self._server.pid, self._server.log())
            if victims and kill_one(self._server.pid, self._chance.choice(victims)):
                self.kills_s.append(time.monotonic() - self._begun)


class Costs:
    """What a window costs, by the kernel's books: CPU time of server, client and everybody else."""

    def __init__(self, server: int, client: int) -> None:
        """Begin. `server` is the client's pid where there is none."""
        self._pids = {"server": server, "client": client} if server != client else {"server": server}
        self._before = {name: cpu_s(pid) for name, pid in self._pids.items()}
        self._busy = machine_busy_s()
        self._begun = time.monotonic()

    def told(self) -> dict:
        """Return the costs so far."""
        seconds = time.monotonic() - self._begun
        spent = {f"{name}_cpu_s": cpu_s(pid) - self._before[name] for name, pid in self._pids.items()}
        others = machine_busy_s() - self._busy - sum(spent.values())
        share = min(1.0, max(0.0, others) / seconds / (os.cpu_count() or 1))
        return {**spent, "others_share": share}


class Heard:
    """Listens to the client: takes costs when a window opens and closes, and judges what the peer finds."""

    def __init__(self, peer: Peer, server: Server | None, client: int, expected: list[int], plan: list[dict]) -> None:
        """Have heard nothing."""
        self.results: dict[str, dict] = {}
        self.answered = threading.Event()
        """Set once the peer has answered."""
        self.server_died_first = threading.Event()
        """Set where its server died before that."""
        self._peer = peer
        self._server = server
        self._client = client
        self._expected = expected
        self._recoveries = {measure["name"] for measure in plan if measure.get("recovery")}
        self._costs: Costs | None = None
        self._killer: Killer | None = None

    def line(self, line: str) -> None:
        """Take a line in; one that is not the client's own, as libraries print some, is none."""
        try:
            said = json.loads(line)
        except ValueError:
            return
        if not isinstance(said, dict):
            return
        root = self._server.pid if self._server else self._client
        if "found" in said:
            self.answered.set()
            if fault := answers.fault_of_images(said["found"], self._expected):
                raise SessionError(f"{self._peer.name} {fault}")
        elif name := said.get("begin"):
            self._costs = Costs(root, self._client)
            if name in self._recoveries:
                self._killer = Killer(self._peer, self._server, time.monotonic())
        elif name := said.get("end"):
            self.results[name] = (self._costs.told() if self._costs else {}) | self.close()
            if said.get("loaded"):
                self.results[name]["pss_bytes"] = pss_bytes(root)
        elif name := said.pop("measured", None):
            self.close()
            self.results[name] = self.results.get(name, {}) | said
            mean = said.get("detections_a_frame")
            if mean is not None and (fault := answers.fault_of_mean(mean, self._expected)):
                self.results[name] = {"error": fault}

    def server_died(self) -> None:
        """Note that the server did not live to the end: only one whose processes are killed may do that."""
        if not self._recoveries:
            raise SessionError(f"the server of {self._peer.name} died")
        for name in self._recoveries & set(self.results):
            self.results[name]["server_died"] = True

    def close(self) -> dict:
        """End the killing; return when kills were."""
        killer, self._killer, self._costs = self._killer, None, None
        return {"kills_s": killer.close()} if killer else {}


def asked(peer: Peer, measures: list[dict]) -> list[dict]:
    """Return those of the measures that a peer can have: the bare engine knows only how fast it is."""
    if peer.driver != "engine":
        return measures
    return [measure for measure in measures if measure["kind"] == "throughput" and not measure.get("recovery")]


def run(
    peer: Peer, workload: Workload, place: Place, material: dict, expected: list[int], plan: list[dict]
) -> dict[str, dict]:
    """Return what was measured, by the measures' names. `expected` is how many detections each image has."""
    place.folder.mkdir(parents=True, exist_ok=True)
    command = peer.serve(workload, place)
    leftovers = Leftovers(peer.leaves(place))
    try:
        with Server(command, place.folder / "server.log") if command else nullcontext() as server:
            if command:
                told = {"driver": peer.driver, "address": place.address, "options": peer.options(workload, place)}
                told |= {"material": material, "measures": plan}
                program = "harness.load"
            else:
                graph = manifest.load(place.models, workload.detector).graph
                images = [] if material["raw"] else material["files"]
                told = {"graph": str(graph), "processes": DETECT_PROCESSES, "images": images, "measures": plan}
                program = "harness.engine"
            client = [place.python(peer.environment), "-m", program, json.dumps(told)]
            return _measured(peer, place, server, client, expected, plan)
    finally:
        if left := leftovers.remove():
            print(f"  {peer.name:16} left in /dev/shm, removed: {', '.join(left)}", flush=True)


def give_up(server: Server, client: subprocess.Popen, heard: Heard) -> None:
    """End a client whose server died before it ever answered: it would wait for long."""
    while not heard.answered.wait(LOOK_S) and client.poll() is None:
        if not server.is_alive():
            heard.server_died_first.set()
            client.kill()
            return


def _measured(
    peer: Peer, place: Place, server: Server | None, client: list[str], expected: list[int], plan: list[dict]
) -> dict[str, dict]:
    path = {"PYTHONPATH": f"{ROOT / 'bench'}:{ROOT / 'clients/python'}", "ORT_DISABLE_TELEMETRY": "1"}
    patience = START_S + sum(LEEWAY * (measure["seconds"] + measure["warmup"]) for measure in plan)
    complaints = place.folder / "client.log"
    with (
        complaints.open("w") as errors,
        subprocess.Popen(
            client,
            cwd=ROOT,
            env=os.environ | path,
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
            start_new_session=True,
        ) as process,
    ):
        heard = Heard(peer, server, process.pid, expected, plan)
        overdue = threading.Timer(patience, process.kill)
        overdue.daemon = True
        overdue.start()
        if server:
            threading.Thread(target=give_up, args=(server, process, heard), daemon=True).start()
        try:
            for line in process.stdout:
                heard.line(line)
            process.wait()
        finally:
            overdue.cancel()
            heard.close()
            Held(process.pid).kill()
    if process.returncode:
        why = [complaints.read_text()[-COMPLAINT_CHARS:], server.log()[-COMPLAINT_CHARS:] if server else ""]
        ended = f"the client of {peer.name} ended with {process.returncode}; it has {patience:.0f} s"
        if heard.server_died_first.is_set():
            ended = f"the server of {peer.name} died before it answered"
        raise SessionError("\n".join([ended, *why]))
    if server and not server.is_alive():
        heard.server_died()
    return heard.results
