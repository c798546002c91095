"""The images: CIFAR in torchvision's layout on disk, or scikit-learn's handwritten digits.

`load` gives a whole data set in memory; `ensure` downloads one that is missing. Files are taken as they
are, whatever their checksum, so that a subset or one's own images in the same layout work too.
To train on something else, add a function that returns a `DataSet`, and its name to DATASETS.
"""

from __future__ import annotations

import hashlib
import pickle
import socket
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

SIZE = 32


class DataError(Exception):
    """The images are missing or are not what they should be; the message says what to do."""


@dataclass(frozen=True)
class Images:
    """One split."""

    pixels: Tensor  # uint8, N × 32 × 32 × 3: channels last, as a picture lies in memory
    labels: Tensor  # int64, N

    def __len__(self) -> int:
        return len(self.labels)

    def to(self, device: torch.device) -> Images:
        return Images(self.pixels.to(device), self.labels.to(device))


@dataclass(frozen=True)
class DataSet:
    name: str
    classes: int
    train: Images
    test: Images
    mirrored: bool  # whether the mirror image of a picture shows the same class

    def fingerprint(self) -> str:
        """Twelve hexadecimal digits that change with any pixel or label."""
        digest = hashlib.sha256()
        for split in (self.train, self.test):
            digest.update(split.pixels.numpy().data)
            digest.update(split.labels.numpy().data)
        return digest.hexdigest()[:12]

    def statistics(self) -> tuple[Tensor, Tensor]:
        """Mean and standard deviation of each channel over the training images, of values 0 … 1. The latter
        is 1/255 at least: a channel that is the same in all images will be divided by it."""
        counts = torch.stack(
            [torch.bincount(self.train.pixels[..., c].flatten(), minlength=256) for c in range(3)]
        )
        values = torch.arange(256, dtype=torch.float64) / 255
        shares = counts.double() / counts.sum(1, keepdim=True)
        mean = shares @ values
        return mean.float(), (shares @ values.square() - mean.square()).clamp_min(255**-2).sqrt().float()


@dataclass(frozen=True)
class Layout:
    """Where the parts of a data set lie below its folder."""

    folder: str
    train: tuple[str, ...]
    test: tuple[str, ...]
    labels: str
    classes: int
    torchvision: str  # the class that downloads it
    url: str


CIFAR = {
    "cifar100": Layout(
        folder="cifar-100-python",
        train=("train",),
        test=("test",),
        labels="fine_labels",
        classes=100,
        torchvision="CIFAR100",
        url="https://www.cs.toronto.edu/~kriz/cifar-100-python.tar.gz",
    ),
    "cifar10": Layout(
        folder="cifar-10-batches-py",
        train=tuple(f"data_batch_{number}" for number in range(1, 6)),
        test=("test_batch",),
        labels="labels",
        classes=10,
        torchvision="CIFAR10",
        url="https://www.cs.toronto.edu/~kriz/cifar-10-python.tar.gz",
    ),
}
DATASETS = (*CIFAR, "digits")


def load(name: str, data_dir: str) -> DataSet:
    """The whole data set on the CPU; raises DataError."""
    if name == "digits":
        return load_digits()
    layout = CIFAR[name]
    folder = find(layout, Path(data_dir))
    if folder is None:
        raise DataError(missing(name, data_dir))
    train, test = (read_split(folder, files, layout) for files in (layout.train, layout.test))
    return DataSet(name, layout.classes, train, test, mirrored=True)


def ensure(name: str, data_dir: str) -> None:
    """Download the data set where it is missing; raises DataError. Several jobs may do so at once."""
    if name == "digits" or find(CIFAR[name], Path(data_dir)):
        return
    layout, root = CIFAR[name], Path(data_dir).resolve()
    try:
        root.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=root, prefix=".download-") as scratch:
            download(layout, scratch)
            Path(scratch, layout.folder).rename(root / layout.folder)
    except (OSError, RuntimeError) as error:
        if find(layout, root):
            return  # another job was faster
        raise DataError(f"{missing(name, data_dir)}\nDownloading it failed: {error}") from error


def download(layout: Layout, folder: str) -> None:
    """Let torchvision fetch, check and unpack the archive."""
    from torchvision import datasets

    print(f"downloading {layout.url}", flush=True)
    patience = socket.getdefaulttimeout()
    socket.setdefaulttimeout(30)  # torchvision sets none, and would wait for ever behind a silent firewall
    try:
        getattr(datasets, layout.torchvision)(folder, download=True)
    finally:
        socket.setdefaulttimeout(patience)


def find(layout: Layout, data_dir: Path) -> Path | None:
    """The folder that holds the files: `data_dir` or the usual one in it."""
    for folder in (data_dir / layout.folder, data_dir):
        try:
            present = [name for name in layout.train + layout.test if (folder / name).is_file()]
        except OSError as error:
            raise DataError(f"DATA_DIR: {folder} cannot be read: {error.strerror}") from error
        if len(present) == len(layout.train + layout.test):
            return folder
        if present:
            absent = sorted({*layout.train, *layout.test} - {*present})
            raise DataError(f"{folder}: holds {', '.join(present)}, but {', '.join(absent)} is missing")
    return None


def missing(name: str, data_dir: str) -> str:
    layout = CIFAR[name]
    where = Path(data_dir).absolute()
    return (
        f"{name} is not in {where}. Unpack {layout.url} there, so that {where / layout.folder}/ holds "
        f"{', '.join(layout.train + layout.test)}; or set DATA_DIR to where it lies; or try DATASET=digits, "
        f"which needs no download"
    )


def read_split(folder: Path, files: tuple[str, ...], layout: Layout) -> Images:
    parts = [read_file(folder / name, layout) for name in files]
    planes = np.concatenate([pixels for pixels, _ in parts]).reshape(-1, 3, SIZE, SIZE)
    pixels = np.ascontiguousarray(planes.transpose(0, 2, 3, 1))
    return Images(torch.from_numpy(pixels), torch.from_numpy(np.concatenate([labels for _, labels in parts])))


def read_file(path: Path, layout: Layout) -> tuple[Any, Any]:
    """(pixels N × 3072, labels N) of one pickle, whose keys are text, or bytes as Python 2 wrote them."""
    try:
        with path.open("rb") as file:
            entry = pickle.load(file, encoding="latin1")
        entry = {key.decode() if isinstance(key, bytes) else key: value for key, value in entry.items()}
        pixels, given = np.asarray(entry["data"]), np.asarray(entry[layout.labels])
        labels = given.astype(np.int64)
    except Exception as error:  # a damaged pickle may raise whatever there is
        found = f"{type(error).__name__} {error}".strip()
        raise DataError(f"{path}: not a file of {layout.torchvision}, or damaged: {found}") from error
    if labels.ndim != 1 or not np.array_equal(labels, given):
        raise DataError(
            f"{path}: expected a list of whole numbers as labels, found {given.dtype} {given.shape}"
        )
    if pixels.dtype != np.uint8 or pixels.shape != (len(labels), 3 * SIZE * SIZE):
        found = f"{pixels.dtype} {pixels.shape}"
        raise DataError(f"{path}: expected bytes N × 3072 for N = {len(labels)} labels, found {found}")
    strange = [label for label in labels.tolist() if not 0 <= label < layout.classes]
    if strange or len(labels) == 0:
        found = strange[0] if strange else "none"
        raise DataError(f"{path}: expected labels from 0 to {layout.classes - 1}, found {found}")
    return pixels, labels


def load_digits() -> DataSet:
    """1,797 handwritten digits of 8×8 grey pixels, enlarged; every fifth is held out for the test."""
    try:
        from sklearn.datasets import load_digits as load_grey
    except ImportError as error:
        raise DataError("DATASET=digits comes with scikit-learn: pip install scikit-learn") from error
    grey, labels = load_grey(return_X_y=True)
    small = torch.from_numpy(grey).float().view(-1, 1, 8, 8) * (255 / 16)
    large = torch.nn.functional.interpolate(small, SIZE, mode="bilinear").round().to(torch.uint8)
    pixels = large.permute(0, 2, 3, 1).expand(-1, -1, -1, 3).contiguous()
    held_out = torch.arange(len(labels)) % 5 == 4
    train, test = (
        Images(pixels[chosen], torch.from_numpy(labels)[chosen]) for chosen in (~held_out, held_out)
    )
    return DataSet("digits", 10, train, test, mirrored=False)
