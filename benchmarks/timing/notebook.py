"""The usual notebook's way in our own plain words: what the package's speed is measured against.

pandas reads the parquet files, OpenCV decodes row by row into a column, a Dataset makes one tensor for each item, a
DataLoader gives batches of 32, and float32 AdamW trains. Nothing is made slow on purpose: threads, allocator and memory
format are torch's defaults.
"""

import time
from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

BATCH = 32


def read_part(folder: Path, part: str) -> pd.DataFrame:
    """Return a part ("train" or "test") as a table with columns image, uint8 (128, 128), and label."""
    files = sorted(folder.glob(f"{part}*.parquet"))
    table = pd.concat([pd.read_parquet(file) for file in files], ignore_index=True)
    table["image"] = [decode(cell) for cell in table["image"]]
    return table


def decode(cell: dict[str, Any]) -> np.ndarray:
    image = cv2.imdecode(np.frombuffer(cell["bytes"], np.uint8), cv2.IMREAD_GRAYSCALE)
    assert image is not None
    return image


class Slices(Dataset[tuple[Tensor, Tensor]]):
    """One tensor for each item.

    Args:
        table: of read_part.
    """

    def __init__(self, table: pd.DataFrame) -> None:
        self.table = table

    def __len__(self) -> int:
        return len(self.table)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        row = self.table.iloc[index]
        image = torch.tensor(row["image"], dtype=torch.float32).unsqueeze(0)
        return image, torch.tensor(int(row["label"]), dtype=torch.long)


def make_network() -> nn.Module:
    """Return BaselineCNN as the study writes it."""
    layers = OrderedDict[str, nn.Module](
        conv1=nn.Conv2d(1, 32, 3, padding=1),
        relu1=nn.ReLU(),
        pool1=nn.MaxPool2d(2),
        norm1=nn.BatchNorm2d(32),
        conv2=nn.Conv2d(32, 64, 3, padding=1),
        relu2=nn.ReLU(),
        pool2=nn.MaxPool2d(2),
        flatten=nn.Flatten(),
        fc1=nn.Linear(64 * 32 * 32, 128),
        relu3=nn.ReLU(),
        out=nn.Linear(128, 4),
    )
    return nn.Sequential(layers)


@dataclass
class Notebook:
    """A notebook in the middle of its training.

    Args:
        folder: of the two parquet files.
        seed: of weights and order.
        network: BaselineCNN if not given.
        device: where it trains.
    """

    folder: Path
    seed: int = 0
    network: nn.Module | None = None
    device: str = "cpu"

    def __post_init__(self) -> None:
        started = time.perf_counter()
        torch.manual_seed(self.seed)
        self.train = DataLoader(Slices(read_part(self.folder, "train")), batch_size=BATCH, shuffle=True)
        self.test = DataLoader(Slices(read_part(self.folder, "test")), batch_size=BATCH)
        self.seconds_to_read = time.perf_counter() - started
        self.model = (self.network or make_network()).to(self.device)
        self.optimizer = torch.optim.AdamW(self.model.parameters(), lr=1e-3)
        self.loss = nn.CrossEntropyLoss()

    def steps(self) -> Iterator[float]:
        """Train for an epoch, and yield the loss of each step."""
        self.model.train()
        for images, labels in self.train:
            self.optimizer.zero_grad()
            loss = self.loss(self.model(images.to(self.device)), labels.to(self.device))
            loss.backward()
            self.optimizer.step()
            yield loss.item()

    def accuracy(self) -> float:
        """Return the share of test slices that are called rightly."""
        self.model.eval()
        right = 0
        with torch.no_grad():
            for images, labels in self.test:
                right += int((self.model(images.to(self.device)).argmax(dim=1).cpu() == labels).sum())
        return right / len(self.test.dataset)  # pyright: ignore[reportArgumentType] - a Dataset that has a length
