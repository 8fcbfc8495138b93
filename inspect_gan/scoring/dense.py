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
from functools import cache
from itertools import groupby, pairwise, product
from math import ceil, gcd, prod

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from inspect_gan.patches.grid import Grid

# The kind of what lies outside a patch.
PADDING = -1
POINTWISE = (nn.Identity, nn.ReLU, nn.LeakyReLU)
# Patches per pass where nothing is shared.
BATCH = 256
# Numbers held at a time, 67 MB in float32.
BUDGET = 16 * 2**20

# By kind along rows and columns: (1, channels, height, width).
Maps = dict[tuple[int, int], Tensor]
# Along one axis the sum over some neighbouring taps of a kernel on values of one kind: that kind, the kinds of outputs
# that contain the sum, and the taps.
Piece = tuple[int, tuple[int, ...], slice]


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
    def strips(self, pixels: Tensor, grid: Grid, budget: int | None = None) -> Iterator[tuple[int, Tensor]]:
        """Yield (number of the first patch in row-major order, outputs (n, n_out)), some whole rows of patches at a
        time; equal to the outputs patch by patch up to rounding, of the type of the pixels.

        pixels: (C, H, W) in [-1, 1]. Beside them, memory holds `budget` numbers (default: BUDGET) and a row of outputs,
        whatever the height of the image. Patches in a shifted last row or column, and all of them where sharing saves
        no multiplications, pass one by one in batches. Raises ValueError for a grid of other patches or on another
        image.
        """
        if grid.size != self._size or pixels.shape[1:] != (grid.height, grid.width):
            raise ValueError(f"pixels {tuple(pixels.shape)} and patches of {self._size} px do not match {grid}")
        # All patches lie one stride apart, except in a last row and column that were shifted inward.
        rows, cols = (sum(p % grid.stride == 0 for p in positions) for positions in (grid.rows, grid.cols))
        scan, height, width = _tiling(self._layers, grid.stride, rows, cols, budget or BUDGET)
        if not width:
            rows, cols = len(grid.rows), 0
        for band in _parts(0, rows, height) + _parts(rows, len(grid.rows), 1):
            shared = cols if band.start < rows else 0
            tops = grid.rows[band]
            outputs = pixels.new_empty(len(tops), len(grid.cols), self._layers[-1].n_out)
            for part in _parts(0, shared, width):
                scan.fill(outputs[:, part], pixels, tops, grid.cols[part])
            if shared < len(grid.cols):
                outputs[:, shared:] = self._one_by_one(pixels, tops, grid.cols[shared:])
            yield band.start * len(grid.cols), outputs.flatten(0, 1)
            del outputs  # so that a reader that lets go of them has their memory back before the next ones are made

    def _one_by_one(self, pixels: Tensor, tops: Sequence[int], lefts: Sequence[int]) -> Tensor:
        """(rows, columns, n_out)."""
        windows = pixels.unfold(1, self._size, 1).unfold(2, self._size, 1).movedim(0, 2)
        positions = torch.cartesian_prod(torch.tensor(tops), torch.tensor(lefts)).split(BATCH)
        batches = (windows[part[:, 0], part[:, 1]] for part in positions)
        outputs = [self._network(x.contiguous(memory_format=torch.channels_last)) for x in batches]
        return torch.cat(outputs).unflatten(0, (len(tops), len(lefts)))


@dataclass(frozen=True)
class _Axis:
    """What one patch has along one axis: values of these kinds, `spacing` px apart."""

    kinds: tuple[int, ...]
    spacing: int

    def positions(self, n: int, stride: int) -> list[range]:
        """Where n patches `stride` px apart have the values of each kind, in px from the start of the first one."""
        result = []
        for kind in range(max(self.kinds) + 1):
            at = [self.spacing * i for i, other in enumerate(self.kinds) if other == kind]
            step = stride if len(at) == 1 else gcd(stride, self.spacing)
            result.append(range(at[0], at[-1] + (n - 1) * stride + 1, step))
        return result

    def values(self, n: int, stride: int) -> Iterator[tuple[int, slice]]:
        """Of each value of a patch its kind and where it lies among those of this kind of n patches."""
        positions = self.positions(n, stride)
        for i, kind in enumerate(self.kinds):
            first = self.spacing * i
            yield kind, _sample(positions[kind], range(first, first + (n - 1) * stride + 1, stride))


@dataclass(frozen=True)
class _Cut:
    """A piece for a row of patches: a convolution of the values `inputs` of kind `source`, with n results. readers: the
    kinds of outputs that contain it, and where in it they lie. centred: true of one of the pieces of an output."""

    source: int
    inputs: slice | list[int]
    taps: slice
    step: int
    dilation: int
    n: int
    readers: dict[int, slice]
    centred: bool


@dataclass(frozen=True)
class _Layer:
    """weight: (c_out, c_in, k, k). before, after: what a patch has there, alike along both axes."""

    weight: Tensor
    bias: Tensor | None
    padding: int
    before: _Axis
    after: _Axis
    pieces: list[Piece]
    activations: list[nn.Module] = field(default_factory=list)

    @property
    def n_out(self) -> int:
        """Values per patch."""
        return len(self.weight) * len(self.after.kinds) ** 2

    def cuts(self, n: int, stride: int) -> list[_Cut]:
        """The pieces along one axis for n patches `stride` px apart."""
        sources, outputs = self.before.positions(n, stride), self.after.positions(n, stride)
        spacing, result = self.before.spacing, []
        for kind, readers, taps in self.pieces:
            source, n_taps = sources[kind], taps.stop - taps.start
            at = _union([outputs[reader] for reader in readers])
            window = _window(source, at, *(spacing * (tap - self.padding) for tap in (taps.start, taps.stop - 1)))
            inputs: slice | list[int] = window
            # oneDNN 3.12 computes wrong numbers from strides where there is one output or that exceed the kernel.
            step = at.step // source.step if len(at) > 1 else 1
            dilation = max(spacing // source.step, 1)  # below 1 only of a single tap
            if step > n_taps:
                inputs = [window.start + step * i + dilation * tap for i in range(len(at)) for tap in range(n_taps)]
                step, dilation = n_taps, 1
            positions = {reader: _sample(at, outputs[reader]) for reader in readers}
            centred = taps.start <= self.padding < taps.stop  # this tap is never on the padding
            result.append(_Cut(kind, inputs, taps, step, dilation, len(at), positions, centred))
        return result

    def __call__(self, maps: Maps, rows: list[_Cut], cols: list[_Cut]) -> Maps:
        results: Maps = {}
        for row, col in product(rows, cols):
            x = maps[row.source, col.source][:, :, row.inputs][:, :, :, col.inputs]
            x = x.contiguous(memory_format=torch.channels_last)
            weight, bias = self.weight[:, :, row.taps, col.taps], self.bias if row.centred and col.centred else None
            part = F.conv2d(x, weight, bias, (row.step, col.step), 0, (row.dilation, col.dilation))
            for kinds in product(row.readers, col.readers):
                view = part[:, :, row.readers[kinds[0]], col.readers[kinds[1]]]
                if kinds in results:
                    results[kinds] += view
                else:
                    results[kinds] = view if len(row.readers) == len(col.readers) == 1 else view.clone()
        for kinds in results:
            for activation in self.activations:
                results[kinds] = activation(results[kinds])
        return results


class _Scan:
    """All layers on tiles of patches `stride` px apart, in phases x phases passes over every phases-th row and column.

    Two patches share a value only where they lie a multiple of its spacing apart: from the layer on that is as coarse
    as the stride of a pass, passes repeat nothing, and the values held for one pass spread over a larger tile. Its
    border, where neighbouring tiles repeat each other, weighs less.
    """

    def __init__(self, layers: list[_Layer], stride: int, phases: int):
        self._layers, self._stride, self._phases = layers, phases * stride, phases
        self._cuts = cache(lambda n: [layer.cuts(n, phases * stride) for layer in layers])

    def cost(self, rows: int, cols: int) -> tuple[int, int]:
        """Multiplications for a tile of so many rows and columns of patches, and about how many numbers it holds."""
        axes = [ceil(n / self._phases) for n in (rows, cols)]
        products, held = 0, 0
        for layer, *cuts in zip(self._layers, *map(self._cuts, axes), strict=True):
            taps = prod(sum(cut.n * (cut.taps.stop - cut.taps.start) for cut in axis) for axis in cuts)
            products += layer.weight.shape[:2].numel() * taps
            values = 0
            for channels, side in zip(layer.weight.shape, (layer.after, layer.before), strict=False):
                counts = [[len(at) for at in side.positions(n, self._stride)] for n in axes]
                # All maps, and the largest once more: a piece of an output, or a copy of an input.
                values += channels * (prod(map(sum, counts)) + prod(map(max, counts)))
            held = max(held, values)
        return self._phases**2 * products, held

    def fill(self, outputs: Tensor, pixels: Tensor, tops: Sequence[int], lefts: Sequence[int]) -> None:
        """Write the outputs of these patches into `outputs` (rows, columns, n_out)."""
        n = self._phases
        for i, j in product(range(min(n, len(tops))), range(min(n, len(lefts)))):
            self._pass(outputs[i::n, j::n], pixels, tops[i::n], lefts[j::n])

    def _pass(self, outputs: Tensor, pixels: Tensor, tops: Sequence[int], lefts: Sequence[int]) -> None:
        size, last = len(self._layers[0].before.kinds), self._layers[-1].after
        tile = pixels[None, :, tops[0] : tops[-1] + size, lefts[0] : lefts[-1] + size]
        maps: Maps = {(0, 0): tile.contiguous(memory_format=torch.channels_last)}
        for layer, rows, cols in zip(self._layers, self._cuts(len(tops)), self._cuts(len(lefts)), strict=True):
            maps = layer(maps, rows, cols)
        channels = outputs.unflatten(2, (-1, len(last.kinds) ** 2))
        values = product(*(last.values(len(starts), self._stride) for starts in (tops, lefts)))
        for i, ((row, at_row), (col, at_col)) in enumerate(values):
            channels[..., i] = maps[row, col][0, :, at_row, at_col].movedim(0, 2)


def _tiling(layers: list[_Layer], stride: int, rows: int, cols: int, budget: int) -> tuple[_Scan, int, int]:
    """The scan, and the rows and columns of patches per tile, with the fewest multiplications that `budget` allows.

    No columns, and the rows that make a batch, where patches one by one need no more.
    """
    scans = [_Scan(layers, stride, 2**i) for i in range((len(layers[0].before.kinds) // stride).bit_length())]
    least = rows * cols * sum(layer.weight[0].numel() * layer.n_out for layer in layers)
    best = scans[0], max(BATCH // cols, 1), 0
    for scan, height in product(scans, {ceil(rows / 2**i) for i in range(rows.bit_length())}):
        # The outputs of a strip are held while those of the next are made; one row of them there is in any case.
        left = budget - 2 * (height - 1) * cols * layers[-1].n_out
        width = bisect_right(range(1, cols + 1), left, key=lambda width: scan.cost(height, width)[1])
        if width:
            n = ceil(cols / width)
            width = ceil(cols / n)
            products = ceil(rows / height) * n * scan.cost(height, width)[0]
            if products < least:
                best, least = (scan, height, width), products
    return best


def _layers(network: nn.Module, size: int) -> list[_Layer] | None:
    """None where `DenseNetwork.supports` says no."""
    layers: list[_Layer] = []
    axis, flat = _Axis((0,) * size, 1), False
    for _, module in network.named_modules(remove_duplicate=False):
        n = len(axis.kinds)
        if type(module) is nn.Conv2d and not flat and _is_plain(module, n):
            layers.append(_layer(module.weight, module.bias, module.stride[0], int(module.padding[0]), axis))
        elif type(module) is nn.Linear and flat and layers and module.in_features == layers[-1].n_out:
            layers.append(_layer(module.weight.unflatten(1, (-1, n, n)), module.bias, 1, 0, axis))
        elif type(module) is nn.Flatten and (module.start_dim, module.end_dim) == (1, -1):
            flat = True
        elif type(module) in POINTWISE and layers:
            layers[-1].activations.append(module)
        elif type(module) not in (nn.Identity, nn.Sequential):
            return None
        axis = layers[-1].after if layers else axis
    return layers if flat and layers else None


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


def _pieces(kinds: list[tuple[int, ...]]) -> list[Piece]:
    """kinds: of outputs, each given by the kinds of inputs that its taps meet."""
    readers = defaultdict(list)
    for output, sources in enumerate(kinds):
        for tap, source in enumerate(sources):
            if source != PADDING:
                readers[source, tap].append(output)
    taps = [(source, tuple(outputs), tap) for (source, tap), outputs in readers.items()]
    if len({source for source, _ in readers}) == 1:
        # All on one map, such as the pixels, whose few channels make sums cheaper to repeat than to put together.
        taps = [(source, (output,), tap) for source, outputs, tap in taps for output in outputs]
    pieces = []
    # Neighbouring taps with the same source and readers have the same difference of tap and rank.
    for _, group in groupby(enumerate(sorted(taps)), lambda item: (*item[1][:2], item[1][2] - item[0])):
        run = [item for _, item in group]
        source, outputs, tap = run[0]
        pieces.append((source, outputs, slice(tap, tap + len(run))))
    return pieces


def _union(positions: list[range]) -> range:
    """Regular positions among which are all of these."""
    first, last = min(at[0] for at in positions), max(at[-1] for at in positions)
    return range(first, last + 1, gcd(*(at.step for at in positions), *(at[0] - first for at in positions)))


def _window(positions: range, wanted: range, before: int, after: int) -> slice:
    """Which of them lie from the first of `wanted`, `before` px further, to its last, `after` px further."""
    return slice(positions.index(wanted[0] + before), positions.index(wanted[-1] + after) + 1)


def _sample(positions: range, wanted: range) -> slice:
    """Which of them `wanted` are."""
    window = _window(positions, wanted, 0, 0)
    return slice(window.start, window.stop, wanted.step // positions.step)


def _parts(start: int, stop: int, size: int) -> list[slice]:
    """Runs of nearly equal length, at most `size`."""
    n = ceil((stop - start) / max(size, 1))
    edges = [start + (stop - start) * i // n for i in range(n + 1)] if n else []
    return [slice(*pair) for pair in pairwise(edges)]
