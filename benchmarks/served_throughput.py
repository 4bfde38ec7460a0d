"""Compare the throughput of `visionbench serve` at saturation with that of the same model in this process.

    python benchmarks/served_throughput.py                              # blip2_tiny, batches of 8, about two minutes
    python benchmarks/served_throughput.py --model clip_tiny --batch 16 --rounds 10
    python benchmarks/served_throughput.py --threads 1 --clients 32 precision=bf16

The two take turns. In process: calls with full batches, whose inputs are on the device already. Served: clients in
another process than the server, each with one request at a time, on connections that stay open; there are always more
requests than one batch. The answers are compared with those in process.

The tables divide the time of a served window: that of the thread that calls the model, and that of the cores.
The client shares the cores of this machine with the server. Run it on a quiet machine.
"""

from __future__ import annotations

import argparse
import base64
import json
import re
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from http.client import HTTPConnection
from pathlib import Path
from statistics import median
from time import perf_counter, process_time
from typing import Any

from visionbench import machine, session
from visionbench.commands.serve import build_service
from visionbench.composition import compose_runs
from visionbench.resolve import Resolver
from visionbench.server.app import Service
from visionbench.server.engine import Job
from visionbench.server.gate import Limits
from visionbench.server.reading import ChatRequest

COMMAND = Path(sys.executable).with_name("visionbench")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="blip2_tiny")
    parser.add_argument("--batch", type=int, default=8, help="largest batch of the server, and size in process")
    parser.add_argument("--wait-ms", type=float, default=2.0, help="serving.max_wait_ms")
    parser.add_argument("--clients", type=int, default=0, help="requests at once; by default three batches")
    parser.add_argument("--seconds", type=float, default=6.0, help="seconds of each window")
    parser.add_argument("--rounds", type=int, default=5, help="rounds in which the two take turns")
    parser.add_argument("--threads", type=int, default=None, help="threads of the model; the default is that of torch")
    parser.add_argument("overrides", nargs="*", help="further keys, such as precision=bf16")
    options = parser.parse_args()
    clients = options.clients or 3 * options.batch
    words = [f"model={options.model}", "data.options.samples=64", f"serving.max_batch={options.batch}"]
    words += [f"serving.max_wait_ms={options.wait_ms}", *options.overrides]
    words += [f"device.threads={options.threads}"] if options.threads else []
    service = local_service(words, clients)
    files = [example.image.read_bytes() for example in service.engine.base.loaded.examples]  # type: ignore[attr-defined]
    jobs = [service.engine.prepare(ChatRequest(file, "image", "")) for file in files]
    expected = in_process_answers(service, jobs, options.batch)
    bodies = [request_body(options.model, file) for file in files]
    rounds = []
    with server(words, clients) as port:
        for index in range(options.rounds):
            by_size = seconds_by_size(service, jobs, options.batch, options.seconds)
            before = fetch(port)
            window = saturate(port, bodies, expected, clients, options.seconds)
            rounds.append({**window, "by_size": by_size, "facts": difference(fetch(port), before)})
            print(
                f"round {index + 1}: in process {options.batch / by_size[options.batch]:.0f}, "
                f"served {window['answers'] / window['seconds']:.0f} images/s",
                file=sys.stderr,
            )
    service.close()
    show(rounds, options, clients)


# ----------------------------------------------------------------------------------------------------------- in process
def local_service(words: Sequence[str], clients: int) -> Service:
    """Load the model in this process, by the code of the server. It has no socket."""
    prepared = session.resolve(compose_runs(words, None)[0], Resolver(None))
    return build_service(prepared, Limits(requests=clients))


def in_process_answers(service: Service, jobs: Sequence[Job], size: int) -> list[str]:
    """Return the answer to each job."""
    groups = [jobs[first : first + size] for first in range(0, len(jobs), size)]
    return [answer.text for group in groups for answer in service.engine.call(group)]


def seconds_by_size(service: Service, jobs: Sequence[Job], size: int, seconds: float) -> dict[int, float]:
    """Return the seconds of a call by batch size: two thirds of the time for full batches, the rest for smaller ones.

    The call has no hook for tokens: it is what an evaluation calls.
    """
    import torch

    engine: Any = service.engine
    result = {}
    for count in range(1, size + 1):
        share = seconds * (2 / 3 if count == size else 1 / 3 / max(1, size - 1))
        groups = [jobs[first : first + count] for first in range(0, len(jobs) - count + 1, count)]
        durations, end, index = [], perf_counter() + share, 0
        while perf_counter() < end or len(durations) < 3:
            group = groups[index % len(groups)]
            index += 1
            batch = engine.base.collate([job.inputs for job in group])
            start = perf_counter()
            with torch.inference_mode():
                if hasattr(engine, "evaluator"):
                    engine.evaluator.forward(batch)
                else:
                    engine.model.write(batch, max(job.most_tokens for job in group))
            durations.append(perf_counter() - start)
        result[count] = sum(durations) / len(durations)
    return result


# --------------------------------------------------------------------------------------------------------------- served
@contextmanager
def server(words: Sequence[str], clients: int) -> Iterator[int]:
    """Run `visionbench serve` in a process, and yield its port."""
    process = subprocess.Popen(
        [COMMAND, "serve", *words, "--port", "0", "--max-requests", str(clients + 8)],
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    try:
        for line in process.stdout:
            if match := re.search(r"http://127\.0\.0\.1:(\d+)/v1", line):
                yield int(match[1])
                break
        else:
            raise RuntimeError("the server did not start")
    finally:
        process.terminate()
        process.wait()


def request_body(model: str, file: bytes) -> bytes:
    """Return a request about one image."""
    url = "data:image/jpeg;base64," + base64.b64encode(file).decode()
    parts = [{"type": "text", "text": "Describe."}, {"type": "image_url", "image_url": {"url": url}}]
    return json.dumps({"model": model, "messages": [{"role": "user", "content": parts}]}).encode()


def fetch(port: int) -> dict[str, Any]:
    """Return the sums of the server."""
    connection = HTTPConnection("127.0.0.1", port)
    connection.request("GET", "/v1/visionbench/batches")
    content: dict[str, Any] = json.loads(connection.getresponse().read())
    connection.close()
    return content


def difference(after: Mapping[str, Any], before: Mapping[str, Any]) -> dict[str, Any]:
    """Return the growth of the sums."""
    result: dict[str, Any] = {}
    for key, value in after.items():
        earlier = before.get(key, {} if isinstance(value, dict) else 0)
        result[key] = difference(value, earlier) if isinstance(value, dict) else value - earlier
    return result


def saturate(
    port: int, bodies: Sequence[bytes], expected: Sequence[str], clients: int, seconds: float
) -> dict[str, float]:
    """Send requests from all clients for a time, and return the number of answers, the seconds, and the CPU time."""
    done, wrong = [0] * clients, [0] * clients
    ready = threading.Barrier(clients + 1)
    end = 0.0

    def run(client: int) -> None:
        connection = HTTPConnection("127.0.0.1", port)
        connection.connect()
        ready.wait()
        index = client
        while perf_counter() < end:
            body = bodies[index % len(bodies)]
            connection.request("POST", "/v1/chat/completions", body, {"Content-Type": "application/json"})
            content = json.loads(connection.getresponse().read())
            done[client] += 1
            wrong[client] += content["choices"][0]["message"]["content"] != expected[index % len(bodies)]
            index += clients
        connection.close()

    threads = [threading.Thread(target=run, args=(client,)) for client in range(clients)]
    for thread in threads:
        thread.start()
    start, cpu = perf_counter(), process_time()
    end = start + seconds
    ready.wait()
    for thread in threads:
        thread.join()
    measured = {"answers": sum(done), "wrong": sum(wrong), "seconds": perf_counter() - start}
    return {**measured, "client_cpu": process_time() - cpu}


# --------------------------------------------------------------------------------------------------------------- output
def show(rounds: Sequence[Mapping[str, Any]], options: argparse.Namespace, clients: int) -> None:
    """Print the ratio, and the tables of the round with the median ratio."""
    cores, size = machine.usable_cores(), options.batch
    inside = [size / one["by_size"][size] for one in rounds]
    served = [one["answers"] / one["seconds"] for one in rounds]
    ratios = [mine / other for mine, other in zip(served, inside, strict=True)]
    without_client = [
        one["answers"] / max(one["seconds"] - one["client_cpu"] / cores, 1e-9) / other
        for one, other in zip(rounds, inside, strict=True)
    ]
    print(
        f"{options.model} {' '.join(options.overrides)}: batches of at most {size} after {options.wait_ms:g} ms, "
        f"{clients} requests at once, {cores} cores, "
        f"threads {options.threads or 'as torch chooses'}, {len(rounds)} rounds of {options.seconds:g} s"
    )
    print(
        f"answers that differ from those in process: {sum(one['wrong'] for one in rounds)} of "
        f"{sum(one['answers'] for one in rounds)}\n"
    )
    print(f"{'':52}{'median':>9}{'least':>9}{'most':>9}")
    rows = {
        "in process, calls with full batches, images/s": inside,
        "served, images/s": served,
        "served ÷ in process": ratios,
        "the same, if the client needed no core (upper bound)": without_client,
    }
    for name, values in rows.items():
        digits = 0 if "images/s" in name else 2
        print(f"{name:52}{median(values):9.{digits}f}{min(values):9.{digits}f}{max(values):9.{digits}f}")
    middle = rounds[sorted(range(len(rounds)), key=ratios.__getitem__)[len(rounds) // 2]]
    show_thread(middle, size)
    show_cores(middle, cores)
    show_steps(middle)


def show_thread(one: Mapping[str, Any], size: int) -> None:
    """Print how the thread that calls the model spent a window."""
    facts, by_size, seconds = one["facts"], one["by_size"], one["seconds"]
    sizes = {int(count): number for count, number in facts["batches"].items() if number}
    images = sum(count * number for count, number in sizes.items())
    full = images * by_size[size] / size
    smaller = sum(number * by_size[count] for count, number in sizes.items()) - full
    rows = {
        "the calls of full batches, as fast as in process": full,
        "batches that are not full": smaller,
        "calls that are slower (hooks for tokens, shared cores)": facts["call_s"] - full - smaller,
        "no batch is ready, or the result is handed over": seconds - facts["call_s"],
    }
    print(f"\n{'time of the thread that calls the model':56}{'s':>8}{'share':>8}")
    for name, value in rows.items():
        print(f"{name:56}{value:8.2f}{value / seconds:8.0%}")
    print(f"{'window':56}{sum(rows.values()):8.2f}{sum(rows.values()) / seconds:8.0%}")
    mean = images / max(1, sum(sizes.values()))
    print(f"sizes of batches: mean {mean:.1f}; " + ", ".join(f"{count}: {sizes[count]}" for count in sorted(sizes)))


def show_cores(one: Mapping[str, Any], cores: int) -> None:
    """Print how the cores spent a window."""
    available, server_cpu = cores * one["seconds"], one["facts"]["cpu_s"]
    rows = {
        "server": server_cpu,
        "client": one["client_cpu"],
        "idle, or other processes": available - server_cpu - one["client_cpu"],
    }
    print(f"\n{'time of the cores':56}{'s':>8}{'share':>8}")
    for name, value in rows.items():
        print(f"{name:56}{value:8.2f}{value / available:8.0%}")
    print(f"{'cores × window':56}{sum(rows.values()):8.2f}{sum(rows.values()) / available:8.0%}")


def show_steps(one: Mapping[str, Any]) -> None:
    """Print the mean time of each step of a request. The steps of different requests overlap."""
    names = {
        "receive": "receive: from the headers to the complete body",
        "parse": "parse: JSON and base64",
        "decode": "decode: the image file",
        "preprocess": "preprocess: the processor of the model",
        "wait": "wait: in the queue, for the batch before and for others",
        "respond": "respond: JSON of the answer",
    }
    print(f"\n{'mean time of a request, with waits for a core':56}{'ms':>8}")
    for step, name in names.items():
        print(f"{name:56}{one['facts']['step_s'][step] / one['answers'] * 1000:8.2f}")


if __name__ == "__main__":
    main()
