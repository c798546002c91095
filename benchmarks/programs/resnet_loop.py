"""A ResNet trained on CIFAR-like images a few steps at a time, when it is told to. Arguments: a socket, a
way, a model, a batch size. Each line received holds a number of steps; the answer is their images per second.

`ours` is the training project as it stands: its Trainer, its step, reports included. `reference` is what most
tutorials give: torchvision's transforms on PIL images in DataLoader workers, float32, channels first, plain
SGD, `loss.item()` in each step.
"""

from __future__ import annotations

import json
import os
import socket
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from torch import nn

sys.path[:0] = [str(Path(__file__).parents[2] / "training"), str(Path(__file__).parents[2])]

IMAGES, CLASSES = 6400, 100
WORKERS = 2
MEAN, DEVIATION = (0.507, 0.487, 0.441), (0.267, 0.256, 0.276)


def main() -> None:
    path, way, model, batch = *sys.argv[1:4], int(sys.argv[4])
    step = {"ours": ours, "reference": reference}[way](model, batch)
    step()
    with socket.socket(socket.AF_UNIX) as sock:
        sock.connect(path)
        lines = sock.makefile("rw")
        print(json.dumps({"way": way, "pid": os.getpid()}), file=lines, flush=True)
        for line in lines:
            began = time.perf_counter()
            for _ in range(int(line)):
                step()
            print(int(line) * batch / (time.perf_counter() - began), file=lines, flush=True)


def pictures(count: int = IMAGES) -> tuple[torch.Tensor, torch.Tensor]:
    """Bytes N×32×32×3 and labels. What they show does not change how long they take."""
    chance = torch.Generator().manual_seed(0)
    pixels = torch.randint(256, (count, 32, 32, 3), dtype=torch.uint8, generator=chance)
    return pixels, torch.randint(CLASSES, (count,), generator=chance)


def make_trainer(
    name: str, batch: int, images: int = IMAGES, compiles: bool = False, **knobs: str
) -> tuple[Any, Callable[[], None]]:
    """The training project's Trainer with what makes it step on for ever. `compiles`: whether it may."""
    import compiling
    from data import DataSet, Images
    from model import build
    from ranks import Ranks
    from settings import Settings
    from train import Trainer

    shown = Images(*pictures(images))
    dataset = DataSet("made-up", CLASSES, shown, Images(shown.pixels[:1], shown.labels[:1]), mirrored=True)
    ranks = Ranks.from_environment(os.environ)
    env = {
        "MODEL": name,
        "BATCH_SIZE": str(batch),
        "BATCH_SIZE_PER_GPU": str(batch),
        "EPOCHS": "1000",
        **knobs,
    }
    settings = Settings.read(env, bf16=ranks.has_bf16, compiles=compiles)
    ranks.connect(settings.deterministic)
    os.chdir(tempfile.mkdtemp(dir=os.environ["BENCHMARK_DIR"]))
    model = build(name, CLASSES).to(ranks.device, memory_format=torch.channels_last)
    trainer = Trainer(settings, model, dataset, ranks)
    compiling.settle(trainer)
    trainer.model.train()
    trainer.begin_feed()

    def step() -> None:
        if not trainer.progress.steps_left:
            trainer.progress.next_epoch()
            trainer.begin_feed()
        trainer.step()
        if trainer.progress.step % settings.report_interval == 0:
            trainer.publish()

    return trainer, step


def ours(name: str, batch: int) -> Callable[[], None]:
    return make_trainer(name, batch)[1]


def reference(name: str, batch: int) -> Callable[[], None]:
    import torchvision
    from PIL import Image
    from torch.utils.data import DataLoader, Dataset
    from torchvision import transforms

    pixels, labels = pictures()
    made = transforms.Compose([
        transforms.RandomCrop(32, padding=4), transforms.RandomHorizontalFlip(), transforms.ToTensor(),
        transforms.Normalize(MEAN, DEVIATION),
    ])  # fmt: skip

    class Cifar(Dataset[Any]):  # type: ignore[misc]  # torch is not looked into
        def __len__(self) -> int:
            return len(labels)

        def __getitem__(self, index: int) -> Any:
            return made(Image.fromarray(pixels[index].numpy())), int(labels[index])

    model = getattr(torchvision.models, name)(num_classes=CLASSES)
    model.conv1 = nn.Conv2d(3, 64, 3, padding=1, bias=False)
    model.maxpool = nn.Identity()
    model.train()
    criterion = nn.CrossEntropyLoss()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9, weight_decay=5e-4)
    loader = DataLoader(Cifar(), batch_size=batch, shuffle=True, num_workers=WORKERS, drop_last=True)

    def forever() -> Iterator[Any]:
        while True:
            yield from loader

    batches = forever()

    def step() -> None:
        images, targets = next(batches)
        optimizer.zero_grad()
        outputs = model(images)
        loss = criterion(outputs, targets)
        loss.backward()
        optimizer.step()
        loss.item()
        (outputs.argmax(1) == targets).sum().item()

    return step


if __name__ == "__main__":
    main()
