"""Data sets as they lie on disk, and what is said when they do not."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from augment import Normalise
from data import DataError, DataSet, Images, ensure, load
from tests.training.pictures import entry, write, write_cifar10, write_cifar100

pytestmark = pytest.mark.torch


@pytest.fixture
def offline(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every download meets a closed port."""
    for name in ("http_proxy", "https_proxy", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
        monkeypatch.delenv(name.upper(), raising=False)
    monkeypatch.delenv("no_proxy", raising=False)


def test_cifar100_is_read_as_torchvision_lays_it_out(tmp_path: Path) -> None:
    write_cifar100(tmp_path)
    dataset = load("cifar100", str(tmp_path))
    assert (len(dataset.train), len(dataset.test), dataset.classes, dataset.mirrored) == (80, 40, 100, True)
    assert dataset.train.pixels.shape == (80, 32, 32, 3)
    assert dataset.train.pixels.dtype == torch.uint8
    planes = entry(80, 10, "fine_labels", seed=80)["data"][5].reshape(3, 32, 32)
    assert torch.equal(dataset.train.pixels[5], torch.from_numpy(planes).permute(1, 2, 0))
    assert dataset.train.labels.tolist() == [n % 10 for n in range(80)]


def test_the_folder_of_the_files_itself_will_do(tmp_path: Path) -> None:
    write_cifar100(tmp_path)
    inner = load("cifar100", str(tmp_path / "cifar-100-python"))
    assert inner.fingerprint() == load("cifar100", str(tmp_path)).fingerprint()


def test_cifar10_is_read_from_its_five_files_with_keys_of_bytes(tmp_path: Path) -> None:
    write_cifar10(tmp_path)
    dataset = load("cifar10", str(tmp_path))
    assert (len(dataset.train), len(dataset.test), dataset.classes) == (100, 30, 10)
    last = entry(20, 10, "labels", seed=5)["data"][19].reshape(3, 32, 32)
    assert torch.equal(dataset.train.pixels[99], torch.from_numpy(last).permute(1, 2, 0))


def test_the_digits_need_no_files_and_are_never_mirrored() -> None:
    pytest.importorskip("sklearn")
    digits = load("digits", "/nowhere")
    assert (len(digits.train), len(digits.test), digits.classes, digits.mirrored) == (1438, 359, 10, False)
    assert digits.train.pixels.shape[1:] == (32, 32, 3)
    assert digits.train.pixels.max() == 255
    assert torch.equal(digits.train.pixels[..., 0], digits.train.pixels[..., 2])
    assert set(digits.test.labels.tolist()) == set(range(10))


def test_missing_images_are_told_with_what_to_put_where(tmp_path: Path, offline: None) -> None:
    with pytest.raises(DataError) as caught:
        ensure("cifar100", str(tmp_path / "pictures"))
    told = str(caught.value)
    assert f"{tmp_path}/pictures/cifar-100-python/ holds train, test" in told
    assert "cifar-100-python.tar.gz" in told
    assert "DATASET=digits" in told
    assert "Downloading it failed" in told
    assert list((tmp_path / "pictures").iterdir()) == []


def test_a_dangling_link_to_the_data_folder_is_followed(tmp_path: Path, offline: None) -> None:
    (tmp_path / "data").symlink_to(tmp_path / "real" / "data")
    with pytest.raises(DataError, match="Downloading it failed"):
        ensure("cifar10", str(tmp_path / "data"))
    assert (tmp_path / "real" / "data").is_dir()


def test_present_images_are_not_downloaded(tmp_path: Path, offline: None) -> None:
    write_cifar100(tmp_path)
    ensure("cifar100", str(tmp_path))
    ensure("digits", "/nowhere")
    assert [path.name for path in tmp_path.iterdir()] == ["cifar-100-python"]


def test_a_folder_that_cannot_be_looked_into_is_named() -> None:
    with pytest.raises(DataError, match=r"DATA_DIR: a+/cifar-100-python cannot be read: File name too long"):
        ensure("cifar100", 300 * "a")


def test_half_a_data_set_is_refused(tmp_path: Path) -> None:
    write_cifar100(tmp_path)
    (tmp_path / "cifar-100-python" / "test").unlink()
    with pytest.raises(DataError, match="holds train, but test is missing"):
        ensure("cifar100", str(tmp_path))


def content(pixels: tuple[int, ...], labels: list[Any], kind: type = np.uint8) -> bytes:
    return pickle.dumps({"data": np.zeros(pixels, kind), "fine_labels": labels})


@pytest.mark.parametrize(
    ("damaged", "told"),
    [
        (b"no pickle at all", "not a file of CIFAR100"),
        (b"", "not a file of CIFAR100"),
        (pickle.dumps([1, 2]), "not a file of CIFAR100"),
        (pickle.dumps({"data": None, "fine_labels": None}), "not a file of CIFAR100, or damaged: TypeError"),
        (b"cnowhere\nnothing\n.", "not a file of CIFAR100, or damaged: ModuleNotFoundError"),
        (b"\x80\x04X\xff\xff\xff\x7f", "not a file of CIFAR100, or damaged"),
        (pickle.dumps({"data": np.zeros((2, 3072), np.uint8)}), "KeyError 'fine_labels'"),
        (content((2, 3000), [0, 1]), "expected bytes N × 3072 for N = 2 labels, found uint8 (2, 3000)"),
        (content((3, 3072), [0, 1]), "expected bytes N × 3072 for N = 2 labels, found uint8 (3, 3072)"),
        (content((2, 3072), [0, 1], float), "expected bytes N × 3072 for N = 2 labels, found float64"),
        (content((0, 3072), []), "expected labels from 0 to 99, found none"),
        (content((2, 3072), [0, 100]), "expected labels from 0 to 99, found 100"),
        (content((2, 3072), [0, -1]), "expected labels from 0 to 99, found -1"),
        (content((2, 3072), [[0], [1]]), "expected a list of whole numbers as labels, found int64 (2, 1)"),
        (content((2, 3072), [0.5, 1.0]), "expected a list of whole numbers as labels, found float64 (2,)"),
    ],
)
def test_a_damaged_file_is_named(tmp_path: Path, damaged: bytes, told: str) -> None:
    write_cifar100(tmp_path)
    (tmp_path / "cifar-100-python" / "train").write_bytes(damaged)
    with pytest.raises(DataError) as caught:
        load("cifar100", str(tmp_path))
    assert "cifar-100-python/train: " in str(caught.value)
    assert told in str(caught.value)


def test_the_fingerprint_changes_with_one_label(tmp_path: Path) -> None:
    write_cifar100(tmp_path)
    before = load("cifar100", str(tmp_path)).fingerprint()
    changed = entry(40, 10, "fine_labels", seed=40)
    changed["fine_labels"][4] = 9
    write(tmp_path / "cifar-100-python" / "test", changed)
    assert load("cifar100", str(tmp_path)).fingerprint() != before


def test_statistics_are_those_of_the_training_pixels() -> None:
    chance = torch.Generator().manual_seed(3)
    pixels = torch.randint(0, 256, (50, 32, 32, 3), dtype=torch.uint8, generator=chance)
    images = Images(pixels, torch.zeros(50, dtype=torch.int64))
    mean, deviation = DataSet("made", 1, images, images, mirrored=True).statistics()
    values = pixels.double().flatten(0, 2) / 255
    assert torch.allclose(mean.double(), values.mean(0), atol=1e-6)
    assert torch.allclose(deviation.double(), values.std(0, correction=0), atol=1e-6)


def test_a_channel_that_never_changes_can_be_divided_by_its_deviation() -> None:
    pixels = torch.zeros(5, 32, 32, 3, dtype=torch.uint8)
    pixels[..., 1] = 200
    images = Images(pixels, torch.zeros(5, dtype=torch.int64))
    dataset = DataSet("made", 1, images, images, mirrored=True)
    assert torch.allclose(dataset.statistics()[1], torch.tensor(1 / 255))
    assert Normalise(dataset, torch.device("cpu"))(pixels).abs().max() < 1e-3
