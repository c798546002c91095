"""A training loop to start from: it reports, saves, continues where it stopped, and stops when asked.

One rank or many: `resources.gpu` in trainforge.yaml says how many.
"""

import os

import torch
import torch.distributed as dist

import trainforge


def main() -> None:
    cuda = torch.cuda.is_available()
    device = torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0"))) if cuda else torch.device("cpu")
    torch.manual_seed(0)
    model = torch.nn.Linear(16, 1).to(device)
    target = torch.randn(16, 1, device=device)
    net: torch.nn.Module = model
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        dist.init_process_group("nccl" if cuda else "gloo")
        net = torch.nn.parallel.DistributedDataParallel(model)
        torch.manual_seed(dist.get_rank())  # each rank draws its own data
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05)

    checkpointer = trainforge.Checkpointer(model=model, optimizer=optimizer)
    epochs = 20
    for epoch in range(checkpointer.resume(), epochs):
        for _ in range(100):
            inputs = torch.randn(64, 16, device=device)
            loss = torch.nn.functional.mse_loss(net(inputs), inputs @ target)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        trainforge.report(epoch=epoch + 1, epochs=epochs, loss=loss.item())
        checkpointer.save(epoch + 1)
        if trainforge.should_stop():
            break
    checkpointer.close()
    if dist.is_initialized():
        dist.destroy_process_group()


if __name__ == "__main__":
    main()
