"""The files beside the code: job files that are accepted, and a README that tells of every knob."""

from __future__ import annotations

import datetime
import re
from pathlib import Path

import pytest

from settings import Settings, knobs
from trainforge.jobfile import checks, layers
from trainforge.spec import JobSpec

pytestmark = pytest.mark.torch

CONFIGS = ["single_gpu", "multi_gpu", "production", "demo", "resnet50"]


def job(project: Path, *configs: str, base: str = "trainforge.yaml") -> JobSpec:
    files = [project / base, *(project / "configs" / f"{name}.yaml" for name in configs)]
    return checks.check(layers.load(files), now=datetime.datetime.now(datetime.UTC))


def test_there_is_a_config_for_every_file_named_here(project: Path) -> None:
    assert sorted(CONFIGS) == sorted(path.stem for path in (project / "configs").iterdir())


@pytest.mark.parametrize(
    "configs", [[], *([name] for name in CONFIGS)], ids=lambda names: names[0] if names else "base"
)
@pytest.mark.parametrize("base", ["trainforge.yaml", "trainforge-cpu.yaml"])
def test_a_job_file_asks_for_what_the_script_takes(project: Path, configs: list[str], base: str) -> None:
    spec = job(project, *configs, base=base)
    env = spec.environment.env
    assert {name.lower() for name in env} <= {name for name, _ in knobs()}
    settings = Settings.read(env, ranks=max(1, spec.resources.gpu_range[1]))
    assert settings.share <= 128
    assert (project / str(spec.training.script)).exists()
    assert (project / str(spec.training.requirements)).exists()


@pytest.mark.parametrize(
    ("name", "gpu", "cpu", "memory"),
    [("single_gpu", 1, 4, 8), ("multi_gpu", 4, 16, 32), ("production", 8, 32, 64), ("demo", 2, 2, 4)],
)
def test_a_config_asks_for_its_resources(project: Path, name: str, gpu: int, cpu: int, memory: int) -> None:
    resources = job(project, name).resources
    assert (resources.gpu, resources.cpu, resources.memory) == (gpu, cpu, memory * 2**30)


@pytest.mark.parametrize("name", [name for name in CONFIGS if name != "demo"])
def test_a_config_means_the_same_where_the_project_was_made_without_a_gpu(project: Path, name: str) -> None:
    ranks = max(1, job(project, name).resources.gpu_range[1])
    small, large = (
        Settings.read(job(project, name, base=base).environment.env, ranks=ranks)
        for base in ("trainforge-cpu.yaml", "trainforge.yaml")
    )
    assert (small.model, small.dataset, small.share, small.epochs, small.learning_rate) == (
        large.model, large.dataset, large.share, large.epochs, large.learning_rate,
    )  # fmt: skip


def test_where_there_is_no_gpu_the_project_is_a_small_one(project: Path) -> None:
    spec = job(project, base="trainforge-cpu.yaml")
    settings = Settings.read(spec.environment.env, ranks=1)
    assert (spec.resources.gpu, settings.model, settings.dataset) == (0, "resnet20", "digits")
    assert "scikit-learn" in (project / "requirements-cpu.txt").read_text()


def test_the_showcase_is_resnet_50(project: Path) -> None:
    env = job(project).environment.env
    assert (env["MODEL"], env["DATASET"]) == ("resnet50", "cifar100")


def test_more_gpus_need_no_other_change(project: Path) -> None:
    resources = job(project).resources
    assert (resources.cpu, resources.memory) == (None, None), "each would be a limit for one GPU"
    env = job(project).environment.env
    assert [Settings.read(env, ranks=ranks).learning_rate for ranks in (1, 8)] == [0.1, 0.8]


def test_the_readme_tells_of_every_file_and_every_knob_with_its_default(project: Path) -> None:
    text = (project / "README.md").read_text()
    code = {path.name for path in project.glob("*.py")}
    assert code == set(re.findall(r"^\| `(\w+\.py)` \|", text, re.MULTILINE))
    told = dict(re.findall(r"^\| `([A-Z_]+)` \|(?: `([^|`]*)`)? \|", text, re.MULTILINE))
    assert told == {name.upper(): meta["default"] for name, meta in knobs()}


def test_the_loop_can_be_read_whole(project: Path) -> None:
    assert len((project / "train.py").read_text().splitlines()) < 300
    imported = re.findall(r"^(?:from|import) ([\w.]+)", (project / "model.py").read_text(), re.MULTILINE)
    assert set(imported) == {"__future__", "torch", "torchvision.models.resnet"}, "a model knows no ranks"
