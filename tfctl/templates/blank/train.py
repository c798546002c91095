"""A training loop to start from: it reports, saves, continues where it stopped, and stops when asked."""

import torch

import trainforge


def main() -> None:
    torch.manual_seed(0)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    model = torch.nn.Linear(16, 1).to(device)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05)
    target = torch.randn(16, 1, device=device)

    checkpointer = trainforge.Checkpointer(model=model, optimizer=optimizer)
    epochs = 20
    for epoch in range(checkpointer.resume(), epochs):
        for _ in range(100):
            inputs = torch.randn(64, 16, device=device)
            loss = torch.nn.functional.mse_loss(model(inputs), inputs @ target)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        trainforge.report(epoch=epoch + 1, epochs=epochs, loss=loss.item())
        checkpointer.save(epoch + 1)
        if trainforge.should_stop():
            break
    checkpointer.close()


if __name__ == "__main__":
    main()
