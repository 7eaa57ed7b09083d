#!/usr/bin/env python3
"""Measures the pipeline `paper`'s detector (ResNet18 of 4 classes at 416) in PyTorch on a GPU.

It is the reference that framepipe's INT8 kernels are compared with (docs/gpu.md): FP16, channels last, cuDNN's own
choice of kernels, the whole network recorded as one CUDA graph a batch. Random weights: they say nothing of accuracy.
Prints JSON lines: batch, samples a second (median of rounds; lowest, highest), milliseconds a batch.

Needs PyTorch with CUDA, and nothing of framepipe's.
"""

import argparse
import json
import statistics
import time

import torch
from torch import nn


class Block(nn.Module):
    """Two convolutions and what goes past them: N x channels x H x W to N x out x H/stride x W/stride."""

    def __init__(self, channels: int, out: int, stride: int) -> None:
        """Make both convolutions, and a third for what goes past them where shapes differ."""
        super().__init__()
        self.first = nn.Conv2d(channels, out, 3, stride, 1)
        self.second = nn.Conv2d(out, out, 3, 1, 1)
        self.shortcut = nn.Conv2d(channels, out, 1, stride) if stride != 1 or channels != out else nn.Identity()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Add what went past to what was convolved."""
        return torch.relu(self.second(torch.relu(self.first(x))) + self.shortcut(x))


class Detector(nn.Module):
    """As scripts/models/throughput_models.py builds it, batch norms folded."""

    def __init__(self) -> None:
        """Make all layers, with random weights."""
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 64, 7, 2, 3), nn.ReLU(), nn.MaxPool2d(3, 2, 1))
        widths = [(64, 64, 1), (64, 128, 2), (128, 256, 2)]
        self.body = nn.Sequential(*(nn.Sequential(Block(i, o, s), Block(o, o, 1)) for i, o, s in widths))
        self.deep = nn.Sequential(Block(256, 512, 2), Block(512, 512, 1))
        self.heads = nn.ModuleList(
            nn.Sequential(nn.Conv2d(width, 256, 3, 1, 1), nn.ReLU(), nn.Conv2d(256, 27, 1)) for width in (256, 512)
        )

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Give both heads' maps, N x 27 x 26 x 26 and N x 27 x 13 x 13, of N x 3 x 416 x 416."""
        middle = self.body(self.stem(x))
        return self.heads[0](middle), self.heads[1](self.deep(middle))


def rate(model: nn.Module, batch: int, rounds: int, seconds: float) -> dict[str, float]:
    """Measure one size of batch: `rounds` of about `seconds` each, after one that warms up."""
    images = torch.randn(batch, 3, 416, 416, device="cuda", dtype=torch.float16).to(memory_format=torch.channels_last)
    stream = torch.cuda.Stream()
    with torch.cuda.stream(stream):
        for _ in range(5):
            model(images)
    stream.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        model(images)
    graph.replay()
    torch.cuda.synchronize()
    alone = []
    for _ in range(20):
        start = time.perf_counter()
        graph.replay()
        torch.cuda.synchronize()
        alone.append(time.perf_counter() - start)
    once = statistics.median(alone)
    count = max(1, round(seconds / once))
    rates = []
    for _ in range(rounds):
        start = time.perf_counter()
        for _ in range(count):
            graph.replay()
        torch.cuda.synchronize()
        rates.append(count * batch / (time.perf_counter() - start))
    return {
        "batch": batch,
        "per_second": statistics.median(rates),
        "from": min(rates),
        "to": max(rates),
        "batch_ms": once * 1e3,
    }


def main() -> None:
    """Measure each size of batch, and print a line of JSON for each."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--batches", default="1,2,4,8,16,32,64", help="sizes of batches (default %(default)s)")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=0.3, help="of each round (default %(default)s)")
    arguments = parser.parse_args()
    torch.backends.cudnn.benchmark = True
    model = Detector().eval().half().cuda().to(memory_format=torch.channels_last)
    print(json.dumps({"torch": torch.__version__, "gpu": torch.cuda.get_device_name()}))
    with torch.inference_mode():
        for batch in map(int, arguments.batches.split(",")):
            print(json.dumps(rate(model, batch, arguments.rounds, arguments.seconds)), flush=True)


if __name__ == "__main__":
    main()
