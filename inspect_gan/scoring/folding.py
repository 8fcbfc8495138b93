"""The same detector with less to compute, for scoring only."""

import copy
from itertools import pairwise, product

import torch
from torch import nn
from torch.nn.utils import parametrize
from torch.nn.utils.fusion import fuse_conv_bn_eval, fuse_linear_bn_eval

from inspect_gan.detector import Detector
from inspect_gan.layout import overwrite_inputs

# Up to so many channels a transposed convolution is slower than the convolution with four times as many.
THIN = 4


@torch.no_grad()
def folded(detector: Detector) -> Detector:
    """A copy in eval mode that scores alike up to float32 rounding and cannot be trained.

    Batch normalisation is folded into the layer before it, spectral normalisation into its weights, thin layers that
    double the size become convolutions, and activations overwrite their input where nothing else reads it.
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
    for name, layer in list(layers.named_children()):
        if isinstance(layer, nn.ConvTranspose2d) and layer.out_channels <= THIN and _doubles(layer):
            layers.set_submodule(name, _subpixel(layer))


def _doubles(layer: nn.ConvTranspose2d) -> bool:
    """Whether it is a layer of `networks.up`."""
    found = layer.kernel_size, layer.stride, layer.padding, layer.output_padding, layer.dilation, layer.groups
    four, five = ((4, 4), (2, 2), (1, 1), (0, 0), (1, 1), 1), ((5, 5), (2, 2), (2, 2), (1, 1), (1, 1), 1)
    return found in (four, five)


def _subpixel(layer: nn.ConvTranspose2d) -> nn.Sequential:
    """The same as a convolution at the smaller size, which makes the four outputs of a pixel as channels (Shi et al.,
    CVPR 2016).

    Along one axis output 2i + a gets input i + d through tap a + padding - 2d of the kernel.
    """
    c_in, c_out, kernel, _ = layer.weight.shape
    weight = layer.weight.new_zeros(c_out, 2, 2, c_in, 3, 3)
    taps = [
        (a, d + 1, tap) for a in (0, 1) for d in (-1, 0, 1) if 0 <= (tap := a + int(layer.padding[0]) - 2 * d) < kernel
    ]
    for (a, y, row), (b, x, col) in product(taps, taps):
        weight[:, a, b, :, y, x] = layer.weight[:, :, row, col].T
    convolution = nn.Conv2d(c_in, 4 * c_out, 3, padding=1, bias=layer.bias is not None)
    convolution.weight = nn.Parameter(weight.flatten(0, 2).to(memory_format=torch.channels_last))
    if layer.bias is not None:
        convolution.bias = nn.Parameter(layer.bias.repeat_interleave(4))
    return nn.Sequential(convolution, nn.PixelShuffle(2))
