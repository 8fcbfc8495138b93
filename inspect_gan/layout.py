"""What networks cost in memory traffic, changed without changing what they compute."""

import torch
from torch import Tensor, nn

ACTIVATIONS = (nn.LeakyReLU, nn.ReLU)
# Their backward passes do not read their outputs.
SOURCES = (
    *(nn.Conv2d, nn.ConvTranspose2d, nn.Linear),
    *(nn.BatchNorm1d, nn.BatchNorm2d, nn.GroupNorm, nn.LayerNorm),
)


def overwrite_inputs(network: nn.Module) -> None:
    """Let activations overwrite their input where nothing else reads it, in training neither.

    Inside an `nn.Sequential` only the next layer reads an output; an activation's own backward pass needs but its sign.
    """
    for layers in network.modules():
        if isinstance(layers, nn.Sequential):
            source: nn.Module | None = None
            for layer in layers:
                if isinstance(layer, ACTIVATIONS) and isinstance(source, SOURCES):
                    layer.inplace = True
                if not isinstance(layer, nn.Identity):
                    source = layer


def keep_layout_of_gradients(network: nn.Module) -> None:
    """Bring the gradient of what is flattened into the memory layout of channels-last networks.

    It leaves `nn.Flatten` laid out channel by channel, and an operation on two layouts, such as the backward pass of
    the activation before, is more than ten times as slow as on one.
    """
    for module in network.modules():
        if isinstance(module, nn.Flatten):
            module.register_forward_pre_hook(_convert_gradient)


def _convert_gradient(_: nn.Module, inputs: tuple[Tensor]) -> None:
    x = inputs[0]
    if x.requires_grad and x.dim() == 4:
        x.register_hook(lambda gradient: gradient.contiguous(memory_format=torch.channels_last))
