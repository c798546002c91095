"""A small training that uses everything random: what the Checkpointer's tests save and continue."""

from __future__ import annotations

import random
from typing import Any

import numpy
import torch
from torch import nn


class Training:
    """Model, optimizer, scheduler, scaler and data; `step` draws from every generator there is."""

    def __init__(self, seed: int = 0) -> None:
        random.seed(seed)
        numpy.random.seed(seed)
        torch.manual_seed(seed)
        self.model = nn.Sequential(
            nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Dropout(0.5), nn.Linear(144, 4)
        )
        self.optimizer = torch.optim.AdamW(self.model.parameters(), lr=0.01)
        self.scheduler = torch.optim.lr_scheduler.OneCycleLR(self.optimizer, 0.1, total_steps=40)
        self.scaler = torch.amp.GradScaler("cpu", init_scale=2.0, growth_interval=3)
        self.generator = torch.Generator().manual_seed(seed)
        self.progress: dict[str, Any] = {"seen": 0, "losses": []}

    @property
    def objects(self) -> dict[str, Any]:
        names = ("model", "optimizer", "scheduler", "scaler", "generator", "progress")
        return {name: getattr(self, name) for name in names}

    def step(self) -> float:
        images = torch.randn(8, 1, 8, 8, generator=self.generator) * random.random() + numpy.random.rand()
        loss = nn.functional.cross_entropy(self.model(images), torch.randint(4, (8,)))
        self.optimizer.zero_grad()
        self.scaler.scale(loss).backward()
        self.scaler.step(self.optimizer)
        self.scaler.update()
        self.scheduler.step()
        self.progress["seen"] += 8
        self.progress["losses"].append(loss.item())
        return loss.item()

    def fingerprint(self) -> dict[str, Any]:
        """Everything that must be equal, bit for bit."""
        return {
            "model": {name: value.numpy().tobytes() for name, value in self.model.state_dict().items()},
            "optimizer": [
                value.numpy().tobytes() if isinstance(value, torch.Tensor) else value
                for state in self.optimizer.state_dict()["state"].values()
                for value in state.values()
            ],
            "rate": self.scheduler.get_last_lr(),
            "scaler": self.scaler.state_dict(),
            "progress": self.progress,
            "random": (random.random(), float(numpy.random.rand()), torch.rand(1).item()),
        }
