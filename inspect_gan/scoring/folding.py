"""The same detector with less to compute, for scoring only."""

import copy
from itertools import pairwise

from torch import nn
from torch.nn.utils import parametrize
from torch.nn.utils.fusion import fuse_conv_bn_eval, fuse_linear_bn_eval

from inspect_gan.detector import Detector
from inspect_gan.layout import overwrite_inputs


def folded(detector: Detector) -> Detector:
    """A copy in eval mode that scores alike up to float32 rounding and cannot be trained.

    Batch normalisation is folded into the layer before it, spectral normalisation into its weights, and activations
    overwrite their input where nothing else reads it.
    """
    copied = copy.deepcopy(detector).eval()
    for module in list(copied.modules()):
        if parametrize.is_parametrized(module):
            # A copied layer shares with its original the class that holds the parametrised weight, which removal
            # would take from both.
            shared = type(module)
            module.__class__ = type(shared.__name__, shared.__bases__, dict(shared.__dict__))
            assert isinstance(module.parametrizations, nn.ModuleDict)
            for name in list(module.parametrizations):
                parametrize.remove_parametrizations(module, name)
    for module in copied.modules():
        if isinstance(module, nn.Sequential):
            _fold(module)
    overwrite_inputs(copied)
    return copied.requires_grad_(False)


def _fold(layers: nn.Sequential) -> None:
    for (name, layer), (next_name, following) in pairwise(list(layers.named_children())):
        fused: nn.Module
        if isinstance(following, nn.BatchNorm2d) and isinstance(layer, nn.Conv2d | nn.ConvTranspose2d):
            fused = fuse_conv_bn_eval(layer, following, transpose=isinstance(layer, nn.ConvTranspose2d))
        elif isinstance(following, nn.BatchNorm1d) and isinstance(layer, nn.Linear):
            fused = fuse_linear_bn_eval(layer, following)
        else:
            continue
        layers.set_submodule(name, fused)
        layers.set_submodule(next_name, nn.Identity())
