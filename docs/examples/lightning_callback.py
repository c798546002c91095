"""A Lightning Trainer: a callback that reports, saves after each epoch, and stops when asked.

Lightning writes its checkpoint to a file of its own; the callback hands it to the Checkpointer, which keeps
it whole and with a hash, tells the job, and gives it back to the next attempt. Between epochs a run goes on
bit for bit; Lightning does not go back to the same batch within one, so it is stopped at an epoch's end."""

import signal
import tempfile
from pathlib import Path

import lightning
import torch
from torch import nn

import trainforge


class TrainForgeCallback(lightning.Callback):
    def __init__(self):
        self.file = {}
        self.folder = Path(tempfile.mkdtemp())
        self.checkpointer = trainforge.Checkpointer(file=self.file)
        self.handler = signal.getsignal(signal.SIGTERM)

    def last_checkpoint(self):
        """For `Trainer.fit(ckpt_path=…)`: a file, or None at the first start."""
        if not self.checkpointer.resume(exact=True):
            return None
        path = self.folder / "resume.ckpt"
        path.write_bytes(self.file["content"])
        return str(path)

    def on_train_start(self, trainer, module):
        signal.signal(signal.SIGTERM, self.handler)  # Lightning's would end the run at once, unsaved
        self.checkpointer.ready()  # what fit() drew until here leaves no trace

    def on_train_batch_end(self, trainer, module, outputs, batch, batch_index):
        trainforge.report(step=trainer.global_step, loss=outputs["loss"])

    def on_train_epoch_end(self, trainer, module):
        epoch = trainer.current_epoch + 1
        trainforge.report(step=trainer.global_step, epoch=epoch, epochs=trainer.max_epochs)
        path = self.folder / "now.ckpt"
        trainer.save_checkpoint(path)
        self.file["content"] = path.read_bytes()
        self.checkpointer.save(epoch)
        if trainforge.should_stop():
            trainer.should_stop = True

    def on_fit_end(self, trainer, module):
        self.checkpointer.close()


class Classifier(lightning.LightningModule):
    def __init__(self):
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(20, 64), nn.ReLU(), nn.Dropout(0.1), nn.Linear(64, 4))

    def training_step(self, batch, index):
        return nn.functional.cross_entropy(self.layers(batch[0]), batch[1])

    def configure_optimizers(self):
        return torch.optim.AdamW(self.parameters(), lr=1e-3)


if __name__ == "__main__":
    torch.manual_seed(0)
    data = torch.utils.data.TensorDataset(torch.randn(512, 20), torch.randint(4, (512,)))
    # The order follows from the epoch alone, and the loader's iterator, which Lightning makes earlier when it
    # resumes, draws from a generator of its own.
    order = torch.utils.data.DistributedSampler(data, num_replicas=1, rank=0, seed=0)
    loader = torch.utils.data.DataLoader(data, batch_size=32, sampler=order, generator=torch.Generator())
    callback = TrainForgeCallback()
    trainer = lightning.Trainer(
        max_epochs=4, accelerator="cpu", callbacks=[callback], logger=False, enable_checkpointing=False,
        enable_progress_bar=False, enable_model_summary=False,
    )  # fmt: skip
    module = Classifier()
    trainer.fit(module, loader, ckpt_path=callback.last_checkpoint())
    print("sum of weights", sum(weight.double().sum() for weight in module.parameters()).item())
