"""A loop with Hugging Face Accelerate: `python accelerate_loop.py`, or on several ranks, a job with `gpu: 2`.

What `prepare` gives is saved as it is; of a wrapped model what is inside. The order of an epoch comes from a
generator that the checkpoint holds too: the one that Accelerate makes for several ranks would start anew."""

import torch
from accelerate import Accelerator
from torch import nn

import trainforge

EPOCHS = 6
accelerator = Accelerator(cpu=not torch.cuda.is_available())
torch.manual_seed(0)
data = torch.utils.data.TensorDataset(torch.randn(512, 20), torch.randint(4, (512,)))
model = nn.Sequential(nn.Linear(20, 64), nn.ReLU(), nn.Dropout(0.1), nn.Linear(64, 4))
optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
scheduler = torch.optim.lr_scheduler.StepLR(optimizer, step_size=48)
order = torch.Generator().manual_seed(0)
loader = torch.utils.data.DataLoader(data, batch_size=32, shuffle=True, generator=order)
model, optimizer, scheduler, loader = accelerator.prepare(model, optimizer, scheduler, loader)

ckpt = trainforge.Checkpointer(model=model, optimizer=optimizer, scheduler=scheduler, order=order)
for epoch in range(ckpt.resume(), EPOCHS):
    for batch, targets in loader:
        loss = nn.functional.cross_entropy(model(batch), targets)
        optimizer.zero_grad()
        accelerator.backward(loss)
        optimizer.step()
        scheduler.step()
    trainforge.report(epoch=epoch + 1, epochs=EPOCHS, loss=loss)
    ckpt.save(epoch + 1)
    if trainforge.should_stop():  # the same answer on all ranks
        break
ckpt.close()
print("sum of weights", sum(weight.double().sum() for weight in model.parameters()).item())
accelerator.end_training()
