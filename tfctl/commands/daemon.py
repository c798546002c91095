"""The daemon: start it, stop it, see how it is, have systemd run it. Jobs outlive a stop.

`install` makes it a service of the machine that runs as the user it is installed for (with sudo), or with
--user a service of this user; either starts at boot and goes on after logout. `uninstall` undoes it.
"""

from __future__ import annotations

import argparse
import os
import signal

from tfctl import autostart, service
from tfctl.failures import NO_DAEMON, NOT_ALLOWED, Failure, described
from tfctl.output import print_json
from tfctl.render.figures import counted, duration, size
from trainforge.api import StatusAnswer
from trainforge.client.client import Client, NoDaemon

PATIENCE = 14.0  # seconds for a stop; the daemon leaves as it is after ten, whatever hangs in it


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("action", choices=("start", "stop", "status", "install", "uninstall"))
    parser.add_argument("--user", action="store_true", help="install, uninstall: for this user alone")
    parser.add_argument(
        "--as", dest="as_user", metavar="USER", help="install: whom the daemon and jobs run as"
    )
    parser.add_argument("--json", action="store_true", help="with status: one JSON document")


def run(args: argparse.Namespace) -> int:
    if args.action in ("install", "uninstall"):
        return _service(args)
    with Client(patience=0.0) as client:
        try:
            status = client.status()
        except NoDaemon as error:
            return _without(args, error)
    return {"start": _already, "stop": _stop, "status": _show}[args.action](args, status)


def _service(args: argparse.Namespace) -> int:
    if args.as_user and (args.user or args.action == "uninstall"):
        raise Failure("--as belongs to install without --user")
    from tfctl.service import machine, user

    if args.action == "install":
        steps = user.install() if args.user else machine.install(args.as_user)
    else:
        steps = user.uninstall() if args.user else machine.uninstall()
    for step in steps:
        print(step, flush=True)
    return 0


def _without(args: argparse.Namespace, error: NoDaemon) -> int:
    if args.action == "start":
        autostart.start()
        return 0
    if args.action == "stop":
        print("no daemon runs")
        return 0
    print("\n".join(described(error)))
    return NO_DAEMON


def _already(args: argparse.Namespace, status: StatusAnswer) -> int:
    print(f"the daemon runs already (pid {status.pid}, state in {status.state_dir})")
    return 0


def _stop(args: argparse.Namespace, status: StatusAnswer) -> int:
    manager = service.manager_of(status.pid)
    if manager is service.SYSTEM:
        raise Failure(
            "the daemon is the machine's: sudo systemctl stop trainforged.socket trainforged", NOT_ALLOWED
        )
    if manager is service.USER:  # which would start it again
        manager.control("stop", service.SOCKET, service.UNIT)
        return _stopped(status)
    descriptor = os.pidfd_open(status.pid)
    try:
        signal.pidfd_send_signal(descriptor, signal.SIGTERM)
    except PermissionError:
        raise Failure(f"the daemon (pid {status.pid}) is not yours to stop", NOT_ALLOWED) from None
    if not _ended(descriptor):
        raise Failure(
            f"the daemon (pid {status.pid}) has not stopped after {PATIENCE:.0f} s, as where a disk does not "
            f"answer. `kill -9 {status.pid}` ends it: jobs go on, and nothing accepted is lost",
            1,
        )
    return _stopped(status)


def _stopped(status: StatusAnswer) -> int:
    live = status.jobs.starting + status.jobs.running + status.jobs.stopping
    goes_on = f"; {counted(live, 'running job')} {'goes' if live == 1 else 'go'} on" if live else ""
    print(f"stopped the daemon{goes_on}")
    return 0


def _ended(descriptor: int) -> bool:
    import select

    return bool(select.select([descriptor], [], [], PATIENCE)[0])


def _show(args: argparse.Namespace, status: StatusAnswer) -> int:
    if args.json:
        print_json(status)
        return 0
    jobs = status.jobs
    print(f"trainforged {status.version}, pid {status.pid}, up {duration(status.uptime)}, for {status.user}")
    print(f"  state     {status.state_dir} ({size(status.disk_free)} free)")
    made_up = " (simulated)" if status.simulated else ""
    print(f"  GPUs      {status.gpus_free} of {status.gpus_total} free{made_up}")
    print(f"  cores     {status.cpu_free} of {status.cpu_total} free")
    print(f"  memory    {size(status.memory_free)} of {size(status.memory_total)} free")
    live = jobs.starting + jobs.running + jobs.stopping + jobs.unknown
    waiting = jobs.queued + jobs.backoff
    print(f"  jobs      {live} running, {waiting} queued, {jobs.held} held")
    page = f"http://{status.web}/ (tfctl dashboard)" if status.web else f"none: {status.web_problem}"
    print(f"  page      {page}")
    return 0
