"""Write a project that runs as it stands. Over an existing one: its name, and what is missing.

On a machine without a GPU its job is a small one, which the CPU trains in a minute or two.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import site
import sys
import sysconfig
from collections.abc import Iterator, Sequence
from pathlib import Path

import tfctl
from tfctl.failures import Failure
from tfctl.output import of_what_is_done
from tfctl.targets import here
from trainforge.driver import driver_present

TEMPLATES = ("image-classification", "blank")
FEW = 8  # files that are named one by one
FOR_THE_CPU = "-cpu"  # NAME-cpu.EXT of a template is NAME.EXT of a project that is made where there is no GPU
ON_THE_CPU = {
    "image-classification": "no GPU was found here, so the job is a small one, which trains on the CPU in a "
    "minute or two; the large one: tfctl submit . -f configs/resnet50.yaml",
    "blank": "no GPU was found here, so the job asks for none (resources.gpu)",
}
LEFT_OUT = shutil.ignore_patterns("__pycache__", "*.pyc", "checkpoints")  # of trying it out in a checkout


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("folder", nargs="?", default=".", help="where (default: here)")
    parser.add_argument("--name", help="the project's name (default: the folder's)")
    parser.add_argument(
        "--template",
        choices=TEMPLATES,
        default=TEMPLATES[0],
        help="a ResNet on images, or a bare loop (default: the former)",
    )
    parser.add_argument("--force", action="store_true", help="write over files that are there")


def run(args: argparse.Namespace) -> int:
    here()
    folder = Path(args.folder)
    name = args.name or re.sub(r"[^A-Za-z0-9._-]+", "-", folder.resolve().name).lstrip("0123456789-._")
    if not re.fullmatch(r"[A-Za-z][A-Za-z0-9._-]{0,62}", name):
        raise Failure(f"--name: expected a letter, then letters, digits, dots and dashes, found {name!r}")
    folder.mkdir(parents=True, exist_ok=True)
    existed = (folder / "trainforge.yaml").exists() and not args.force
    job_file = folder / "trainforge.yaml"
    gpu = driver_present()
    files = list(_write(template(args.template), folder, args.force, gpu))
    if not existed or args.name:
        _set_name(job_file, name)
    where = "" if args.folder in ("", ".") else f" {args.folder}"
    what = f"project {name}" if args.name or not existed else "the project"
    with of_what_is_done():
        renamed = ", but for project.name" if existed and args.name else ""
        for line in _said(files, folder):
            print(line + (renamed if line == f"kept {job_file}" else ""))
        print(f"{what} is ready; queue it with: tfctl submit{where}")
        if not gpu and not existed:
            print(f"note: {ON_THE_CPU[args.template]}", file=sys.stderr)
    return 0


def _said(files: Sequence[tuple[Path, bool]], folder: Path) -> list[str]:
    """A line for each file; of many that are all new one line."""
    if len(files) > FEW and all(is_new for _, is_new in files):
        return [f"wrote {len(files)} files to {folder}/ (begin with README.md)"]
    return [f"wrote {path}" if is_new else f"kept {path}" for path, is_new in files]


def template(name: str) -> Path:
    """The folder that holds the template: in a checkout where it is worked on, else installed as data."""
    package, data = Path(tfctl.__file__).parent, Path(sysconfig.get_path("data"))
    places = (
        package / "templates" / name,
        *([package.parent / "training"] if name == TEMPLATES[0] else []),
        data / "share" / "trainforge" / name,
        Path(site.getuserbase()) / "share" / "trainforge" / name,
    )
    for folder in places:
        if (folder / "trainforge.yaml").exists():
            return folder
    raise Failure(f"the template {name} is not part of this installation ({data})", 1)


def _write(source: Path, target: Path, force: bool, gpu: bool) -> Iterator[tuple[Path, bool]]:
    """Copy what is missing (with `force`: everything); yields each file, and whether it was written."""
    for folder, folders, files in os.walk(source):
        folders[:] = sorted(set(folders) - LEFT_OUT(folder, folders))
        if Path(folder) == source / "data":  # its contents are the user's own
            folders[:], files = [], [file for file in files if file == "README.md"]
        for file in sorted(set(files) - LEFT_OUT(folder, files)):
            path = Path(folder, file)
            if path.stem.endswith(FOR_THE_CPU):
                continue
            goal = target / path.relative_to(source)
            other = path.with_stem(path.stem + FOR_THE_CPU)
            path = path if gpu or not other.exists() else other
            write = force or not goal.exists()
            if write:
                goal.parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(path, goal)
            yield goal, write


def _set_name(job_file: Path, name: str) -> None:
    """Change `project.name` and nothing else in the file, comments included."""
    text = job_file.read_text(encoding="utf-8")
    pattern = (
        r"(?m)^(project:\s*(?:#.*)?\n(?:[ \t]+.*\n|\s*\n)*?[ \t]+name:[ \t]*)([^#\n]*?)([ \t]*(?:#.*)?)$"
    )
    changed, count = re.subn(pattern, lambda match: f"{match[1]}{name}{match[3]}", text, count=1)
    if not count:
        raise Failure(f"{job_file}: there is no project.name to set; write it, then go on")
    job_file.write_text(changed, encoding="utf-8")
