"""Skull stripping of T1 volumes with the two networks of deepbet.

Fisch et al. (2024), deepbet: Fast brain extraction of T1-weighted MRI using convolutional neural networks, Computers in
Biology and Medicine 179, 108845. The weights are those of the package deepbet 1.0.2 (MIT; `deepbet.LICENSE.txt` beside
them holds the notice and says what was changed). They are kept as safetensors, which hold numbers and no code, and the
network is written anew here, so that none of the package's TorchScript is run.
"""

from dataclasses import dataclass
from functools import lru_cache
from importlib.resources import files

import numpy as np
import torch
from scipy import ndimage
from torch import nn
from torch.nn import functional

from mriscope.errors import DataError
from mriscope.preparation.grids import Grid

WEIGHTS = "deepbet.safetensors"
_COARSE, _FINE = 128, 256  # voxels on each side of what the two networks see
_MARGIN = 0.1  # of the brain's length, left around it on each side
_LEAST_SHARE = 0.02  # of a layer; layers with less of the brain are none of its box
_STRIPPED = 0.02  # share of the signal outside the brain; a head with its skull has ten times more
_ROOM = np.array([190.0, 230.0, 200.0])  # mm; smaller volumes are padded, as the networks know heads with air around
_DARKEST = 0.02  # of the brightest tissue; what is darker is background
_REACH = 8.0  # mm; signal nearer to the brain than this is no proof of a skull


@dataclass(frozen=True, eq=False)
class Skull:
    """What was found around the brain of a volume.

    Args:
        brain: bool (I, J, K), voxels of the brain with the fluid around it.
        outside: share of the volume's signal that lies over 8 mm outside the brain.
    """

    brain: np.ndarray
    outside: float

    @property
    def is_stripped(self) -> bool:
        """Tell whether the volume came without its skull."""
        return self.outside < _STRIPPED


def find_brain(volume: Grid, *, fine: bool = True) -> Skull:
    """Find the brain in a T1 volume, and whether there is a skull around it.

    The coarse network finds the box of the brain, the fine one the brain in that box. Of a volume that comes without a
    skull the brain is what is brighter than its background.

    Args:
        volume: along RAS+ axes, 0 or more; 0 is background.
        fine: whether to use the fine network too; without it, the border is as exact as 1/128 of the volume's sides.

    Raises:
        DataError: no brain is found.
    """
    extra = np.ceil(np.maximum(_ROOM / volume.spacings - volume.data.shape, 0) / 2).astype(int)
    data = np.pad(volume.data, [(side, side) for side in extra])
    whole = tuple(slice(side, side + length) for side, length in zip(extra, volume.data.shape, strict=True))
    low, high = (float(value) for value in np.quantile(_resize(data, (_COARSE,) * 3), [0.005, 0.995]))
    if not high > low:
        raise DataError("shows no brain: nearly all of it has one value")
    coarse = _largest(_predict("coarse", _resize(data, (_COARSE,) * 3), low, high) > 0.5)
    box = _find_box(coarse, data.shape)
    brain = _resize(coarse.astype(np.float32), data.shape) > 0.5
    signal = data.clip(0, high)
    away = np.asarray(ndimage.distance_transform_edt(~brain, sampling=volume.spacings))
    outside = float(signal[away > _REACH].sum() / signal.sum())
    if outside < _STRIPPED:
        return Skull(_fill(_largest(data > _DARKEST * high))[whole], outside)
    if fine:
        brain = np.zeros(data.shape, bool)
        found = _predict("fine", _resize(data[box], (_FINE,) * 3), low, high)
        brain[box] = _resize(found, data[box].shape) > 0.5
    return Skull(_fill(_largest(brain))[whole], outside)


def _predict(name: str, voxels: np.ndarray, low: float, high: float) -> np.ndarray:
    """Return the probability of brain at each voxel, float32."""
    scaled = ((torch.from_numpy(voxels) - low) / (high - low)).clamp(0, 1)
    scaled = 0.226 * (scaled - scaled.mean()) / scaled.std() + 0.449
    with torch.inference_mode():
        return _load_networks()[name](scaled[None, None])[0, 1].numpy()


def _resize(data: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    voxels = torch.from_numpy(np.ascontiguousarray(data, np.float32))
    return functional.interpolate(voxels[None, None], shape, mode="nearest-exact")[0, 0].numpy()


def _largest(mask: np.ndarray) -> np.ndarray:
    """Return the largest connected part of a mask."""
    labels = np.zeros(mask.shape, np.int32)
    if not ndimage.label(mask, output=labels):
        raise DataError("shows no brain that the network for skull stripping knows")
    return labels == np.bincount(labels.ravel())[1:].argmax() + 1


def _fill(mask: np.ndarray) -> np.ndarray:
    """Return a mask without holes."""
    return np.asarray(ndimage.binary_fill_holes(mask), bool)


def _find_box(coarse: np.ndarray, shape: tuple[int, ...]) -> tuple[slice, ...]:
    """Return the box around the brain in a volume of another shape, with its margin."""
    box = []
    for axis, length in enumerate(shape):
        share = coarse.mean(axis=tuple(other for other in range(3) if other != axis))
        layers = np.flatnonzero(share > _LEAST_SHARE)
        if not len(layers):
            raise DataError("shows no brain that the network for skull stripping knows")
        first, last = layers[0] * length / _COARSE, (layers[-1] + 1) * length / _COARSE
        margin = _MARGIN * (last - first)
        box.append(slice(max(0, round(first - margin)), min(length, round(last + margin))))
    return tuple(box)


@lru_cache(maxsize=1)
def _load_networks() -> dict[str, nn.Module]:
    """Load both networks, for the processor."""
    from safetensors.torch import load

    try:
        tensors = load((files("mriscope.preparation") / WEIGHTS).read_bytes())
    except (OSError, ValueError) as error:
        raise DataError(f"{WEIGHTS} of mriscope is missing or damaged ({error}); install mriscope afresh") from error
    networks = {}
    for name in ("coarse", "fine"):
        with torch.device("meta"):
            network = LinkNet()
        own = {key.removeprefix(f"{name}."): one.float() for key, one in tensors.items() if key.startswith(f"{name}.")}
        network.load_state_dict(own, assign=True)
        networks[name] = network.eval()
    return networks


class LinkNet(nn.Module):
    """The network of deepbet: a LinkNet (Chaurasia and Culurciello, 2017) with convolutions in three dimensions.

    Example:
        >>> with torch.inference_mode():
        ...     tuple(LinkNet()(torch.zeros(1, 1, 64, 64, 64)).shape)
        (1, 2, 64, 64, 64)
    """

    def __init__(self) -> None:
        super().__init__()
        self.init = nn.Sequential(
            nn.Conv3d(1, 16, 7, 2, 3, bias=False), nn.InstanceNorm3d(16), nn.ReLU(), nn.MaxPool3d(3, 2, 1)
        )
        self.down0, self.down1, self.down2, self.down3 = _down(16, 16), _down(16, 32), _down(32, 64), _down(64, 128)
        self.up0, self.up1, self.up2, self.up3 = _up(128, 64), _up(64, 32), _up(32, 16), _up(16, 16, 1)
        self.tp_conv1 = nn.Sequential(nn.ConvTranspose3d(16, 8, 3, 2, 1, 1), nn.InstanceNorm3d(8), nn.ReLU())
        self.conv = nn.Sequential(nn.Conv3d(8, 8, 3, 1, 1), nn.InstanceNorm3d(8), nn.ReLU())
        self.tp_conv2 = nn.ConvTranspose3d(8, 2, 2, 2)

    def forward(self, voxels: torch.Tensor) -> torch.Tensor:
        """Return probabilities of background and brain.

        Args:
            voxels: (N, 1, I, J, K); sides are multiples of 32, and not all are 32.

        Returns:
            (N, 2, I, J, K).
        """
        first = self.init(voxels)
        second = self.down0(first)
        third = self.down1(second)
        fourth = self.down2(third)
        found = self.up0(self.down3(fourth)) + fourth
        found = self.up2(self.up1(found) + third) + second
        found = self.tp_conv1(self.up3(found) + first)
        return self.tp_conv2(self.conv(found)).softmax(1)


class _Block(nn.Module):
    def __init__(self, before: int, after: int) -> None:
        super().__init__()
        stride = 1 if before == after else 2
        self.double_conv = nn.Sequential(
            nn.Conv3d(before, after, 3, stride, 1, bias=False),
            nn.InstanceNorm3d(after),
            nn.ReLU(),
            nn.Conv3d(after, after, 3, 1, 1, bias=False),
            nn.InstanceNorm3d(after),
        )
        self.downsample = nn.Identity()
        if stride == 2:
            self.downsample = nn.Sequential(nn.Conv3d(before, after, 1, 2, bias=False), nn.InstanceNorm3d(after))

    def forward(self, voxels: torch.Tensor) -> torch.Tensor:
        return functional.relu(self.double_conv(voxels) + self.downsample(voxels))


def _down(before: int, after: int) -> nn.Sequential:
    blocks = nn.Sequential()
    blocks.add_module("block1", _Block(before, after))
    blocks.add_module("block2", _Block(after, after))
    return blocks


def _up(before: int, after: int, stride: int = 2) -> nn.Sequential:
    inner = before // 4
    layers = {
        "conv1": nn.Conv3d(before, inner, 1, bias=False),
        "tp_conv": nn.ConvTranspose3d(inner, inner, 3, stride, 1, stride - 1, bias=False),
        "conv2": nn.Conv3d(inner, after, 1, bias=False),
    }
    blocks = nn.Sequential()
    for name, layer in layers.items():
        blocks.add_module(name, nn.Sequential(layer, nn.InstanceNorm3d(int(layer.out_channels)), nn.ReLU()))
    return blocks
