"""Measure a server: first answer, time of one slice, requests a second, memory, its description; and the exported page.

    python benchmarks/serving.py RUN [--requests 20000] [--examples 200] [--seconds 20]

RUN is the directory of a network's run; docs/serving.md has the figures. Everything is asked on this machine.
"""

import argparse
import http.client
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import IO

import numpy as np

from mriscope.data.phantom import make_phantom
from mriscope.explain.overlays import png_bytes
from mriscope.reports.model_page import EXAMPLES, page_part

SECRET = "Planted^Name"
CLIENTS = 8


def main() -> None:
    parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    parser.add_argument("run", type=Path)
    parser.add_argument("--requests", type=int, default=20_000, help="for the memory")
    parser.add_argument("--examples", type=int, default=200, help="of each operation and mode of the description")
    parser.add_argument("--seconds", type=float, default=20, help="for each speed")
    asked = parser.parse_args()
    bodies = [body_of(f"{row}.png", png_bytes(image)) for row, image in enumerate(make_phantom(8, 4).slices.images)]
    with tempfile.TemporaryFile("w+") as log, served(asked.run, log) as (port, process, begun):
        status, _ = ask(http.client.HTTPConnection("127.0.0.1", port), bodies[0])
        assert status == 200
        took = time.perf_counter() - begun
        print(f"{os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}")
        print(f"start to first answer: {took:.2f} s ({processor(process):.2f} s of processor time)")
        print(describe_times(one_by_one(port, bodies, asked.seconds)))
        before = processor(process)
        rate = side_by_side(port, bodies, asked.seconds)
        each = 1000 * (processor(process) - before) / (rate * asked.seconds)
        print(f"{CLIENTS} clients: {rate:.0f} requests/s, {each:.1f} ms of the server's processor time each")
        print(describe_memory(port, process, bodies, asked.requests))
        print(describe_schema(port, asked.examples))
        log.seek(0)
        assert SECRET not in log.read()
    print(describe_page(asked.run))


@contextmanager
def served(run: Path, log: IO[str]) -> Iterator[tuple[int, int, float]]:
    begun = time.perf_counter()
    command = [sys.executable, "-m", "mriscope", "serve", str(run), "--port", "0", "--device", "cpu"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=log, text=True) as server:
        assert server.stdout is not None
        try:
            yield int(server.stdout.readline().split(":")[2].split("/")[0]), server.pid, begun
        finally:
            server.send_signal(signal.SIGINT)


def body_of(name: str, content: bytes) -> bytes:
    head = f'--limit\r\nContent-Disposition: form-data; name="file"; filename="{name}"\r\n\r\n'
    return head.encode() + content + b"\r\n--limit--\r\n"


def ask(connection: http.client.HTTPConnection, body: bytes, path: str = "/api/v1/predict") -> tuple[int, bytes]:
    connection.request("POST", path, body, {"Content-Type": "multipart/form-data; boundary=limit"})
    answer = connection.getresponse()
    return answer.status, answer.read()


def one_by_one(port: int, bodies: list[bytes], seconds: float) -> list[float]:
    """Return the seconds of each request of one client."""
    connection, times, end = http.client.HTTPConnection("127.0.0.1", port), [], time.perf_counter() + seconds
    while (begin := time.perf_counter()) < end:
        status, _ = ask(connection, bodies[len(times) % len(bodies)])
        assert status == 200
        times.append(time.perf_counter() - begin)
    return times[10:]


def describe_times(times: list[float]) -> str:
    median, late = statistics.median(times), float(np.quantile(times, 0.95))
    return f"one slice, one client: median {1000 * median:.1f} ms, p95 {1000 * late:.1f} ms of {len(times):,} requests"


def side_by_side(port: int, bodies: list[bytes], seconds: float) -> float:
    with ThreadPoolExecutor(CLIENTS) as clients:
        counts = clients.map(lambda _: len(one_by_one(port, bodies, seconds)) + 10, range(CLIENTS))
        return sum(counts) / seconds


def describe_memory(port: int, process: int, bodies: list[bytes], count: int) -> str:
    """Send requests of every kind, and fit a line to the server's memory."""
    kinds = [*((body, 200) for body in bodies), (body_of(SECRET, b"no picture"), 422)]
    kinds += [(body_of(name, page_part(f"examples/{name}")), 200) for name in EXAMPLES]
    done, lock, seen = [0], threading.Lock(), []

    def client(_: int) -> int:
        connection, failures = http.client.HTTPConnection("127.0.0.1", port), 0
        while True:
            with lock:
                number = done[0]
                done[0] += 1
                if number % (count // 40) == 0:
                    seen.append((number, resident(process)))
            if number >= count:
                return failures
            body, expected = kinds[number % len(kinds)]
            status, content = ask(connection, body)
            failures += status != expected or (expected == 200 and SECRET.encode() in content)

    with ThreadPoolExecutor(CLIENTS) as clients:
        failures = sum(clients.map(client, range(CLIENTS)))
    later = [(number, memory) for number, memory in seen if number >= count // 10]
    numbers, memory = np.array(later, float).T
    slope = np.polyfit(numbers, memory, 1)[0] * count / 2**20
    return (
        f"{count:,} requests: {failures} unexpected answers, memory {seen[0][1] / 2**20:.0f} to "
        f"{seen[-1][1] / 2**20:.0f} MiB, slope {slope:+.1f} MiB over all of them (after the first tenth)"
    )


def resident(process: int) -> int:
    return int(Path(f"/proc/{process}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def processor(process: int) -> float:
    """Return the seconds of processor time that a process has taken."""
    user, system = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[11:13]
    return (int(user) + int(system)) / os.sysconf("SC_CLK_TCK")


def describe_schema(port: int, count: int) -> str:
    """Send requests that the API's own description gives, right and wrong ones."""
    sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))
    import schemathesis
    from test_serving_schema import MODES, OPERATIONS, check_operation

    schema = schemathesis.openapi.from_url(f"http://127.0.0.1:{port}/openapi.json")
    begin, statuses = time.perf_counter(), set()
    for method, path in OPERATIONS:
        for mode in MODES if method == "POST" else MODES[:1]:
            statuses |= check_operation(schema, method, path, mode, count)
    took = time.perf_counter() - begin
    return f"{count} examples of each operation and mode: no violation, statuses {sorted(statuses)}, {took:.0f} s"


def describe_page(run: Path) -> str:
    """Open the exported page from a disk in Chromium, and click an example."""
    sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))
    from browser import chromium, watched

    from mriscope.workflows.export import export_run

    with tempfile.TemporaryDirectory() as folder, chromium() as browser:
        export_run(run, folder, form="html")
        begin = time.perf_counter()
        with watched(browser, (Path(folder) / "index.html").as_uri()) as shown:
            shown.page.get_by_role("button", name="phantom 1").click()
            shown.page.wait_for_selector("#answer:not([hidden])")
            return f"exported page, from opening it to its first answer: {time.perf_counter() - begin:.2f} s"


if __name__ == "__main__":
    main()
