"""The same with DistributedDataParallel: `torchrun --nproc-per-node 2 ddp.py`, or a job with `gpu: 2`.

Every rank makes the same calls at the same step. The checkpoint holds the model without its wrapper, so that
the next attempt may have another number of ranks."""

import os

import torch
import torch.distributed as dist
from torch import nn
from torch.utils.data import DataLoader, DistributedSampler, TensorDataset

import trainforge

STEPS = 60
device = torch.device("cpu")
if torch.cuda.is_available():
    device = torch.device("cuda", int(os.environ["LOCAL_RANK"]))
    torch.cuda.set_device(device)
dist.init_process_group("nccl" if device.type == "cuda" else "gloo")
torch.manual_seed(0)
data = TensorDataset(torch.randn(512, 20), torch.randint(4, (512,)))
sampler = DistributedSampler(data, seed=0)
loader = DataLoader(data, batch_size=32, sampler=sampler)  # its workers, if any, outlive the signal to stop
model = nn.Sequential(nn.Linear(20, 64), nn.ReLU(), nn.Linear(64, 4)).to(device)
model = nn.parallel.DistributedDataParallel(model)
optimizer = torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9)

ckpt = trainforge.Checkpointer(model=model, optimizer=optimizer)
step = ckpt.resume()
stopping = False
while step < STEPS and not stopping:
    epoch, done = divmod(step, len(loader))
    sampler.set_epoch(epoch)  # the order follows from the epoch alone
    for number, (batch, targets) in enumerate(loader):
        if number < done:
            continue  # seen before the interruption
        loss = nn.functional.cross_entropy(model(batch.to(device)), targets.to(device))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        step += 1
        trainforge.report(step=step, steps=STEPS, loss=loss)
        stopping = trainforge.should_stop()  # the same answer on all ranks
        if stopping or step == STEPS:
            break
ckpt.save(step)
ckpt.close()
print("sum of weights", sum(weight.double().sum() for weight in model.parameters()).item())
dist.destroy_process_group()
