"""The daemon's settings: `trainforged.yaml`, checked as a whole, with defaults for what is left out.

Read again on SIGHUP. A file with a mistake changes nothing: at start it is refused, at a reload the
settings in force stay.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

import msgspec

from trainforge import spec
from trainforge.jobfile.units import parse_duration, parse_size

LOOPBACK = re.compile(r"127(\.\d{1,3}){3}", re.ASCII)


class ConfigError(Exception):
    """The file cannot be used; the message says where and why."""


class Bytes(int):
    """A size in the file's notation (2Gi)."""


class Seconds(float):
    """A duration in the file's notation (10m)."""


class Section(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    pass


class Devices(Section, frozen=True, kw_only=True):
    """`exclude`: indices or UUIDs kept back for good. `min_free`: share of a GPU's memory that must
    be free before it is given out."""

    exclude: tuple[int | str, ...] = ()
    min_free: float = 0.8


class Scheduling(Section, frozen=True, kw_only=True):
    """`patience`: how long a job may be passed by others before what comes free is kept for it."""

    patience: Seconds = Seconds(600)


class Limits(Section, frozen=True, kw_only=True):
    """`project`: a frozen project. `file`: one uploaded content. `output`: kept output of an attempt.
    `metrics`: samples of all jobs, above which the oldest are thinned. `records`: what is kept of one records
    file of a job once it is stored: its newest part. `processes`: and threads, of an attempt at one time.
    `free`: on the disk of the state folder, below which a job that ended for want of room waits."""

    project: Bytes = Bytes(2 * 2**30)
    file: Bytes = Bytes(2 * 2**30)
    output: Bytes = Bytes(2**30)
    metrics: Bytes = Bytes(4 * 2**30)
    records: Bytes = Bytes(2**30)
    free: Bytes = Bytes(2**30)
    processes: Annotated[int, msgspec.Meta(ge=1)] = 32768


class Retention(Section, frozen=True, kw_only=True):
    """When ended jobs are removed with their folders: after `age`, and oldest first while they take
    more than `size` together. None: never."""

    age: Seconds | None = None
    size: Bytes | None = None


class Waste(Section, frozen=True, kw_only=True):
    """A GPU that a job holds and has used for less than `below` per cent over `after` is pointed out."""

    below: Annotated[float, msgspec.Meta(ge=0, le=100)] = 5.0
    after: Seconds = Seconds(1800)


class Notify(Section, frozen=True, kw_only=True):
    """Who is told of what, as `notify` in a job file."""

    on: tuple[spec.NoticeKind, ...] = spec.NOTICE_KINDS
    command: str | tuple[str, ...] | None = None
    webhook: str | tuple[str, ...] = ()
    slack: str | tuple[str, ...] = ()
    discord: str | tuple[str, ...] = ()
    mail: str | tuple[str, ...] = ()
    desktop: bool = False

    def spec(self) -> spec.Notify:
        command = ("/bin/sh", "-c", self.command) if isinstance(self.command, str) else self.command
        return spec.Notify(
            on=self.on,
            command=command or None,
            webhook=_listed(self.webhook),
            slack=_listed(self.slack),
            discord=_listed(self.discord),
            mail=_listed(self.mail),
            desktop=self.desktop,
        )


class Notifications(Notify, frozen=True, kw_only=True):
    """Of all jobs; `users` of theirs. `wait`: a job that could run and waits longer is told of."""

    wait: Seconds = Seconds(3600)
    users: dict[str, Notify] = {}


Level = Literal["debug", "info", "warning", "error"]


class Log(Section, frozen=True, kw_only=True):
    level: Level = "info"


class Web(Section, frozen=True, kw_only=True):
    """`listen`: HOST:PORT of the page, a loopback address; or off (which YAML reads as false)."""

    listen: str | bool = "127.0.0.1:3001"

    def address(self, instead: str | None = None) -> tuple[str, int] | None:
        """Host and port, None where the page is off. `instead` comes before the file."""
        return web_address(instead if instead is not None else self.listen)


def web_address(listen: str | bool) -> tuple[str, int] | None:
    """Of `HOST:PORT` or `off`. Raises ValueError."""
    if listen is False or listen == "off":
        return None
    host, colon, port = str(listen).rpartition(":")
    host = host.removeprefix("[").removesuffix("]")
    if not (colon and port.isascii() and port.isdecimal() and int(port) < 65536):
        raise ValueError(f"expected HOST:PORT or off, found {listen!r}")
    if host not in ("localhost", "::1") and not LOOPBACK.fullmatch(host):
        message = f"the page is served to this machine alone (127.0.0.1), not at {host!r}"
        raise ValueError(f"{message}: from elsewhere use ssh -L {port}:127.0.0.1:{port}")
    return host, int(port)


class Prometheus(Section, frozen=True, kw_only=True):
    """`listen`: HOST:PORT at which `/metrics` is served to whoever reaches it; off unless named."""

    listen: str | bool = False

    def address(self) -> tuple[str, int] | None:
        if self.listen is False or self.listen == "off":
            return None
        host, _, port = str(self.listen).rpartition(":")
        if not host or not (port.isascii() and port.isdecimal() and int(port) < 65536):
            raise ValueError(f"prometheus.listen: expected HOST:PORT or off, found {self.listen!r}")
        return host.removeprefix("[").removesuffix("]"), int(port)


class Config(Section, frozen=True, kw_only=True):
    """All of the file."""

    devices: Devices = Devices()
    scheduling: Scheduling = Scheduling()
    limits: Limits = Limits()
    retention: Retention = Retention()
    waste: Waste = Waste()
    notify: Notifications = Notifications()
    log: Log = Log()
    web: Web = Web()
    prometheus: Prometheus = Prometheus()


def load(path: Path | None, *, needed: bool = True) -> Config:
    """The settings in `path`, or the defaults for None. Raises `ConfigError`, where the file is `needed` also
    for want of it."""
    if path is None or not (needed or path.exists()):
        return Config()
    import yaml

    try:
        tree = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read: {error.strerror}") from error
    except (UnicodeError, yaml.YAMLError) as error:
        raise ConfigError(f"{path}: {error}") from error
    try:
        found = msgspec.convert(_texts(tree or {}), Config, dec_hook=_decode)
        found.web.address()
        found.prometheus.address()
        return found
    except (msgspec.ValidationError, ValueError) as error:
        raise ConfigError(f"{path}: {_in_words(str(error))}") from error


def _texts(tree: object) -> object:
    """The tree with keys as they were written: YAML 1.1 takes `on` for true."""
    if isinstance(tree, dict):
        return {"on" if key is True else key: _texts(value) for key, value in tree.items()}
    return tree


def _listed(value: str | tuple[str, ...]) -> tuple[str, ...]:
    return (value,) if isinstance(value, str) else value


def _decode(kind: type[Any], value: object) -> object:
    text = str(value)
    if kind is Bytes:
        return Bytes(parse_size(text))
    if kind is Seconds:
        return Seconds(parse_duration(text))
    raise NotImplementedError(kind)


def _in_words(message: str) -> str:
    """msgspec's "… - at `$.a.b`" as "a.b: …"."""
    text, _, where = message.partition(" - at `$.")
    path = where.rstrip("`")
    if path == "log.level":
        text = f"expected one of {', '.join(get_args(Level))}; {text}"
    return f"{path}: {text}" if where else text
