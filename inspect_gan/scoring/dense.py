"""One network at every position of a patch grid, without computing twice what neighbouring patches have in common.

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


class DenseNetwork:
    """A network of convolutions for all patches of a grid at once.

    network: (B, C, S, S) -> (B, n_out), see `supports`; in eval mode, and not to be changed any more. size: S.
    """

    def __init__(self, network: nn.Module, size: int):
        layers = _layers(network, size)
        if layers is None:
            raise ValueError("patches cannot share this network's layers: ask `supports` before")
        self._network, self._size, self._layers = network, size, layers

    @staticmethod
    def supports(network: nn.Module, size: int) -> bool:
        """Whether it consists of zero-padded or unpadded convolutions and activations, `Flatten` and then possibly
        linear layers. Folded batch normalisation leaves such a network; any other normalisation is not shared."""
        return _layers(network, size) is not None

    @torch.inference_mode()
    def strips(self, pixels: Tensor, grid: Grid) -> Iterator[tuple[int, Tensor]]:
        """Yield (number of the first patch in row-major order, outputs (n, n_out)), some whole rows of patches at a
        time, equal to those of the network patch by patch up to rounding.

        pixels: (C, H, W) in [-1, 1]. Beside them, memory holds BUDGET numbers, whatever the size of the image.
        Where sharing does not save multiplications, patches pass one by one, in batches. Raises ValueError when the
        grid is not one of such patches on such pixels.
        """
        if grid.size != self._size or pixels.shape[1:] != (grid.height, grid.width):
            raise ValueError(
                f"{self._size}-pixel patches of pixels {tuple(pixels.shape)} against a grid of {grid.size}-pixel "
                f"patches on {grid.height} x {grid.width}"
            )
        # All patches lie one stride apart, except in a last row and column that were shifted inward.
        rows, cols = (sum(p % grid.stride == 0 for p in positions) for positions in (grid.rows, grid.cols))
        plan = _plan(self._layers, grid.stride, rows, cols)
        if plan is None:
            plan, rows, cols = _Plan(1, 1, 1), 0, 0
        scan = _Scan(self._layers, plan.phases * grid.stride)
        start = 0
        for tops in [*_parts(grid.rows[:rows], plan.height), *_parts(grid.rows[rows:], 1)]:
            shared = cols if start < rows * len(grid.cols) else 0
            outputs = pixels.new_empty(len(tops), len(grid.cols), scan.n_out)
            for columns in _parts(range(shared), plan.width):
                for i, j in product(range(plan.phases), repeat=2):
                    part = slice(columns[0] + j, columns[-1] + 1, plan.phases)
                    if tops[i :: plan.phases] and grid.cols[part]:
                        outputs[i :: plan.phases, part] = scan(pixels, tops[i :: plan.phases], grid.cols[part])
            if shared < len(grid.cols):
                outputs[:, shared:] = self._one_by_one(pixels, tops, grid.cols[shared:])
            yield start, outputs.flatten(0, 1)
            start += len(outputs) * len(grid.cols)

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
    `last` px after that of the last, `step` px apart."""

    first: int
    last: int
    step: int

    def count(self, between: int) -> int:
        """How many. between: px from the start of the first patch to that of the last."""
        return (between + self.last - self.first) // self.step + 1

    def window(self, wanted: "_Span", between: int, shift: int = 0, reach: int = 0) -> slice:
        """Which of them lie from where the first of `wanted` lies, plus `shift`, to its last, plus shift + reach."""
        start = (wanted.first + shift - self.first) // self.step
        return slice(start, start + (between + wanted.last - wanted.first + reach) // self.step + 1)


@dataclass(frozen=True)
class _Axis:
    """What one patch has along one axis: values of these kinds, `spacing` px apart."""

    kinds: tuple[int, ...]
    spacing: int

    def span(self, kind: int, stride: int) -> _Span:
        """Where patches `stride` px apart have values of this kind."""
        at = [self.spacing * i for i, other in enumerate(self.kinds) if other == kind]
        return _Span(at[0], at[-1], stride if len(at) == 1 else gcd(stride, self.spacing))


@dataclass(frozen=True)
class _Piece:
    """The sum over the taps tap, tap + 1, ..., tap + taps - 1 of a kernel, along one axis, on values of one kind.

    readers: the kinds of outputs that contain it.
    """

    source: int
    readers: tuple[int, ...]
    tap: int
    taps: int


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

    def brings_bias(self, row: _Piece, col: _Piece) -> bool:
        """True of one pair among those that make up an output: the middle tap is never on the padding."""
        return all(piece.tap <= self.padding < piece.tap + piece.taps for piece in (row, col))


class _Step:
    """A layer for patches `stride` px apart. between: px from the first to the last patch along rows and columns."""

    def __init__(self, layer: _Layer, stride: int):
        self.layer = layer
        self.sources, self.outputs = (
            [axis.span(kind, stride) for kind in range(max(axis.kinds) + 1)] for axis in (layer.before, layer.after)
        )
        self.pieces = [(piece, _union([self.outputs[kind] for kind in piece.readers])) for piece in layer.pieces]

    def multiplications(self, between: tuple[int, int]) -> int:
        taps = (sum(piece.taps * span.count(px) for piece, span in self.pieces) for px in between)
        return self.layer.weight.shape[:2].numel() * prod(taps)

    def values(self, between: tuple[int, int]) -> int:
        """How many it holds at a time: its inputs, its outputs and one piece."""
        inputs, outputs = (
            prod(sum(span.count(px) for span in spans) for px in between) for spans in (self.sources, self.outputs)
        )
        piece = prod(max(span.count(px) for _, span in self.pieces) for px in between)
        c_out, c_in = self.layer.weight.shape[:2]
        return c_in * inputs + c_out * (outputs + piece)

    def __call__(self, maps: "_Maps", between: tuple[int, int]) -> "_Maps":
        results: _Maps = {}
        for (row, row_span), (col, col_span) in product(self.pieces, repeat=2):
            part = self._convolved(maps[row.source, col.source], (row, col), (row_span, col_span), between)
            exclusive = len(row.readers) * len(col.readers) == 1
            for kinds in product(row.readers, col.readers):
                wanted = [self.outputs[kind] for kind in kinds]
                view = _sampled(part, (row_span, col_span), wanted, between)
                if kinds in results:
                    results[kinds] += view
                else:
                    results[kinds] = view if exclusive else view.clone()
        for kinds in results:
            for activation in self.layer.activations:
                results[kinds] = activation(results[kinds])
        return results

    def _convolved(
        self, x: Tensor, pieces: tuple[_Piece, _Piece], spans: tuple[_Span, _Span], between: tuple[int, int]
    ) -> Tensor:
        """The part of the convolution that these taps along rows and columns are."""
        layer, spacing = self.layer, self.layer.before.spacing
        windows, taps, strides, dilations = [], [], [], []
        for piece, span, px in zip(pieces, spans, between, strict=True):
            source = self.sources[piece.source]
            shift, reach = spacing * (piece.tap - layer.padding), spacing * (piece.taps - 1)
            windows.append(source.window(span, px, shift, reach))
            taps.append(slice(piece.tap, piece.tap + piece.taps))
            strides.append(span.step // source.step)
            dilations.append(max(spacing // source.step, 1))
        bias = layer.bias if layer.brings_bias(*pieces) else None
        return F.conv2d(x[:, :, *windows], layer.weight[:, :, *taps], bias, strides, 0, dilations)


class _Scan:
    """All layers for patches `stride` px apart."""

    def __init__(self, layers: list[_Layer], stride: int):
        self.steps = [_Step(layer, stride) for layer in layers]
        self.stride = stride

    @property
    def n_out(self) -> int:
        last = self.steps[-1].layer
        return len(last.weight) * len(last.after.kinds) ** 2

    def multiplications(self, rows: int, cols: int) -> int:
        """For so many rows and columns of patches."""
        return sum(step.multiplications(self._between(rows, cols)) for step in self.steps)

    def values(self, rows: int, cols: int) -> int:
        """How many are held at a time."""
        return max(step.values(self._between(rows, cols)) for step in self.steps)

    def __call__(self, pixels: Tensor, tops: Sequence[int], lefts: Sequence[int]) -> Tensor:
        """Outputs (rows, columns, n_out) of these patches."""
        between = (tops[-1] - tops[0], lefts[-1] - lefts[0])
        size = len(self.steps[0].layer.before.kinds)
        tile = pixels[None, :, tops[0] : tops[-1] + size, lefts[0] : lefts[-1] + size]
        maps: _Maps = {(0, 0): tile.contiguous(memory_format=torch.channels_last)}
        for step in self.steps:
            maps = step(maps, between)
        return self._gathered(maps, between)

    def _gathered(self, maps: "_Maps", between: tuple[int, int]) -> Tensor:
        axis, spans = self.steps[-1].layer.after, self.steps[-1].outputs
        values = []
        for at in product(range(len(axis.kinds)), repeat=2):
            row, col = (axis.kinds[i] for i in at)
            wanted = [_Span(axis.spacing * i, axis.spacing * i, self.stride) for i in at]
            values.append(_sampled(maps[row, col], (spans[row], spans[col]), wanted, between)[0])
        return torch.stack(values, dim=-1).permute(1, 2, 0, 3).flatten(2)

    def _between(self, rows: int, cols: int) -> tuple[int, int]:
        return (rows - 1) * self.stride, (cols - 1) * self.stride


@dataclass(frozen=True)
class _Plan:
    """Tiles of height x width patches, each in phases x phases passes over every phases-th row and column."""

    phases: int
    height: int
    width: int


def _plan(layers: list[_Layer], stride: int, rows: int, cols: int) -> _Plan | None:
    """The one with the fewest multiplications that BUDGET allows; None where patches one by one need no more.

    Tiles do not share with each other. Every other patch, though, has its values at other positions than those in
    between, from the layer on that is as coarse as their stride: apart they need no more multiplications there, and
    spread the same number of values over a larger tile.
    """
    alone = sum(layer.weight.numel() * len(layer.after.kinds) ** 2 for layer in layers)
    best, least = None, rows * cols * alone
    for phases in (2**i for i in range((len(layers[0].before.kinds) // stride).bit_length())):
        scan = _Scan(layers, phases * stride)
        for height in (ceil(rows / 2**i) for i in range(rows.bit_length())):
            outputs = height * cols * scan.n_out
            height_px = ceil(height/phases)
            width = bisect_right(
                range(1, cols + 1), BUDGET - outputs, key=lambda w: scan.values(height_px, ceil(w / phases))
            )
            if width:
                n = ceil(cols / width)
                width = ceil(cols / n)
                total = phases**2 * ceil(rows / height) * n * scan.multiplications(height_px, ceil(width / phases))
                if total < least:
                    best, least = _Plan(phases, height, width), total
    return best


# By kind along rows and columns: (1, channels, height, width).
_Maps = dict[tuple[int, int], Tensor]


def _layers(network: nn.Module, size: int) -> list[_Layer] | None:
    """None where `DenseNetwork.supports` says no."""
    layers: list[_Layer] = []
    axis, flat = _Axis((0,) * size, 1), False
    for module in _flattened(network):
        if type(module) is nn.Conv2d and not flat and _is_plain(module, len(axis.kinds)):
            padding = int(module.padding[0])
            layers.append(_layer(module.weight, module.bias, module.stride[0], padding, axis))
        elif type(module) is nn.Linear and flat and layers:
            weight = module.weight.unflatten(1, (-1, len(axis.kinds), len(axis.kinds)))
            layers.append(_layer(weight, module.bias, 1, 0, axis))
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
    """On an axis of n values."""
    (kernel, across), stride, padding = conv.kernel_size, conv.stride, conv.padding
    square = kernel == across and stride[0] == stride[1] and padding in ((p, p) for p in range((kernel + 1) // 2))
    simple = conv.dilation == (1, 1) and conv.groups == 1 and conv.padding_mode == "zeros"
    return square and simple and kernel <= n + 2 * int(padding[0])


def _layer(weight: Tensor, bias: Tensor | None, stride: int, padding: int, before: _Axis) -> _Layer:
    """Outputs whose taps meet the same kinds of inputs are of one kind."""
    kernel, border = weight.shape[-1], (PADDING,) * padding
    padded = border + before.kinds + border
    met = [padded[i : i + kernel] for i in range(0, len(padded) - kernel + 1, stride)]
    kinds = list(dict.fromkeys(met))
    after = _Axis(tuple(kinds.index(sources) for sources in met), before.spacing * stride)
    return _Layer(weight, bias, padding, before, after, _pieces(kinds))


def _pieces(kinds: list[tuple[int, ...]]) -> tuple[_Piece, ...]:
    """kinds: of outputs, each given by the kinds that its taps meet."""
    readers = defaultdict(list)
    for output, sources in enumerate(kinds):
        for tap, source in enumerate(sources):
            if source != PADDING:
                readers[source, tap].append(output)
    taps = [(source, tuple(outputs), tap) for (source, tap), outputs in readers.items()]
    if len({source for source, _ in readers}) == 1:
        # Of pixels, all in one map, the sums are cheaper to compute again than to put together.
        taps = [(source, (output,), tap) for source, outputs, tap in taps for output in outputs]
    pieces = []
    # Neighbouring taps with the same source and readers have the same difference of tap and rank.
    for _, run in groupby(enumerate(sorted(taps)), lambda item: (*item[1][:2], item[1][2] - item[0])):
        source, outputs, tap = next(run)[1]
        pieces.append(_Piece(source, outputs, tap, 1 + len(list(run))))
    return tuple(pieces)


def _union(spans: list[_Span]) -> _Span:
    """A span that holds all of these."""
    first, last = min(span.first for span in spans), max(span.last for span in spans)
    return _Span(first, last, gcd(*(span.step for span in spans), *(span.first - first for span in spans)))


def _sampled(values: Tensor, spans: Sequence[_Span], wanted: Sequence[_Span], between: tuple[int, int]) -> Tensor:
    """Those of the values (..., height, width) at `spans` that lie at `wanted`."""
    view = values
    for dim, (span, want, px) in enumerate(zip(spans, wanted, between, strict=True), start=-2):
        window = span.window(want, px)
        view = view.narrow(dim, window.start, window.stop - window.start)
    rows, cols = (want.step // span.step for span, want in zip(spans, wanted, strict=True))
    return view[..., ::rows, ::cols]


def _parts(positions: Sequence[int], size: int) -> list[Sequence[int]]:
    """Runs of nearly equal length, at most `size`."""
    n = ceil(len(positions) / size) if positions else 0
    edges = [len(positions) * i // n for i in range(n + 1)] if n else []
    return [positions[a:b] for a, b in pairwise(edges)]
