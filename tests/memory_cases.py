"""Peaks of memory of known tensors, measured in a process of its own: python -m tests.memory_cases

Libraries that other tests load change how freed memory is kept. Prints a JSON object of name to bytes.
"""

import json
import threading

import torch

from models.training.memory import peak_extra_bytes

MEBIBYTE = 2**20


def filled(mebibytes: int) -> torch.Tensor:
    """A tensor of that size, written to."""
    return torch.ones(mebibytes * MEBIBYTE // 4)


def one_after_another() -> tuple[torch.Tensor, torch.Tensor]:
    """72 MiB at most, of 120 in all."""
    first = filled(48)
    del first
    second = filled(48)
    return filled(24), second


def in_another_thread() -> None:
    """The same by another thread."""
    thread = threading.Thread(target=one_after_another)
    thread.start()
    thread.join()


CASES = {
    "one tensor": (lambda: filled(64), 64),
    "with another freed before": (one_after_another, 72),
    "by another thread": (in_another_thread, 72),
    "none": (lambda: None, 0),
}


def main() -> None:
    """Measure each case beside an input of 32 MiB, which does not count."""
    held = filled(32)
    device = torch.device("cpu")
    print(json.dumps({name: peak_extra_bytes(run, device) for name, (run, _) in CASES.items()}))
    assert held.sum() > 0


if __name__ == "__main__":
    main()
