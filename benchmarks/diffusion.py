"""Training and sampling rates of the presets `paper` and `base` beside imagen-pytorch, on one device in one run.

    python benchmarks/diffusion.py [--unet 1 2] [--batch N] [--steps N] [--width SHARE] [--device cuda]
                                   [--peers-python PYTHON] [--snapshot-export FOLDER] [--together] [--out FILE.json]

PYTHON is that of an environment with `benchmarks/requirements-imagen.txt`; without it imagen-pytorch is left out. Each
contestant is a process of its own (diffusion_ours.py, diffusion_imagen.py); they take turns: step by step with
`--together` (all of them in memory at once), else process by process, `--rounds` times. Its first step, with compiling
and warming up, is told apart. Rates are those of the median step; on a busy machine `--clock cpu` takes the seconds of
the processor instead of the wall's, which with one thread say what an idle core would need.

A step is a whole one: batch, forward, backward, optimiser, average. FLOPs are those of matrices and convolutions, as
torch counts them; MFU is their rate against the fastest square matrix product of the run, in the same precision.
Sampling is measured over a few solver steps: one branch (scale 1), one network call a step; an image costs as many
calls as the contestant has steps.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import torch

HERE = Path(__file__).parent
Figures = dict[str, Any]


def contestants(given: argparse.Namespace, unet: int) -> dict[str, Figures]:
    """What each worker is told, by name; the order is that of the turns."""
    common = {
        "unet": unet,
        "batch": given.batch,
        "width": given.width,
        "device": given.device,
        "threads": given.threads,
    }
    ours = common | {"export": given.snapshot_export and str(given.snapshot_export)}
    peer = common | {"precision": "bf16", "sampling_steps": given.sampling_steps}
    found = {"paper": ours | {"preset": "paper"}, "base": ours | {"preset": "base"}}
    if unet == 2:
        found["base, whole images"] = ours | {"preset": "base", "training": {"crop": 0}}
    if given.peers_python:
        found["imagen-pytorch bf16"] = peer
        if unet == 2:
            found["imagen-pytorch bf16, crops"] = peer | {"crop": 64}
    if given.departures:
        without = {"precision": "fp32"}
        found["base in float32"] = ours | {"preset": "base", "training": without}
        for switch in ("fused", "channels_last"):
            found[f"base without {switch}"] = ours | {"preset": "base", "without": [switch]}
    return {name: told for name, told in found.items() if not given.only or name in given.only}


class Worker:
    """A contestant's process."""

    def __init__(self, name: str, told: Figures, given: argparse.Namespace) -> None:
        imagen = name.startswith("imagen")
        python = given.peers_python if imagen else Path(sys.executable)
        script = HERE / ("diffusion_imagen.py" if imagen else "diffusion_ours.py")
        self.name = name
        environment = {**os.environ, "OMP_NUM_THREADS": str(given.threads)}
        self.process = subprocess.Popen(
            [str(python), str(script), json.dumps(told)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment,
            stderr=None if given.verbose else subprocess.DEVNULL,
        )  # fmt: skip
        self.facts = self._answer()

    def ask(self, order: str) -> Figures:
        assert self.process.stdin is not None
        self.process.stdin.write(order + "\n")
        self.process.stdin.flush()
        return self._answer()

    def close(self) -> None:
        self.process.communicate()

    def _answer(self) -> Figures:
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line:
            raise SystemExit(f"{self.name} ended with code {self.process.wait()}; --verbose shows what it said")
        answer: Figures = json.loads(line)
        return answer


@contextmanager
def running(told: dict[str, Figures], given: argparse.Namespace) -> Iterator[list[Worker]]:
    with ExitStack() as stack:
        workers = []
        for name, each in told.items():
            workers.append(Worker(name, each, given))
            stack.callback(workers[-1].close)
        yield workers


def measure(given: argparse.Namespace, unet: int) -> dict[str, Figures]:
    """Raw figures of each contestant: facts, its first step, its steps, and calls when sampling."""
    told = contestants(given, unet)
    groups = [told] if given.together else [{name: each} for name, each in told.items()] * given.rounds
    found: dict[str, Figures] = {name: {"train": [], "sample": [], "first": []} for name in told}
    for group in groups:
        with running(group, given) as workers:
            for worker in workers:
                found[worker.name] |= worker.facts
                found[worker.name]["first"].append(worker.ask("train")["seconds"])
            for _ in range(given.steps):
                for worker in workers:
                    found[worker.name]["train"].append(worker.ask("train"))
            for worker in workers:
                if given.sampling_steps:
                    found[worker.name]["sample"].append(worker.ask(f"sample {given.sampling_steps}"))
                steps = [round(line["seconds"], 2) for line in found[worker.name]["train"]]
                cpu = [round(line["cpu"], 2) for line in found[worker.name]["train"]]
                called = [round(line["cpu"], 2) for line in found[worker.name]["sample"]]
                print(
                    f"U-Net {unet}, {worker.name}: steps {steps} s, processor {cpu} s, sampling {called} s",
                    file=sys.stderr,
                    flush=True,
                )
    return found


def figures(raw: Figures, given: argparse.Namespace, peaks: dict[str, float], precision: str) -> Figures:
    clock = "cpu" if given.clock == "cpu" else "seconds"
    step = statistics.median(line[clock] for line in raw["train"])
    waited = statistics.median(line["waited"] for line in raw["train"])
    flops = raw["flops"] * given.batch / step
    found = {
        "M parameters": round(raw["parameters"] / 1e6, 1),
        "GFLOP a sample": round(raw["flops"] / 1e9, 1),
        "share of image": raw["crop share"],
        "first step, s": round(max(raw["first"]), 1),
        "step, s": round(step, 3),
        "fastest step, s": round(min(line[clock] for line in raw["train"]), 3),
        "samples/s": round(given.batch / step, 3),
        "TFLOP/s": round(flops / 1e12, 3),
        "MFU": round(flops / 1e12 / peaks[precision], 3),
        "waiting for data": round(waited / (waited + statistics.median(line["seconds"] for line in raw["train"])), 4),
        "peak MiB": round(max(line["memory"] for line in raw["train"]) / 2**20),
        "torch": raw["torch"],
    }
    if raw["sample"]:
        call = statistics.median(line[clock] for line in raw["sample"]) / given.sampling_steps
        image = call * raw["calls"] / given.batch
        found |= {"call, s": round(call, 3), "calls": raw["calls"], "image, s": round(image, 2)}
    return found


def matrix_peaks(device: str, threads: int, clock: str) -> dict[str, float]:
    """TFLOP/s of the fastest of several square matrix products, in float32 and bfloat16."""
    torch.set_num_threads(threads)
    size, found = 8192 if device.startswith("cuda") else 2048, {}
    now = time.process_time if clock == "cpu" else time.perf_counter
    for name, dtype in (("fp32", torch.float32), ("bf16", torch.bfloat16)):
        a = torch.randn(size, size, device=device).to(dtype)
        best = float("inf")
        for _ in range(8):
            start = now()
            a @ a
            if device.startswith("cuda"):
                torch.cuda.synchronize()
            best = min(best, now() - start)
        found[name] = round(2 * size**3 / best / 1e12, 3)
    return found


def table(shown: dict[str, Figures]) -> str:
    """Contestants as columns."""
    names = list(shown)
    lines = ["| | " + " | ".join(names) + " |", "|---" * (len(names) + 1) + "|"]
    for key in dict.fromkeys(key for each in shown.values() for key in each):
        lines.append(f"| {key} | " + " | ".join(str(shown[name].get(key, "")) for name in names) + " |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--unet", type=int, nargs="+", choices=(1, 2), default=[1, 2])
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--steps", type=int, default=3, help="training steps of each turn, after the first")
    parser.add_argument("--rounds", type=int, default=2, help="turns of each process, unless --together")
    parser.add_argument("--sampling-steps", type=int, default=3, help="solver steps that are timed; 0 = none")
    parser.add_argument("--width", type=float, default=1.0, help="share of the widths, e.g. 0.5 where memory is short")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--clock", choices=("wall", "cpu"), default="wall", help="cpu: with one thread, busy machine")
    parser.add_argument("--together", action="store_true", help="all contestants in memory, step by step in turn")
    parser.add_argument("--departures", action="store_true", help="base without each of its departures too")
    parser.add_argument("--only", nargs="+", help="names of contestants")
    parser.add_argument("--peers-python", type=Path, help="Python of an environment with requirements-imagen.txt")
    parser.add_argument("--snapshot-export", type=Path, help="feed ours from this export instead of from memory")
    parser.add_argument("--out", type=Path, help="JSON to write, beside printing it")
    parser.add_argument("--verbose", action="store_true", help="show what the contestants say")
    given = parser.parse_args()
    if given.clock == "cpu" and (given.device != "cpu" or given.threads != 1):
        parser.error("--clock cpu is for --device cpu --threads 1: threads that wait burn processor time too")
    peaks = matrix_peaks(given.device, given.threads, given.clock)
    device = torch.cuda.get_device_name() if given.device.startswith("cuda") else processor()
    report: Figures = {
        "device": device, "load": os.getloadavg(), "matrix peak, TFLOP/s": peaks,
        "fed from": str(given.snapshot_export) if given.snapshot_export else "memory",
        **{key: getattr(given, key) for key in ("batch", "width", "threads", "clock", "steps", "rounds", "together")},
    }  # fmt: skip
    for unet in given.unet:
        shown = {}
        for name, raw in measure(given, unet).items():
            precision = "fp32" if name == "paper" or "float32" in name else "bf16"
            shown[name] = figures(raw, given, peaks, precision)
        peer = shown.get("imagen-pytorch bf16")
        for each in shown.values() if peer else ():
            each["rate / imagen-pytorch"] = round(each["samples/s"] / peer["samples/s"], 2)
        report[f"U-Net {unet}"] = shown
        print(f"\nU-Net {unet}\n\n{table(shown)}\n", flush=True)
    text = json.dumps(report, indent=1)
    print(text)
    if given.out:
        given.out.write_text(text + "\n", "utf-8")


def processor() -> str:
    for line in Path("/proc/cpuinfo").read_text("utf-8").splitlines() if Path("/proc/cpuinfo").exists() else ():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


if __name__ == "__main__":
    main()
