"""One peer under one workload: its server started, measured by the client's process, ended."""

import json
import os
import random
import signal
import subprocess
import threading
import time
from contextlib import nullcontext

from harness.peers import DETECT_PROCESSES, ROOT, Peer, Place
from harness.process import PeakMemory, cpu_s, machine_busy_s
from harness.server import Server
from harness.workloads import Workload

KILL_EVERY_S = 5.0
START_S = 240
LEEWAY = 3
"""A measure may take so many times as long as its window, and START_S."""


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
            if victims:
                os.kill(self._chance.choice(victims), signal.SIGKILL)
                self.kills_s.append(time.monotonic() - self._begun)


class Costs:
    """What a window costs, by the kernel's books: CPU time of server, client and everybody else, and memory."""

    def __init__(self, server: int, client: int) -> None:
        """Begin. `server` is the client's pid where there is none."""
        self._pids = {"server": server, "client": client} if server != client else {"server": server}
        self._before = {name: cpu_s(pid) for name, pid in self._pids.items()}
        self._busy = machine_busy_s()
        self._begun = time.monotonic()
        self._memory = PeakMemory(server)

    def close(self) -> dict:
        """Return the costs."""
        seconds = time.monotonic() - self._begun
        spent = {f"{name}_cpu_s": cpu_s(pid) - self._before[name] for name, pid in self._pids.items()}
        others = machine_busy_s() - self._busy - sum(spent.values())
        share = min(1.0, max(0.0, others) / seconds / (os.cpu_count() or 1))
        return {**spent, "others_share": share, "pss_peak_bytes": self._memory.close()}


def run(peer: Peer, workload: Workload, place: Place, material: dict, measures: list[dict]) -> dict[str, dict]:
    """Return what was measured, by the measures' names."""
    place.folder.mkdir(parents=True, exist_ok=True)
    command = peer.serve(workload, place)
    measures = [measure for measure in measures if command or measure["kind"] == "throughput"]
    log = place.folder / "server.log"
    with Server(command, log) if command else nullcontext() as server:
        if command:
            plan = {"driver": peer.driver, "address": place.address, "options": peer.options(workload, place)}
            plan |= {"material": material, "measures": measures}
            program = "harness.load"
        else:
            graph = max((place.models / workload.detector).glob("*/model.onnx"))
            measures = [measure for measure in measures if not measure.get("recovery")]
            plan = {"graph": str(graph), "processes": DETECT_PROCESSES, "measures": measures}
            program = "harness.engine"
        client = [place.python(peer.environment), "-m", program, json.dumps(plan)]
        return _measured(peer, place, server, client, measures)


def _measured(
    peer: Peer, place: Place, server: Server | None, client: list[str], measures: list[dict]
) -> dict[str, dict]:
    path = {"PYTHONPATH": f"{ROOT / 'bench'}:{ROOT / 'clients/python'}", "ORT_DISABLE_TELEMETRY": "1"}
    patience = START_S + sum(LEEWAY * (measure["seconds"] + measure["warmup"]) for measure in measures)
    recoveries = {measure["name"] for measure in measures if measure.get("recovery")}
    results, costs, killer = {}, None, None
    complaints = place.folder / "client.log"
    with (
        complaints.open("w") as errors,
        subprocess.Popen(
            client, cwd=ROOT, env=os.environ | path, stdout=subprocess.PIPE, stderr=errors, text=True
        ) as process,
    ):
        overdue = threading.Timer(patience, process.kill)
        overdue.start()
        for line in process.stdout:
            said = json.loads(line)
            if name := said.get("begin"):
                costs = Costs(server.pid if server else process.pid, process.pid)
                killer = Killer(peer, server, time.monotonic()) if name in recoveries else None
            elif name := said.get("end"):
                results[name] = costs.close() | ({"kills_s": killer.close()} if killer else {})
                killer = None
            elif name := said.pop("measured", None):
                results[name] = results.get(name, {}) | said
        overdue.cancel()
        if killer:
            killer.close()
    if process.returncode:
        why = [complaints.read_text()[-2000:], server.log()[-2000:] if server else ""]
        raise SessionError(f"the client of {peer.name} ended with {process.returncode}:\n" + "\n".join(why))
    if server and not server.is_alive():
        for name in recoveries:
            results[name]["server_died"] = True
    return results
