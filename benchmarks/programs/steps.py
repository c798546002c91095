"""A training that tells of each step when it is done, and continues from what it saved. Argument: the file to
tell it in. It goes on until it is asked to stop."""

import os
import sys
import time

import torch

import trainforge

PACE = 0.02  # seconds of a step
EACH = 10  # steps from one checkpoint to the next

rank = int(os.environ.get("RANK", "0"))
if int(os.environ.get("WORLD_SIZE", "1")) > 1:
    torch.distributed.init_process_group("gloo")
model = torch.nn.Linear(64, 64)
optimizer = torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9)
checkpoints = trainforge.Checkpointer(model=model, optimizer=optimizer)
step = checkpoints.resume()
with open(f"{sys.argv[1]}.{rank}", "a", buffering=1) as told:
    while not trainforge.should_stop():
        began = time.monotonic()
        step += 1
        optimizer.zero_grad()
        loss = model(torch.ones(8, 64)).square().mean()
        loss.backward()
        if torch.distributed.is_initialized():
            torch.distributed.all_reduce(model.weight.grad)
        optimizer.step()
        trainforge.report(step=step, loss=loss)
        told.write(f"{step} {time.time()} {os.getpid()}\n")
        if step % EACH == 0:
            checkpoints.save(step)
        time.sleep(max(0.0, PACE - (time.monotonic() - began)))
checkpoints.save(step)
checkpoints.close()
