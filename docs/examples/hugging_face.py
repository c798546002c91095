"""A Hugging Face Trainer: a callback that reports, stops when asked, and makes its checkpoints durable.

The Trainer writes a checkpoint as it always does; the callback hands its files to the Checkpointer, which
keeps them whole and with hashes, tells the job, and gives them back to the next attempt."""

import shutil
import tempfile
from pathlib import Path

import torch
from torch import nn
from transformers import Trainer, TrainerCallback, TrainingArguments

import trainforge


class TrainForgeCallback(TrainerCallback):
    def __init__(self):
        self.files = {}
        self.checkpointer = trainforge.Checkpointer(files=self.files)

    def last_checkpoint(self):
        """For `Trainer.train(resume_from_checkpoint=…)`: a folder, or None at the first start."""
        if not self.checkpointer.resume():
            return None
        folder = Path(tempfile.mkdtemp())
        for name, content in self.files.items():
            (folder / name).write_bytes(content)
        return str(folder)

    def on_step_end(self, args, state, control, **kwargs):
        trainforge.report(step=state.global_step, steps=state.max_steps)
        if trainforge.should_stop():
            control.should_save = control.should_training_stop = True

    def on_log(self, args, state, control, logs=None, **kwargs):
        numbers = {name: float(value) for name, value in (logs or {}).items() if name != "epoch"}
        trainforge.report(step=state.global_step, steps=state.max_steps, **numbers)

    def on_save(self, args, state, control, **kwargs):
        if torch.distributed.is_available() and torch.distributed.is_initialized():
            torch.distributed.barrier()  # every rank has written its part
        if state.is_world_process_zero:
            folder = Path(args.output_dir, f"checkpoint-{state.global_step}")
            self.files.clear()
            self.files.update({path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()})
            shutil.rmtree(folder)  # the Checkpointer keeps it now, and removes older ones
        self.checkpointer.save(state.global_step)

    def on_train_end(self, args, state, control, **kwargs):
        self.checkpointer.close()


class Classifier(nn.Module):
    def __init__(self):
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(20, 64), nn.ReLU(), nn.Dropout(0.1), nn.Linear(64, 4))

    def forward(self, x, labels):
        logits = self.layers(x)
        return {"loss": nn.functional.cross_entropy(logits, labels), "logits": logits}


if __name__ == "__main__":
    torch.manual_seed(0)
    data = [{"x": torch.randn(20), "labels": torch.randint(4, ())} for _ in range(512)]
    arguments = TrainingArguments(
        output_dir="hugging-face", max_steps=40, per_device_train_batch_size=16, save_strategy="steps",
        save_steps=10, logging_steps=5, report_to="none", use_cpu=True, disable_tqdm=True,
    )  # fmt: skip
    callback = TrainForgeCallback()
    trainer = Trainer(Classifier(), arguments, train_dataset=data, callbacks=[callback])
    trainer.train(resume_from_checkpoint=callback.last_checkpoint())
    print("sum of weights", sum(weight.double().sum() for weight in trainer.model.parameters()).item())
