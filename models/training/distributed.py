"""The processes that train together, one on each device, as torchrun starts them."""

import threading
import time
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import torch
from torch import nn

from data.files import first_line
from data.seeds import derived_seed
from models.base import NVSModel
from models.device import choose_device
from models.training.rank_environment import REMEDY, Ranks, read_meeting_point, read_ranks

# Timeout for machines that are switched off; processes that die are noticed within seconds. Long enough for
# the main process to sample previews or save.
TIMEOUT = timedelta(minutes=20)
FOREVER = timedelta(days=365)
PATIENCE_S = 10.0  # for a process to notice by itself and print its message


@dataclass(frozen=True)
class Workers:
    """This process among those that train together."""

    rank: int
    world: int
    device: torch.device
    control: Any = None  # process group for short messages between CPUs
    watch: Any = None  # process group for noticing that a process has died

    @property
    def is_main(self) -> bool:
        """Whether this process writes files and prints."""
        return self.rank == 0

    @property
    def is_single(self) -> bool:
        """Whether this is the only process."""
        return self.world == 1

    def any(self, flag: bool) -> bool:
        """Whether `flag` is true in any process; a collective call."""
        if self.is_single:
            return flag
        flags = torch.tensor(int(flag))
        torch.distributed.all_reduce(flags, op=torch.distributed.ReduceOp.MAX, group=self.control)
        return bool(flags)

    def barrier(self) -> None:
        """Wait for all processes; a collective call."""
        self.any(False)

    def mean(self, values: dict[str, float]) -> dict[str, float]:
        """Mean of each value over the processes; a collective call, with the same names."""
        if self.is_single:
            return values
        totals = torch.tensor(list(values.values()), dtype=torch.float64)
        torch.distributed.all_reduce(totals, group=self.control)
        return dict(zip(values, (totals / self.world).tolist(), strict=True))

    def distinct(self, names: set[str]) -> int:
        """The number of distinct names over all processes; a collective call."""
        if self.is_single:
            return len(names)
        own = torch.tensor([derived_seed(0, name) for name in names], dtype=torch.int64)
        most = torch.tensor(len(names))
        torch.distributed.all_reduce(most, op=torch.distributed.ReduceOp.MAX, group=self.control)
        padded = torch.nn.functional.pad(own, (0, int(most) - len(names)), value=-1)
        found = [torch.empty_like(padded) for _ in range(self.world)]
        torch.distributed.all_gather(found, padded, group=self.control)
        return len(set(torch.cat(found).tolist()) - {-1})

    def wrap(self, model: NVSModel) -> nn.Module:
        """Wrap the model in DistributedDataParallel, if there are several processes."""
        if self.is_single:
            return model
        devices = [self.device] if self.device.type == "cuda" else None
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)  # torch will give `broadcast_buffers` another name
            return nn.parallel.DistributedDataParallel(
                model, device_ids=devices, broadcast_buffers=False, gradient_as_bucket_view=True
            )

    @contextmanager
    def session(self, lost: Callable[[], None]) -> Iterator["Workers"]:
        """Context of joint work; at its end the processes wait for each other and leave the group.

        Raises LostRankError if the work failed because another process had died. If this process does not
        notice, for example because it waits for a GPU, `lost` is called in a thread and must end it.
        """
        if self.world == 1:
            yield self
            return
        peers = PeerMonitor(self.rank, self.world, self.watch, lost)
        try:
            yield self
        except RuntimeError as error:
            if peers.has_failed(patience_s=2.0):
                raise LostRankError("another rank ended") from error
            raise
        peers.close()
        torch.distributed.destroy_process_group()


def join_workers(device_name: str, environment: Mapping[str, str]) -> Workers:
    """Choose this process's device, and join the process group of the job (see `rank_environment`).

    Raises ValueError if the environment is inconsistent, the processes do not meet, the device does not exist
    or there are fewer GPUs than processes.
    """
    ranks, name = read_ranks(environment), device_name
    rank, local_rank, world = ranks.rank, ranks.local_rank, ranks.world
    if world > 1 and name.startswith("cuda:"):
        raise ValueError(f"train.device: {name} is one device for {world} processes; use auto or cpu")
    if name in ("auto", "cuda") and 0 < torch.cuda.device_count() <= local_rank:
        raise ValueError(
            f"train.device={name}: this is process {local_rank + 1} of this machine, which has "
            f"{torch.cuda.device_count()} usable GPUs; start one process for each"
        )
    device = choose_device(f"cuda:{local_rank}" if name == "cuda" else name, local_rank)
    if device.type == "cuda":
        torch.cuda.set_device(device)  # the default of code that names no device
    if world == 1:
        return Workers(rank, world, device)
    _meet(ranks, environment, "nccl" if device.type == "cuda" else "gloo")
    control, watch = (torch.distributed.new_group(backend="gloo", timeout=t) for t in (TIMEOUT, FOREVER))
    return Workers(rank, world, device, control, watch)


def _meet(ranks: Ranks, environment: Mapping[str, str], backend: str) -> None:
    """Join the default process group."""
    address, port = read_meeting_point(environment)
    try:
        torch.distributed.init_process_group(
            backend, timeout=TIMEOUT, rank=ranks.rank, world_size=ranks.world
        )
    except (torch.distributed.DistNetworkError, torch.distributed.DistStoreError) as error:
        raise ValueError(
            f"the {ranks.world} processes did not meet at MASTER_ADDR={address} MASTER_PORT={port} "
            f"({first_line(error)}); {REMEDY}"
        ) from error


def exchange(parallel: nn.Module, *, gradients: bool) -> AbstractContextManager:
    """Context of a pass; without `gradients`, they are accumulated locally for a later exchange."""
    return nullcontext() if gradients or not hasattr(parallel, "no_sync") else parallel.no_sync()


def reseed(seed: int, rank: int, part: int) -> None:
    """Seed the global generator (used by dropout), so that every pass is reproducible on its own."""
    torch.manual_seed(derived_seed(derived_seed(seed, rank), part))


class LostRankError(Exception):
    """Joint work failed because another process died."""


class PeerMonitor:
    """Notices within seconds when another process of the run dies, instead of at the group's timeout.

    torchrun's agent ends the processes of its own machine when one of them dies. Those of other machines, and
    those that a cluster's launcher started without an agent, would wait in a collective call until it times
    out. So every process holds a socket to rank 0, on which nothing is sent until the run ends. When a
    process dies, the operating system closes its socket, which rank 0 notices; rank 0 then ends, which all
    others notice.

    `group` has all processes and a timeout longer than any run. `lost` is called, in a thread, if one of them
    has died and this process has not ended by itself soon after; it must end it.
    """

    def __init__(self, rank: int, world: int, group: Any, lost: Callable[[], None]):
        self._peers = range(1, world) if rank == 0 else range(1)
        self._first, self._group, self._lost = rank == 0, group, lost
        self._gone = threading.Event()
        self._listeners = [
            threading.Thread(target=self._listen, args=(peer,), daemon=True) for peer in self._peers
        ]
        for listener in self._listeners:
            listener.start()

    def has_failed(self, patience_s: float) -> bool:
        """Whether a peer is known to have died, waiting up to `patience_s` seconds for the news."""
        return self._gone.wait(patience_s)

    def close(self) -> None:
        """Wait until all processes are done."""
        if not self._first:
            self._say_goodbye()
        for listener in self._listeners:
            listener.join()
        if self._first:
            self._say_goodbye()

    def _say_goodbye(self) -> None:
        for peer in self._peers:
            torch.distributed.send(torch.zeros(1), peer, group=self._group)

    def _listen(self, peer: int) -> None:
        try:
            torch.distributed.recv(torch.zeros(1), peer, group=self._group)
        except RuntimeError:  # the line is dead
            self._gone.set()
            time.sleep(PATIENCE_S)
            self._lost()
