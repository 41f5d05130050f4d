"""The device of a training run, and its processes under torchrun."""

import ctypes
import os
import sys
from typing import get_args

import torch
from torch import Tensor, distributed, nn

from mriscope.choices import Device
from mriscope.errors import ArgumentError, UnknownNameError


def pick_device(name: str) -> torch.device:
    """Return the device of a name; under torchrun each process has its own GPU.

    Args:
        name: auto (a GPU where there is one), cpu or cuda.

    Raises:
        UnknownNameError: there is no such device.
        ArgumentError: it is not on this machine.
    """
    _keep_freed_memory()
    has_gpu = torch.cuda.is_available()
    if name not in get_args(Device):
        raise UnknownNameError("device", name, get_args(Device))
    if name == "cuda" and not has_gpu:
        raise ArgumentError("this machine has no CUDA device that torch can use; run with --device cpu")
    if name == "cpu" or not has_gpu:
        return torch.device("cpu")
    number, count = int(os.environ.get("LOCAL_RANK", "0")), torch.cuda.device_count()
    if number >= count:
        raise ArgumentError(f"torchrun started more processes than the {count} GPUs here; start one for each")
    torch.backends.cudnn.deterministic = True
    torch.cuda.set_device(number)
    return torch.device("cuda", number)


def describe_device(device: torch.device) -> str:
    """Return what computes in words: the GPU's name, or how many threads of the CPU."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    threads = torch.get_num_threads()
    return f"CPU, {threads} thread{'s' * (threads != 1)}"


def use_bfloat16(precision: str, device: torch.device) -> bool:
    """Return whether training steps compute in bfloat16.

    Args:
        precision: float32, bfloat16, or auto: bfloat16 where the device has instructions for products of bfloat16 (AMX
            or AVX-512 BF16 of a processor, tensor cores of a GPU), which is where it was measured to be faster
            (docs/performance.md). Elsewhere it is emulated and slower.
        device: that computes.

    Example:
        >>> use_bfloat16("float32", torch.device("cpu"))
        False
    """
    if precision != "auto":
        return precision == "bfloat16"
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    return any(torch.cpu.get_capabilities().get(name, False) for name in ("avx512_bf16", "amx_bf16"))


def init_process_group(device: torch.device) -> None:
    """Join the other processes that torchrun started; do nothing in a process of its own."""
    if int(os.environ.get("WORLD_SIZE", "1")) > 1 and not distributed.is_initialized():
        distributed.init_process_group("nccl" if device.type == "cuda" else "gloo")


def destroy_process_group() -> None:
    """Leave the other processes once all have come here; do nothing in a process of its own."""
    if distributed.is_initialized():
        distributed.barrier()  # one that leaves while another still talks to it can end both
        distributed.destroy_process_group()


def rank() -> int:
    """Return this process's number among those of torchrun; process 0 writes files and prints."""
    return int(os.environ.get("RANK", "0"))


def world_size() -> int:
    """Return the number of processes that train together."""
    return distributed.get_world_size() if distributed.is_initialized() else 1


def all_reduce_sum(numbers: list[float], device: torch.device) -> list[float]:
    """Return the sum of each number over all processes."""
    if world_size() == 1:
        return numbers
    total = torch.tensor(numbers, dtype=torch.float64, device=device)
    distributed.all_reduce(total)
    return total.tolist()


def gather_shares(share: Tensor, total: int) -> Tensor:
    """Return a value for each slice of the whole batch, of which each process has every nth.

    Args:
        share: float (n,), of this process's slices.
        total: slices of the whole batch.

    Returns:
        float (total,), in the order of the batch, the same in every process.
    """
    if world_size() == 1:
        return share
    whole = share.new_zeros(total)
    whole[rank() :: world_size()] = share.detach()
    distributed.all_reduce(whole)
    return whole


def broadcast_buffers(model: nn.Module) -> None:
    """Copy the first process's buffers (running statistics) to all, as they are the ones that are saved."""
    if world_size() > 1:
        for buffer in model.buffers():
            distributed.broadcast(buffer, 0)


def barrier() -> None:
    """Wait until every process has come here."""
    if world_size() > 1:
        distributed.barrier()


def _keep_freed_memory() -> None:
    """Let glibc keep what a step frees for the next one, where it would return each large tensor to the system.

    Getting the pages anew is two fifths of the time of a step of BaselineCNN on two CPU cores (benchmarks/training.py).
    """
    if sys.platform != "linux":
        return
    trim_threshold, mmap_threshold = -1, -3  # numbers of malloc.h
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)  # other C libraries than glibc lack it
    if mallopt is not None:
        mallopt(mmap_threshold, 2**30)
        mallopt(trim_threshold, 2**31 - 1)
