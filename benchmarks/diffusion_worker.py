"""What the contestants of `benchmarks/diffusion.py` share: being told what to do, and clocks.

A contestant is a process of its own. It says in one line of JSON that it is ready, then answers each line of its
standard input (`train` or `sample`) with one line of JSON, and ends with its input.
"""

from __future__ import annotations

import json
import os
import resource
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any

import torch

ANSWERS = os.fdopen(os.dup(1), "w")
os.dup2(2, 1)  # what libraries print goes to stderr


def say(**facts: Any) -> None:
    print(json.dumps(facts), file=ANSWERS, flush=True)


def orders() -> Iterator[str]:
    for line in sys.stdin:
        yield line.strip()


class Clock:
    """Wall and processor seconds since it was made; the accelerator's work included."""

    def __init__(self, device: str) -> None:
        self.device = device
        self.wall, self.cpu = time.perf_counter(), time.process_time()

    def read(self) -> dict[str, float]:
        if self.device.startswith("cuda"):
            torch.cuda.synchronize()
        return {"seconds": time.perf_counter() - self.wall, "cpu": time.process_time() - self.cpu}


def peak_bytes(device: str) -> int:
    if device.startswith("cuda"):
        return int(torch.cuda.max_memory_allocated())
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def inputs(batch: int, seed: int = 0) -> dict[str, torch.Tensor]:
    """The same noise for everybody: conditioning with 4 empty rows, guide 8×8 and target 128×128 in [0, 1]."""
    draws = torch.Generator().manual_seed(seed)
    mask = torch.ones(batch, 256, dtype=torch.bool)
    mask[:, 252:] = False
    return {
        "conditioning": torch.randn(batch, 256, 768, generator=draws) * mask[..., None],
        "mask": mask,
        "guide": torch.rand(batch, 3, 8, 8, generator=draws),
        "target": torch.rand(batch, 3, 128, 128, generator=draws),
    }


def training_flops(step: Callable[[], torch.Tensor]) -> int:
    """Multiplications and additions of matrices and convolutions in a forward and backward pass."""
    from torch.utils.flop_counter import FlopCounterMode

    with FlopCounterMode(display=False) as counter:
        step().sum().backward()
    return counter.get_total_flops()
