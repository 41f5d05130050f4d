"""Where a training runs: the device, and its place among the processes of torchrun."""

import ctypes
import os
import sys

import torch
from torch import distributed, nn

from mriscope.errors import MriscopeError


def pick_device(name: str) -> torch.device:
    """The device of a name: auto (a GPU where there is one), cpu or cuda; under torchrun each process has its own GPU.

    Raises:
        MriscopeError: no such device is here.
    """
    _keep_freed_memory()
    has_gpu = torch.cuda.is_available()
    if name not in ("auto", "cpu", "cuda"):
        raise MriscopeError(f"there is no device {name!r}; choose auto, cpu or cuda")
    if name == "cuda" and not has_gpu:
        raise MriscopeError("this machine has no CUDA device that torch can use; run with --device cpu")
    if name == "cpu" or not has_gpu:
        return torch.device("cpu")
    number, count = int(os.environ.get("LOCAL_RANK", "0")), torch.cuda.device_count()
    if number >= count:
        raise MriscopeError(f"torchrun started more processes than the {count} GPUs here; start one for each")
    torch.backends.cudnn.deterministic = True
    torch.cuda.set_device(number)
    return torch.device("cuda", number)


def join_processes(device: torch.device) -> None:
    """Meet the other processes that torchrun started; alone, do nothing."""
    if int(os.environ.get("WORLD_SIZE", "1")) > 1 and not distributed.is_initialized():
        distributed.init_process_group("nccl" if device.type == "cuda" else "gloo")


def leave_processes() -> None:
    """Part from the other processes when all have come here; alone, do nothing."""
    if distributed.is_initialized():
        distributed.barrier()  # one that leaves while another still talks to it can end both
        distributed.destroy_process_group()


def rank() -> int:
    """This process's number among those of torchrun; 0 writes and prints."""
    return int(os.environ.get("RANK", "0"))


def world() -> int:
    """How many processes train together."""
    return distributed.get_world_size() if distributed.is_initialized() else 1


def add_up(numbers: list[float], device: torch.device) -> list[float]:
    """The sum of each number over all processes."""
    if world() == 1:
        return numbers
    total = torch.tensor(numbers, dtype=torch.float64, device=device)
    distributed.all_reduce(total)
    return total.tolist()


def share_buffers(model: nn.Module) -> None:
    """Give every process the first one's running statistics, which are those that are kept."""
    if world() > 1:
        for buffer in model.buffers():
            distributed.broadcast(buffer, 0)


def wait_for_all() -> None:
    """Go on when every process has come here."""
    if world() > 1:
        distributed.barrier()


def _keep_freed_memory() -> None:
    """Have glibc keep what a step frees for the next one, where it would give each large tensor back to the system.

    Getting the pages anew is two fifths of the time of a step of BaselineCNN on two CPU cores (benchmarks/training.py).
    """
    if sys.platform != "linux":
        return
    trim_threshold, mmap_threshold = -1, -3  # numbers of malloc.h
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)  # other C libraries than glibc lack it
    if mallopt is not None:
        mallopt(mmap_threshold, 2**30)
        mallopt(trim_threshold, 2**31 - 1)
