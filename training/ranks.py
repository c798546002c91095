"""The ranks that train together: their device, what they tell each other, and what they share of a model."""

from __future__ import annotations

import contextlib
import ctypes
import datetime
import importlib.util
import os
import shutil
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.algorithms.ddp_comm_hooks.default_hooks import allreduce_hook
from torch.nn.parallel import DistributedDataParallel

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3  # of glibc's malloc.h
PROCESSOR = Path("/proc/cpuinfo")


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
    def device_name(self) -> str:
        return str(torch.cuda.get_device_name(self.device)) if self.on_gpu else "CPU"

    @property
    def unit(self) -> str:
        """What several are called."""
        return "GPUs" if self.on_gpu else "ranks"

    @property
    def has_bf16(self) -> bool:
        """Whether the device computes bfloat16 faster than float32. Intel's processors do so by their matrix
        unit (AMX) alone: their vector instruction for it is half as fast as those for float32."""
        if self.on_gpu:
            return bool(torch.cuda.get_device_capability(self.device) >= (8, 0))
        matrices, vectors = (
            getattr(torch.cpu, name, bool)()  # not in every version
            for name in ("_is_amx_tile_supported", "_is_avx512_bf16_supported")
        )
        return bool(matrices or (vectors and not by_intel()))

    @property
    def can_compile(self) -> bool:
        """Whether torch.compile finds a GPU, and what it needs to make programs for it."""
        found = importlib.util.find_spec("triton") and any(map(shutil.which, ("cc", "gcc", "clang")))
        return self.on_gpu and bool(found)

    @property
    def abilities(self) -> dict[str, Any]:
        """What knobs that are `auto` depend on, as `Settings.read` takes it."""
        return {
            "ranks": self.count, "unit": self.unit, "bf16": self.has_bf16, "compiles": self.can_compile,
        }  # fmt: skip

    def connect(self, deterministic: bool = False) -> None:
        """Find the other ranks. All of them come here. `deterministic`: only with operations that give the
        same bits each time; on the CPU all of ours do."""
        if self.on_gpu:
            if self.device.index >= torch.cuda.device_count():
                sys.exit(
                    f"rank {self.rank} has no GPU: there are {torch.cuda.device_count()}; start fewer ranks"
                )
            torch.cuda.set_device(self.device)
            torch.backends.cudnn.benchmark = not deterministic
            if deterministic:
                os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # else cuBLAS is refused
                torch.use_deterministic_algorithms(True)
        else:
            keep_freed_memory()
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

    def least(self, value: int) -> int:
        """The smallest that any rank has as `value`."""
        box = torch.tensor([value], device=self.device)
        if self.count > 1:
            dist.all_reduce(box, dist.ReduceOp.MIN)
        return int(box)

    def add_up(self, tensor: Tensor) -> Tensor:
        """Put the sum over ranks in place."""
        if self.count > 1:
            dist.all_reduce(tensor)
        return tensor

    def wrap(self, model: nn.Module, computed: Callable[[], None]) -> nn.Module:
        """The same weights, with gradients averaged over ranks. In each backward pass, `computed` is called
        when the last gradient is there and what remains is to wait for the others."""
        if self.count == 1:
            return model
        ids = [self.device] if self.on_gpu else None
        net = DistributedDataParallel(model, ids, gradient_as_bucket_view=True)

        def average(group, bucket):  # type: ignore[no-untyped-def]  # DDP refuses annotations that are text
            if bucket.is_last():
                computed()
            return allreduce_hook(group, bucket)

        net.register_comm_hook(None, average)
        return net

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


def keep_freed_memory() -> None:
    """Let the C library keep what tensors on the CPU give back. glibc returns large blocks to the system, so
    that each step would get its memory anew, page by page: an eighth of ResNet-18's time."""
    with contextlib.suppress(AttributeError):  # not glibc
        for option, value in ((M_MMAP_THRESHOLD, 2**30), (M_TRIM_THRESHOLD, 2**31 - 1)):
            ctypes.CDLL(None).mallopt(option, value)


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


def by_intel() -> bool:
    """Whether the processor is Intel's, as Linux tells it."""
    with contextlib.suppress(OSError):
        return "GenuineIntel" in PROCESSOR.read_text()
    return False
