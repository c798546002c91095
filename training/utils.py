"""What train.py stands on: ranks and their device, sums over them, progress, the optimizer and its rate."""

from __future__ import annotations

import datetime
import math
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from settings import Settings


@dataclass(frozen=True)
class Ranks:
    """This process among those that train together; alone when nobody started several."""

    rank: int
    count: int
    device: torch.device

    @classmethod
    def from_environment(cls, environ: Mapping[str, str]) -> Ranks:
        """As torchrun and TrainForge say it: one rank per GPU, or ranks on the CPU where there is none."""
        local = int(environ.get("LOCAL_RANK", "0"))
        device = torch.device("cuda", local) if torch.cuda.is_available() else torch.device("cpu")
        return cls(int(environ.get("RANK", "0")), int(environ.get("WORLD_SIZE", "1")), device)

    @property
    def first(self) -> bool:
        return self.rank == 0

    @property
    def on_gpu(self) -> bool:
        return bool(self.device.type == "cuda")

    @property
    def has_bf16(self) -> bool:
        """Whether the device itself computes bfloat16: emulated, it is slower than float32."""
        if self.on_gpu:
            return bool(torch.cuda.get_device_capability(self.device) >= (8, 0))
        names = ("_is_avx512_bf16_supported", "_is_amx_tile_supported")  # not in every version
        return any(getattr(torch.cpu, name, bool)() for name in names)

    def connect(self) -> None:
        """Find the other ranks. All of them come here."""
        if self.on_gpu:
            if self.device.index >= torch.cuda.device_count():
                sys.exit(
                    f"rank {self.rank} has no GPU: there are {torch.cuda.device_count()}; start fewer ranks"
                )
            torch.cuda.set_device(self.device)
            torch.backends.cudnn.benchmark = True
        if self.count > 1:
            dist.init_process_group(
                "nccl" if self.on_gpu else "gloo",
                timeout=datetime.timedelta(minutes=30),  # the first may be downloading while others wait
                device_id=self.device if self.on_gpu else None,
            )

    def leave(self) -> None:
        if self.count > 1:
            dist.destroy_process_group()

    def say(self, text: str) -> None:
        if self.first:
            print(text, flush=True)

    def from_first(self, value: str) -> str:
        """What the first rank has as `value`; a rank waits here until the first has come."""
        box = [value]
        if self.count > 1:
            dist.broadcast_object_list(box, device=self.device)
        return box[0]

    def add_up(self, tensor: Tensor) -> Tensor:
        """Put the sum over ranks in place."""
        if self.count > 1:
            dist.all_reduce(tensor)
        return tensor

    def wrap(self, model: nn.Module) -> nn.Module:
        """The same weights, with gradients averaged over ranks."""
        if self.count == 1:
            return model
        ids = [self.device] if self.on_gpu else None
        return DistributedDataParallel(model, ids, gradient_as_bucket_view=True)

    def settle(self, net: nn.Module, images: int) -> None:
        """DDP groups the gradients anew after its first backward pass, which changes the order of its sums.
        Spend that pass on `images` of nothing, so that the first step after a resume is like any other."""
        if self.count <= 2:  # two addends commute
            return
        before = [buffer.clone() for buffer in net.buffers()]
        nothing = torch.zeros(images, 3, 32, 32, device=self.device).to(memory_format=torch.channels_last)
        net(nothing).sum().backward()
        net.zero_grad()
        for buffer, value in zip(net.buffers(), before, strict=True):
            buffer.copy_(value)

    def share_statistics(self, model: nn.Module) -> None:
        """Give every rank the first one's buffers, which are those that a checkpoint holds. DDP does so only
        before it trains the next batch."""
        if self.count > 1:
            for buffer in model.buffers():
                dist.broadcast(buffer, 0)

    def synchronise_norms(self, model: nn.Module) -> nn.Module:
        """The model with batch statistics taken over all ranks."""
        if self.count == 1:
            return model
        if self.on_gpu:
            return nn.SyncBatchNorm.convert_sync_batchnorm(model)
        for parent in list(model.modules()):
            for name, child in parent.named_children():
                if isinstance(child, nn.BatchNorm2d):
                    norm = SyncBatchNormOnCPU(child.num_features)
                    norm.load_state_dict(child.state_dict())
                    setattr(parent, name, norm)
        return model


class SumOverRanks(torch.autograd.Function):  # type: ignore[misc]  # the check reads no torch
    @staticmethod
    def forward(ctx: Any, tensor: Tensor) -> Tensor:
        total = tensor.clone()
        dist.all_reduce(total)
        return total

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        return SumOverRanks.forward(ctx, gradient)


class SyncBatchNormOnCPU(nn.BatchNorm2d):  # type: ignore[misc]  # the check reads no torch
    """torch's own SyncBatchNorm is for GPUs alone; with this, a configuration for GPUs runs without."""

    def forward(self, images: Tensor) -> Tensor:
        if not self.training:
            return super().forward(images)
        x = images.float()
        count = x.new_tensor([x.numel() / self.num_features])
        sums = SumOverRanks.apply(torch.cat([x.sum((0, 2, 3)), x.square().sum((0, 2, 3)), count]))
        total, squares, count = sums.split([self.num_features, self.num_features, 1])
        mean = total / count
        variance = squares / count - mean.square()
        with torch.no_grad():
            self.running_mean.lerp_(mean, self.momentum)
            self.running_var.lerp_(variance * count / (count - 1), self.momentum)
            self.num_batches_tracked.add_(1)
        scale = self.weight * (variance + self.eps).rsqrt()
        shift = self.bias - mean * scale
        return (x * scale[:, None, None] + shift[:, None, None]).to(images.dtype)


class Scores(NamedTuple):
    """Sums over images."""

    loss: float = 0.0
    top1: float = 0.0
    top5: float = 0.0
    images: float = 0.0
    norm: float = 0.0  # of gradients, summed over steps and ranks

    def plus(self, other: Scores) -> Scores:
        return Scores(*(a + b for a, b in zip(self, other, strict=True)))

    def named(self, prefix: str = "") -> dict[str, float]:
        """Means over the images."""
        return {
            f"{prefix}loss": self.loss / self.images,
            f"{prefix}accuracy": self.top1 / self.images,
            f"{prefix}accuracy_top5": self.top5 / self.images,
        }


class Meter:
    """Scores that grow on the device, where adding to them makes nobody wait, until they are read."""

    def __init__(self, ranks: Ranks) -> None:
        self.ranks = ranks
        self.sums = torch.zeros(len(Scores._fields), dtype=torch.float64, device=ranks.device)

    def add(self, loss: Tensor, logits: Tensor, labels: Tensor) -> None:
        """One batch, with the mean loss over it."""
        hits = logits.detach().topk(min(5, logits.shape[1])).indices == labels[:, None]
        count = torch.full_like(loss, len(labels))
        self.sums[:4] += torch.stack([loss.detach() * len(labels), hits[:, 0].sum(), hits.sum(), count])

    def add_norm(self, norm: Tensor) -> None:
        self.sums[4] += norm

    def read(self) -> Scores:
        """The scores of all ranks since the last reading. Every rank calls it."""
        scores = Scores(*self.ranks.add_up(self.sums).tolist())
        self.sums.zero_()
        return scores


@dataclass
class Progress:
    """Where training stands: beside weights and optimizer, all that a resumed run needs for its next batch.

    An incomplete batch at the end of an epoch is left out: other images in each."""

    identity: str  # of what cannot change on the way
    images: int  # for training
    batch_size: int
    step: int = 0
    epoch: int = 0  # epochs that are over
    position: int = 0  # images of this epoch that were trained on
    seconds: float = 0.0  # of training in this epoch
    scores: Scores = field(default_factory=Scores)  # on the training images, in this epoch

    @property
    def steps_per_epoch(self) -> int:
        return self.images // self.batch_size

    @property
    def steps_left(self) -> int:
        """In this epoch."""
        return (self.images - self.position) // self.batch_size

    def steps_at_end(self, epochs: int) -> int:
        """The number of the last step of the last epoch."""
        return self.step + self.steps_left + (epochs - self.epoch - 1) * self.steps_per_epoch

    def next_epoch(self) -> None:
        self.epoch, self.position, self.seconds, self.scores = self.epoch + 1, 0, 0.0, Scores()

    def state_dict(self) -> dict[str, Any]:
        return {**vars(self), "scores": [*self.scores]}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        if state["identity"] != self.identity:
            sys.exit(f"the checkpoint is of {state['identity']}; this run is of {self.identity}")
        vars(self).update(state, scores=Scores(*state["scores"]))


def make_optimizer(model: nn.Module, settings: Settings) -> torch.optim.Optimizer:
    weights = [p for p in model.parameters() if p.ndim > 1]
    others = [p for p in model.parameters() if p.ndim <= 1]
    groups = [
        {"params": weights, "weight_decay": settings.weight_decay},
        {"params": others, "weight_decay": 0.0},
    ]
    rate, momentum = settings.learning_rate, settings.momentum
    if settings.optimizer == "adamw":
        return torch.optim.AdamW(groups, rate, betas=(momentum, 0.999), fused=True)
    return torch.optim.SGD(groups, rate, momentum, nesterov=momentum > 0, fused=True)


def learning_rate(settings: Settings, epoch: float) -> float:
    """The rate of the step that ends at `epoch`, fractions included. It depends on nothing else: there is no
    scheduler's state to save, and a resumed run may change any knob."""
    highest, warmup, epochs = settings.learning_rate, settings.warmup_epochs, settings.epochs
    if epoch < warmup:
        return highest * epoch / warmup
    if settings.schedule == "cosine":
        return highest * 0.5 * (1 + math.cos(math.pi * (epoch - warmup) / max(epochs - warmup, 1e-9)))
    if settings.schedule == "step":  # as for Wide ResNets: a fifth after 30, 60 and 80 % of the epochs
        return highest * 0.2 ** sum(epoch > share * epochs for share in (0.3, 0.6, 0.8))
    return highest
