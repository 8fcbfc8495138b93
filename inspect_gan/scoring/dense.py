"""One network at every position of a patch grid, without computing twice what overlapping patches have in common.

A pixel lies in many patches, and convolutions repeat the same sums for each of them. Fast scanning of max-pooling
networks (Giusti et al., ICIP 2013) and OverFeat (Sermanet et al., ICLR 2014) compute each sum once, over the whole
image: where a patch would be subsampled, every position that some patch of the grid needs is kept instead, and the
taps of the next layer move apart by as much (convolution "à trous").

That is exact as long as patches are not padded. With zero padding a value depends also on where in its patch it lies.
There are only a few kinds of values along one axis, though: after a 4×4 convolution with stride 2 and padding 1 the
first, which sees the padding and with it the first value of the layer before, likewise the last, and all inner ones,
which see neither and are common to all patches. Rows and columns together give nine maps per layer, each made from
maps of the layer before. At one position the three kinds read

    first: padding, first, inner, inner      inner: inner, inner, inner, inner      last: inner, inner, last, padding

Four pieces, first·w1, last·w2, inner·w0 + inner·w1 and inner·w2 + inner·w3, hence make all three: six taps along each
axis where a network without padding has four. Kinds and pieces are worked out for whatever kernels, strides and
paddings there are.
"""

from bisect import bisect_right
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import groupby, pairwise, product
from math import ceil, gcd, prod

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from inspect_gan.patches.grid import Grid

PADDING = -1
POINTWISE = (nn.Identity, nn.ReLU, nn.LeakyReLU)
# Patches per pass where nothing is shared.
BATCH = 256
# Numbers held at a time, 96 MB in float32.
BUDGET = 24 * 2**20

# By kind along rows and columns: (1, channels, height, width).
Maps = dict[tuple[int, int], Tensor]
# Something for rows and the same for columns.
Px = tuple[int, int]


class DenseNetwork:
    """A network of convolutions for all patches of a grid at once.

    network: (B, C, S, S) -> (B, n_out), see `supports`; not to be changed any more. size: S.
    """

    def __init__(self, network: nn.Module, size: int):
        layers = _layers(network, size)
        if layers is None:
            raise ValueError("patches cannot share the layers of this network: ask `supports` before")
        self._network, self._size, self._layers = network, size, layers

    @staticmethod
    def supports(network: nn.Module, size: int) -> bool:
        """Whether it consists of zero-padded or unpadded convolutions and activations, then `Flatten`, then possibly
        linear layers. Folded batch normalisation leaves such a network; any other normalisation is not shared."""
        return _layers(network, size) is not None

    @torch.inference_mode()
    def strips(self, pixels: Tensor, grid: Grid) -> Iterator[tuple[int, Tensor]]:
        """Yield (number of the first patch in row-major order, outputs (n, n_out)), some whole rows of patches at a
        time; equal to the outputs patch by patch up to rounding, of the type of the pixels.

        pixels: (C, H, W) in [-1, 1]. Beside them, memory holds BUDGET numbers and a row of outputs, whatever the
        height of the image. Where sharing saves no multiplications, patches pass one by one in batches. Raises
        ValueError for a grid of other patches or on another image.
        """
        if grid.size != self._size or pixels.shape[1:] != (grid.height, grid.width):
            raise ValueError(
                f"{self._size}-pixel patches of pixels {tuple(pixels.shape)} against a grid of {grid.size}-pixel "
                f"patches on {grid.height} x {grid.width}"
            )
        # All patches lie one stride apart, except in a last row and column that were shifted inward.
        rows, cols = (sum(p % grid.stride == 0 for p in positions) for positions in (grid.rows, grid.cols))
        tiling = _tiling(self._layers, grid.stride, rows, cols)
        if tiling is None:
            bands = [(tops, 0) for tops in _parts(grid.rows, max(BATCH // len(grid.cols), 1))]
        else:
            bands = [(tops, cols) for tops in _parts(grid.rows[:rows], tiling.height)]
            bands += [(tops, 0) for tops in _parts(grid.rows[rows:], 1)]
        start = 0
        for tops, shared in bands:
            outputs = pixels.new_empty(len(tops), len(grid.cols), self._layers[-1].n_out)
            if tiling is not None:
                for part in _parts(range(shared), tiling.width):
                    outputs[:, part] = tiling.scan(pixels, tops, [grid.cols[i] for i in part])
            if shared < len(grid.cols):
                outputs[:, shared:] = self._one_by_one(pixels, tops, grid.cols[shared:])
            yield start, outputs.flatten(0, 1)
            start += len(tops) * len(grid.cols)

    def _one_by_one(self, pixels: Tensor, tops: Sequence[int], lefts: Sequence[int]) -> Tensor:
        """(rows, columns, n_out)."""
        windows = pixels.unfold(1, self._size, 1).unfold(2, self._size, 1).movedim(0, 2)
        positions = torch.cartesian_prod(torch.tensor(tops), torch.tensor(lefts)).split(BATCH)
        batches = (windows[part[:, 0], part[:, 1]] for part in positions)
        outputs = [self._network(x.contiguous(memory_format=torch.channels_last)) for x in batches]
        return torch.cat(outputs).unflatten(0, (len(tops), len(lefts)))


@dataclass(frozen=True)
class _Span:
    """Where values lie along one axis for a row of patches: from `first` px after the start of the first patch to
    `last` px after that of the last one, `step` px apart. between: px from the start of the first to that of the last.
    """

    first: int
    last: int
    step: int

    def count(self, between: int) -> int:
        return (between + self.last - self.first) // self.step + 1

    def window(self, wanted: "_Span", between: int, shift: int = 0, reach: int = 0) -> slice:
        """Which of them lie between the first of `wanted`, `shift` px further, and its last, shift + reach further."""
        start = (wanted.first + shift - self.first) // self.step
        return slice(start, start + (between + wanted.last - wanted.first + reach) // self.step + 1)


@dataclass(frozen=True)
class _Axis:
    """What one patch has along one axis: values of these kinds, `spacing` px apart."""

    kinds: tuple[int, ...]
    spacing: int

    def spans(self, stride: int) -> list[_Span]:
        """Where patches `stride` px apart have the values of each kind."""
        spans = []
        for kind in range(max(self.kinds) + 1):
            at = [self.spacing * i for i, other in enumerate(self.kinds) if other == kind]
            spans.append(_Span(at[0], at[-1], stride if len(at) == 1 else gcd(stride, self.spacing)))
        return spans


@dataclass(frozen=True)
class _Piece:
    """The sum over neighbouring taps of a kernel, along one axis, on values of one kind.

    readers: the kinds of outputs that contain it.
    """

    source: int
    readers: tuple[int, ...]
    taps: slice


@dataclass(frozen=True)
class _Layer:
    """weight: (c_out, c_in, k, k). before, after: what a patch has there, alike along both axes."""

    weight: Tensor
    bias: Tensor | None
    padding: int
    before: _Axis
    after: _Axis
    pieces: tuple[_Piece, ...]
    activations: list[nn.Module] = field(default_factory=list)

    @property
    def n_out(self) -> int:
        """Values per patch."""
        return len(self.weight) * len(self.after.kinds) ** 2

    @property
    def multiplications(self) -> int:
        """Per patch, one by one."""
        return self.weight.numel() * len(self.after.kinds) ** 2

    def brings_bias(self, row: _Piece, col: _Piece) -> bool:
        """True of one pair among those that make up an output: the middle tap is never on the padding."""
        return all(piece.taps.start <= self.padding < piece.taps.stop for piece in (row, col))


class _Step:
    """A layer for patches `stride` px apart. between: px from the first to the last patch, along rows and columns."""

    def __init__(self, layer: _Layer, stride: int):
        self.layer = layer
        self.sources, self.outputs = layer.before.spans(stride), layer.after.spans(stride)
        self.pieces = [(piece, _union([self.outputs[kind] for kind in piece.readers])) for piece in layer.pieces]

    def multiplications(self, between: Px) -> int:
        taps = (sum((p.taps.stop - p.taps.start) * span.count(px) for p, span in self.pieces) for px in between)
        return self.layer.weight.shape[:2].numel() * prod(taps)

    def values(self, between: Px) -> int:
        """Numbers held at a time: inputs, outputs and one piece."""
        c_out, c_in = self.layer.weight.shape[:2]
        inputs, outputs = (
            prod(sum(span.count(px) for span in spans) for px in between) for spans in (self.sources, self.outputs)
        )
        piece = prod(max(span.count(px) for _, span in self.pieces) for px in between)
        return c_in * inputs + c_out * (outputs + piece)

    def __call__(self, maps: Maps, between: Px) -> Maps:
        results: Maps = {}
        for (row, row_span), (col, col_span) in product(self.pieces, repeat=2):
            spans = (row_span, col_span)
            part = self._convolved(maps[row.source, col.source], (row, col), spans, between)
            for kinds in product(row.readers, col.readers):
                view = _sampled(part, spans, [self.outputs[kind] for kind in kinds], between)
                if kinds in results:
                    results[kinds] += view
                else:
                    results[kinds] = view if len(row.readers) == len(col.readers) == 1 else view.clone()
        for kinds in results:
            for activation in self.layer.activations:
                results[kinds] = activation(results[kinds])
        return results

    def _convolved(self, x: Tensor, pieces: tuple[_Piece, _Piece], spans: tuple[_Span, _Span], between: Px) -> Tensor:
        """What these taps along rows and columns add to the convolution, at these positions."""
        layer, spacing = self.layer, self.layer.before.spacing
        windows, strides, dilations = [], [], []
        for piece, span, px in zip(pieces, spans, between, strict=True):
            source, taps = self.sources[piece.source], piece.taps
            shift, reach = spacing * (taps.start - layer.padding), spacing * (taps.stop - 1 - taps.start)
            windows.append(source.window(span, px, shift, reach))
            strides.append(span.step // source.step)
            dilations.append(max(spacing // source.step, 1))  # below 1 only of a single tap
        weight = layer.weight[:, :, *(piece.taps for piece in pieces)]
        bias = layer.bias if layer.brings_bias(*pieces) else None
        return F.conv2d(x[:, :, *windows], weight, bias, strides, 0, dilations)


class _Scan:
    """All layers on tiles of patches `stride` px apart, in phases x phases passes over every phases-th row and column.

    Two patches share a value only where they lie a multiple of its spacing apart: from the layer on that is as coarse
    as the stride of a pass, passes repeat nothing, and the values held for one pass spread over a larger tile. Its
    border, where neighbouring tiles repeat each other, weighs less.
    """

    def __init__(self, layers: list[_Layer], stride: int, phases: int):
        self._phases, self._stride = phases, stride
        self._steps = [_Step(layer, phases * stride) for layer in layers]
        self._size = len(layers[0].before.kinds)
        self._last = layers[-1]

    def multiplications(self, rows: int, cols: int) -> int:
        """For a tile of so many rows and columns of patches."""
        return self._phases**2 * sum(step.multiplications(self._between(rows, cols)) for step in self._steps)

    def values(self, rows: int, cols: int) -> int:
        """Numbers held at a time, with the outputs of the tile."""
        between = self._between(rows, cols)
        return max(step.values(between) for step in self._steps) + rows * cols * self._last.n_out

    def __call__(self, pixels: Tensor, tops: Sequence[int], lefts: Sequence[int]) -> Tensor:
        """Outputs (rows, columns, n_out) of these patches."""
        n = self._phases
        outputs = pixels.new_empty(len(tops), len(lefts), self._last.n_out)
        for i, j in product(range(min(n, len(tops))), range(min(n, len(lefts)))):
            outputs[i::n, j::n] = self._pass(pixels, tops[i::n], lefts[j::n])
        return outputs

    def _pass(self, pixels: Tensor, tops: Sequence[int], lefts: Sequence[int]) -> Tensor:
        between = (tops[-1] - tops[0], lefts[-1] - lefts[0])
        tile = pixels[None, :, tops[0] : tops[-1] + self._size, lefts[0] : lefts[-1] + self._size]
        maps: Maps = {(0, 0): tile.contiguous(memory_format=torch.channels_last)}
        for step in self._steps:
            maps = step(maps, between)
        axis, spans = self._last.after, self._steps[-1].outputs
        ends = [_Span(axis.spacing * i, axis.spacing * i, self._phases * self._stride) for i in range(len(axis.kinds))]
        values = []
        for row, col in product(range(len(axis.kinds)), repeat=2):
            kinds = axis.kinds[row], axis.kinds[col]
            at = [spans[kind] for kind in kinds]
            values.append(_sampled(maps[kinds], at, (ends[row], ends[col]), between)[0])
        return torch.stack(values, dim=-1).permute(1, 2, 0, 3).flatten(2)

    def _between(self, rows: int, cols: int) -> Px:
        rows, cols = (ceil(n / self._phases) for n in (rows, cols))
        stride = self._phases * self._stride
        return (rows - 1) * stride, (cols - 1) * stride


@dataclass(frozen=True)
class _Tiling:
    """Tiles of at most height x width patches."""

    scan: _Scan
    height: int
    width: int


def _tiling(layers: list[_Layer], stride: int, rows: int, cols: int) -> _Tiling | None:
    """The one with the fewest multiplications that BUDGET allows; None where patches one by one need no more."""
    best, least = None, rows * cols * sum(layer.multiplications for layer in layers)
    largest = len(layers[0].before.kinds) // stride
    for scan in (_Scan(layers, stride, 2**i) for i in range(largest.bit_length())):
        for height in {ceil(rows / 2**i) for i in range(rows.bit_length())}:
            budget = BUDGET - (height - 1) * cols * layers[-1].n_out
            width = bisect_right(range(1, cols + 1), budget, key=lambda width: scan.values(height, width))
            if width:
                n = ceil(cols / width)
                width = ceil(cols / n)
                total = ceil(rows / height) * n * scan.multiplications(height, width)
                if total < least:
                    best, least = _Tiling(scan, height, width), total
    return best


def _layers(network: nn.Module, size: int) -> list[_Layer] | None:
    """None where `DenseNetwork.supports` says no."""
    layers: list[_Layer] = []
    axis, flat = _Axis((0,) * size, 1), False
    for module in _flattened(network):
        n = len(axis.kinds)
        if type(module) is nn.Conv2d and not flat and _is_plain(module, n):
            layers.append(_layer(module.weight, module.bias, module.stride[0], int(module.padding[0]), axis))
        elif type(module) is nn.Linear and flat and layers and module.in_features == layers[-1].n_out:
            layers.append(_layer(module.weight.unflatten(1, (-1, n, n)), module.bias, 1, 0, axis))
        elif type(module) is nn.Flatten and (module.start_dim, module.end_dim) == (1, -1):
            flat = True
        elif type(module) in POINTWISE and layers:
            layers[-1].activations.append(module)
        elif type(module) is not nn.Identity:
            return None
        axis = layers[-1].after if layers else axis
    return layers if flat and layers else None


def _flattened(module: nn.Module) -> Iterator[nn.Module]:
    if isinstance(module, nn.Sequential):
        for child in module:
            yield from _flattened(child)
    else:
        yield module


def _is_plain(conv: nn.Conv2d, n: int) -> bool:
    """Whether it has one kernel size, stride and padding, zeros, along both axes, and outputs on n x n inputs."""
    kernel, stride, padding = conv.kernel_size[0], conv.stride[0], conv.padding[0]
    found = (conv.kernel_size, conv.stride, conv.padding, conv.dilation, conv.groups, conv.padding_mode)
    plain = found == ((kernel, kernel), (stride, stride), (padding, padding), (1, 1), 1, "zeros")
    return plain and 2 * int(padding) < kernel <= n + 2 * int(padding)


def _layer(weight: Tensor, bias: Tensor | None, stride: int, padding: int, before: _Axis) -> _Layer:
    """Outputs whose taps meet the same kinds of inputs are of one kind."""
    kernel, border = weight.shape[-1], (PADDING,) * padding
    padded = border + before.kinds + border
    met = [padded[i : i + kernel] for i in range(0, len(padded) - kernel + 1, stride)]
    kinds = list(dict.fromkeys(met))
    after = _Axis(tuple(kinds.index(sources) for sources in met), before.spacing * stride)
    return _Layer(weight, bias, padding, before, after, _pieces(kinds))


def _pieces(kinds: list[tuple[int, ...]]) -> tuple[_Piece, ...]:
    """kinds: of outputs, each given by the kinds of inputs that its taps meet."""
    readers = defaultdict(list)
    for output, sources in enumerate(kinds):
        for tap, source in enumerate(sources):
            if source != PADDING:
                readers[source, tap].append(output)
    taps = [(source, tuple(outputs), tap) for (source, tap), outputs in readers.items()]
    if len({source for source, _ in readers}) == 1:
        # All on one map, the pixels: with their few channels, sums are cheaper to repeat than to put together.
        taps = [(source, (output,), tap) for source, outputs, tap in taps for output in outputs]
    pieces = []
    # Neighbouring taps with the same source and readers have the same difference of tap and rank.
    for _, group in groupby(enumerate(sorted(taps)), lambda item: (*item[1][:2], item[1][2] - item[0])):
        run = [item for _, item in group]
        source, outputs, tap = run[0]
        pieces.append(_Piece(source, outputs, slice(tap, tap + len(run))))
    return tuple(pieces)


def _union(spans: list[_Span]) -> _Span:
    """One that holds all of these."""
    first, last = min(span.first for span in spans), max(span.last for span in spans)
    return _Span(first, last, gcd(*(span.step for span in spans), *(span.first - first for span in spans)))


def _sampled(values: Tensor, spans: Sequence[_Span], wanted: Sequence[_Span], between: Px) -> Tensor:
    """Those of the values (1, channels, height, width) at `spans` that lie at `wanted`."""
    windows = []
    for span, want, px in zip(spans, wanted, between, strict=True):
        window = span.window(want, px)
        windows.append(slice(window.start, window.stop, want.step // span.step))
    return values[:, :, *windows]


def _parts(positions: Sequence[int], size: int) -> list[Sequence[int]]:
    """Runs of nearly equal length, at most `size`."""
    n = ceil(len(positions) / size)
    edges = [len(positions) * i // n for i in range(n + 1)] if n else []
    return [positions[a:b] for a, b in pairwise(edges)]
