"""Networks of timm with one input channel: the study's two large ones, and any other by its name.

The filters of the first convolution are summed over RGB, as timm does it: a grey slice then gives the same maps as
three equal channels would. The study took their mean, a third of that, for which batch norms with fixed statistics do
not compensate.
"""

import difflib
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from mriscope.errors import RecipeError, UnknownNameError
from mriscope.files import expand_home
from mriscope.models.foreign import list_differences, mismatch_error, read_state_dict
from mriscope.models.registration import register

_REMEDY = (
    "give a local copy as model_options.weights=/path/to/file.safetensors, "
    "or train from scratch with model_options.weights=none"
)


class Backbone(nn.Module):
    """A network of timm without its classifier, followed by a head.

    Frozen parts stay in evaluation mode, also while the rest trains: their batch norms keep their statistics.

    Args:
        network: its forward_features become `features`, its own pooling `pool`. A vision transformer's features are
            tokens (B, N, C), class tokens first; a network of channels-last layers gives maps (B, h, w, C).
        head: from the pooled features to logits.
        trained: first parts of the names of the weights that are trained; "" trains all.
    """

    def __init__(self, network: Any, head: nn.Module, trained: Sequence[str] = ("",)) -> None:
        super().__init__()
        network.forward = network.forward_features  # so that layers keep timm's names below `features`
        self.features = network
        self.pool = _Pool(network)
        self.head = head
        for name, weights in self.named_parameters():
            weights.requires_grad = name.startswith(tuple(trained))
        self.train()

    def forward(self, images: Tensor) -> Tensor:
        """Return logits, float32 (B, classes), of float32 (B, 1, H, W)."""
        return self.head(self.pool(self.features(images)))

    def train(self, mode: bool = True) -> "Backbone":
        """Set the training mode of all parts that are not frozen."""
        super().train(mode)
        for module in list(self.modules())[1:] if mode else ():
            weights = list(module.parameters())
            if weights and not any(one.requires_grad for one in weights):
                module.eval()
        return self


class _Pool(nn.Module):
    """The pooling of a network of timm: from its features to one vector for each image."""

    def __init__(self, network: Any) -> None:
        super().__init__()
        self._network = (network,)  # in a tuple, since its weights are counted once, as those of `features`

    def forward(self, maps: Tensor) -> Tensor:
        return self._network[0].forward_head(maps, pre_logits=True)


@register
def resnet50(
    *, classes: int = 4, size: int = 128, weights: str = "imagenet", frozen: bool | None = None, pretrained: bool = True
) -> nn.Module:
    """The study's AdvancedCNN: ResNet-50 from ImageNet weights, frozen but for its last stage and the head."""
    frozen = _resolve_frozen(weights, frozen, otherwise=True)
    network = _network("resnet50", size, weights if pretrained else "none")
    head = OrderedDict[str, nn.Module](dropout=nn.Dropout(0.5), out=nn.Linear(2048, classes))
    return Backbone(network, nn.Sequential(head), ("features.layer4.", "head.") if frozen else ("",))


@register
def efficientnet_b3(
    *, classes: int = 4, size: int = 128, weights: str = "imagenet", frozen: bool | None = None, pretrained: bool = True
) -> nn.Module:
    """The study's EfficientNet-B3: from ImageNet weights, FC 512 before the output, nothing frozen."""
    frozen = _resolve_frozen(weights, frozen, otherwise=False)
    network = _network("efficientnet_b3", size, weights if pretrained else "none")
    head = OrderedDict[str, nn.Module](
        dropout1=nn.Dropout(0.4),
        fc1=nn.Linear(1536, 512),
        relu=nn.ReLU(),
        dropout2=nn.Dropout(0.4),
        out=nn.Linear(512, classes),
    )
    return Backbone(network, nn.Sequential(head), ("head.",) if frozen else ("",))


def timm_model(
    name: str,
    *,
    classes: int = 4,
    size: int = 128,
    weights: str = "imagenet",
    frozen: bool | None = None,
    pretrained: bool = True,
) -> nn.Module:
    """Create any network of timm, with one linear layer as its head.

    Args:
        name: as timm lists it, with or without the tag of its weights: convnext_tiny, or convnext_tiny.fb_in1k.
        classes: number of outputs.
        size: height and width of the input in pixels; networks that are built for one size are built for this one.
        weights: "imagenet", those that timm has for this name, from the hub or its cache; "none", random ones; or the
            path of a file with timm's names, made for one channel or for three: safetensors, or what torch.save wrote
            (see read_state_dict).
        frozen: whether the head alone is trained; None: no.
        pretrained: False leaves the weights random whatever `weights` says, for a model that is filled later.

    Raises:
        UnknownNameError: timm has no such network, or no such weights of it; the message names the near ones.
        RecipeError: an option does not fit, the network takes no slice of this size, there is no such file of weights,
            or the hub is out of reach.
        DataError: the file of weights is damaged, or holds those of another network.
    """
    frozen = _resolve_frozen(weights, frozen, otherwise=False)
    _check_name(name)
    try:
        network = _network(name, size, "none")
        width = _pooled_width(network, size)
    except Exception as error:  # a network that was made for other inputs may refuse these in any way
        reason = " ".join(str(error).split())[:200] or type(error).__name__
        raise RecipeError(f"timm:{name}", [f"takes no slices of 1×{size}×{size} ({reason})"]) from error
    if pretrained and weights != "none":
        network = _network(name, size, weights)
    return Backbone(network, nn.Linear(width, classes), ("head.",) if frozen else ("",))


def _resolve_frozen(weights: object, frozen: object, *, otherwise: bool) -> bool:
    """Check both options; return whether parts are frozen, which follows from the weights where it is not given."""
    if not isinstance(weights, str):
        raise RecipeError("model_options.weights", [f"is {weights!r}; choose none, imagenet or a file of weights"])
    if not isinstance(frozen, bool | None):
        raise RecipeError("model_options.frozen", [f"is {frozen!r}; choose true or false"])
    if frozen and weights == "none":
        raise RecipeError("model_options.frozen", ["would keep random weights, as weights is none; set it to false"])
    return otherwise and weights != "none" if frozen is None else frozen


def _check_name(name: str) -> None:
    import timm

    known, (base, tag, _) = timm.list_models(), name.partition(".")
    if base in known and tag:
        known, base = timm.list_models(f"{base}.*", pretrained=True), name
    if base not in known:  # the nearest alone, as timm has over a thousand
        raise UnknownNameError("timm model", name, difflib.get_close_matches(base, known, n=3, cutoff=0) or known)


def _pooled_width(network: Any, size: int) -> int:
    """Return the width of a network's pooled features; raises where it does not take images of this size."""
    network.eval()
    with torch.no_grad():
        features = network.forward_features(torch.zeros(1, 1, size, size, device=next(network.parameters()).device))
        return network.forward_head(features, pre_logits=True).shape[1]


def _network(name: str, size: int, weights: str) -> Any:
    """Create a network of timm without a classifier, with the weights that the option names."""
    import timm

    fixed = timm.get_pretrained_cfg_value(name, "fixed_input_size")
    build = partial(timm.create_model, name, in_chans=1, num_classes=0, **({"img_size": size} if fixed else {}))
    if weights == "none":
        return build()
    if weights == "imagenet":
        return _from_hub(build, name)
    return _from_file(build, name, expand_home(weights))


def _from_hub(build: Callable[..., nn.Module], name: str) -> nn.Module:
    """Create a network with the weights of the hub or its cache."""
    import timm

    if not timm.is_model_pretrained(name):
        raise RecipeError("model_options.weights", [f"timm has no trained weights for {name}; {_REMEDY}"])
    # Of a repository without a file of its own choice the safetensors are taken, never the pickled copy beside them.
    chosen = timm.get_pretrained_cfg_value(name, "hf_hub_filename") or "model.safetensors"
    try:
        return build(pretrained=True, pretrained_cfg_overlay={"hf_hub_filename": chosen})
    except Exception as error:  # the hub's client lets errors of its HTTP library through, another in each version
        found = f"the ImageNet weights of {name} are not in the hub's cache and not in reach ({type(error).__name__})"
        raise RecipeError("model_options.weights", [f"{found}; {_REMEDY}"]) from error


def _from_file(build: Callable[..., Any], name: str, path: Path) -> nn.Module:
    """Create a network with the weights of a file; timm itself sums the filters and resizes tables of positions."""
    if not path.is_file():
        raise RecipeError("model_options.weights", [f"{path} is no file; choose none, imagenet or a file of weights"])
    tensors, network = read_state_dict(path), build()
    config = network.pretrained_cfg
    problems = _problems(tensors, network)
    if problems:
        raise mismatch_error(path, name, problems)
    channels = {tensors[f"{layer}.weight"].shape[1] for layer in _names(config["first_conv"])}
    overlay: dict[str, Any] = {"state_dict": dict(tensors), "custom_load": False}
    if channels == {1}:  # there is nothing to sum
        overlay["input_size"] = (1, *config["input_size"][1:])
    try:
        filled = build(pretrained=True, pretrained_cfg_overlay=overlay)
        filled.pretrained_cfg["state_dict"] = None  # else the network would keep the tensors of the file
        return filled
    except RuntimeError as error:
        raise mismatch_error(path, name, [" ".join(str(error).split())[:400]]) from error


def _problems(tensors: Mapping[str, Tensor], network: Any) -> list[str]:
    """List differences between a file and a network beyond those that timm compensates."""
    config = network.pretrained_cfg
    compensated = {f"{layer}.weight" for layer in _names(config["first_conv"])}
    # Buffers that are computed, as the tables of a Swin transformer, are in some files and in no network's state.
    ignored = {name for name, _ in network.named_buffers()} - set(network.state_dict())
    ignored |= {f"{layer}.{kind}" for layer in _names(config["classifier"]) for kind in ("weight", "bias")}
    found = {name: one for name, one in tensors.items() if name not in ignored}
    needed = {
        name: found[name] if name in found and (name in compensated or config["fixed_input_size"]) else one
        for name, one in network.state_dict().items()
    }
    return list_differences(found, needed)


def _names(layers: str | Sequence[str] | None) -> Sequence[str]:
    """Return the layers' names, which timm gives as one name, several or none."""
    return (layers,) if isinstance(layers, str) else layers or ()
