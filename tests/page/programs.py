"""What the jobs of these tests run. They report as fast as they can, and wait for a file, not for time."""

from __future__ import annotations

import sys
from pathlib import Path

TRAINS = """
import math, os, sys, time, trainforge
epochs, each = int(sys.argv[1]), int(sys.argv[2])
go_on = sys.argv[3] if len(sys.argv) > 3 else ""
for step in range(1, epochs * each + 1):
    place = step / (epochs * each)
    epoch = (step - 1) // each + 1
    loss = 4 * math.exp(-3 * place) + 0.1 * math.sin(step)
    trainforge.report(step=step, epoch=epoch, epochs=epochs, loss=loss, lr=0.1 * (1 - place),
                      data_share=0.1, compute_share=0.8, communication_share=0.1)
    if step % each == 0:
        trainforge.report(step=step, epoch=epoch, epochs=epochs, val_loss=4 * math.exp(-3 * place) + 0.3,
                          val_accuracy=1 - math.exp(-3 * place))
        print(f"epoch {epoch} of {epochs} <b>not bold</b>", flush=True)
while go_on and not os.path.exists(go_on):
    time.sleep(0.02)
"""

FAILS = """
import trainforge
for step in range(1, 41):
    trainforge.report(step=step, steady=step / 40, spike=1000 if step == 7 else 1 + step / 40)
trainforge.report(step=41, loss=2.5)
trainforge.report(step=42, loss=float("nan"))
raise ValueError("labels: expected 0 … 99, found 100 <img src=x onerror=alert(1)>")
"""

SURVIVES = """
import os, sys, time, trainforge
folder = sys.argv[1]
state = os.environ["TRAINFORGE_CHECKPOINT_DIR"] + "/state"
os.makedirs(os.path.dirname(state), exist_ok=True)
begin = int(open(state).read()) if os.path.exists(state) else 0
for step in range(begin + 1, 301):
    trainforge.report(step=step, steps=300, loss=300 / step)
    if step % 70 == 0:
        with open(state + ".new", "w") as file:
            file.write(str(step))
        os.replace(state + ".new", state)
    while not os.path.exists(f"{folder}/until-{(step - 1) // 100}"):
        time.sleep(0.02)
"""

SPEAKS = """
import os, sys, time
for part in range(3):
    print(f"part {part} is done", flush=True)
    while not os.path.exists(f"{sys.argv[1]}/heard-{part}"):
        time.sleep(0.02)
"""


def program(folder: Path, name: str, text: str) -> list[str]:
    """The command that runs it."""
    path = folder / f"{name}.py"
    path.write_text(text)
    return [sys.executable, str(path)]
