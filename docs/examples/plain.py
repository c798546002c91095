"""A plain loop in one process: it reports, saves, continues bit for bit, and stops when asked."""

import torch
from torch import nn

import trainforge

EPOCHS = 6
torch.manual_seed(0)
images, labels = torch.randn(512, 20), torch.randint(4, (512,))
data = torch.utils.data.TensorDataset(images, labels)
loader = torch.utils.data.DataLoader(data, batch_size=32, shuffle=True)
model = nn.Sequential(nn.Linear(20, 64), nn.ReLU(), nn.Dropout(0.1), nn.Linear(64, 4))
optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)

ckpt = trainforge.Checkpointer(model=model, optimizer=optimizer)
for epoch in range(ckpt.resume(), EPOCHS):
    for batch, targets in loader:
        loss = nn.functional.cross_entropy(model(batch), targets)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    trainforge.report(epoch=epoch + 1, epochs=EPOCHS, loss=loss)
    ckpt.save(epoch + 1)  # in the background; whole or not at all
    if trainforge.should_stop():
        break
ckpt.close()
print("sum of weights", sum(weight.double().sum() for weight in model.parameters()).item())
