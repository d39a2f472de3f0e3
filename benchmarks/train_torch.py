"""The torch peer of benchmarks.train: a DataLoader with simplejpeg and the same random-resized-crop.

python -m benchmarks.train_torch FOLDER SIDE BATCH    prints images per second, by wall clock and by processor time
"""

import os
import sys
import time
from pathlib import Path

import numpy as np
import psutil
import simplejpeg
import torch


class Pictures(torch.utils.data.Dataset):
    """The JPEGs below a folder as [3, side, side] uint8 tensors, cropped, resized and mirrored at random."""

    def __init__(self, folder: str, side: int) -> None:
        self._files, self._side = sorted(Path(folder).glob("*/*.jpg")), side

    def __len__(self) -> int:
        return len(self._files)

    def __getitem__(self, index: int) -> tuple[torch.Tensor, int]:
        file = self._files[index]
        picture = simplejpeg.decode_jpeg(file.read_bytes(), "RGB", fastdct=True, fastupsample=True)
        short = min(picture.shape[:2])
        area, ratio = short * short * np.random.uniform(0.35, 1), np.exp(np.random.uniform(-0.288, 0.288))
        height, width = (min(short, round((area * r) ** 0.5)) for r in (1 / ratio, ratio))
        top, left = (np.random.randint(0, free + 1) for free in (picture.shape[0] - height, picture.shape[1] - width))
        window = torch.from_numpy(picture[top : top + height, left : left + width]).permute(2, 0, 1)[None]
        image = torch.nn.functional.interpolate(window, (self._side, self._side), mode="bilinear")[0]
        return (image.flip(2) if np.random.random() < 0.5 else image), int(file.parent.name)


def _processor_seconds() -> float:
    """Of this process and its running children (os.times would count only those that have ended)."""
    processes = [psutil.Process(), *psutil.Process().children()]
    return sum(sum(process.cpu_times()[:2]) for process in processes)


def main() -> None:
    """Pulls batches and prints the rates."""
    folder, side, batch = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
    data = Pictures(folder, side)
    loader = torch.utils.data.DataLoader(
        data, batch, shuffle=True, num_workers=os.cpu_count() or 1, persistent_workers=True
    )
    list(loader)  # the workers have started
    wall, before = time.perf_counter(), _processor_seconds()
    count = sum(len(images) for _ in range(2) for images, _ in loader)
    processor = _processor_seconds() - before
    print(count / (time.perf_counter() - wall), count / processor)


if __name__ == "__main__":
    main()
