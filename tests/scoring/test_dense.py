"""Patches that share convolutions get the outputs that each gets alone."""

import copy
import weakref

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import FlopCounterMode

from inspect_gan.config import make_config
from inspect_gan.detector import Detector
from inspect_gan.patches.grid import Grid
from inspect_gan.scoring import dense
from inspect_gan.scoring.dense import DenseNetwork
from inspect_gan.scoring.folding import folded


def network(
    size: int, padding: int, channels: int = 1, n_out: int = 5, kernel: int = 4, width: int = 8
) -> nn.Sequential:
    """Stride-2 convolutions, nested as in the detectors, down to at most 4 pixels. n_out: 0 for no linear layer."""
    torch.manual_seed(0)
    layers: list[nn.Module] = []
    side, c_in = size, channels
    while side > (4 if padding else 3) and side + 2 * padding >= kernel:
        c_out = min(2 * c_in, 4 * width) if layers else width
        layers += [nn.Conv2d(c_in, c_out, kernel, stride=2, padding=padding), nn.LeakyReLU(0.2, inplace=True)]
        side, c_in = (side + 2 * padding - kernel) // 2 + 1, c_out
    head = [nn.Linear(c_in * side**2, n_out)] if n_out else []
    return nn.Sequential(nn.Sequential(*layers), nn.Flatten(), *head, nn.Identity()).eval()


def image(height: int, width: int, channels: int = 1) -> Tensor:
    return torch.rand(channels, height, width, generator=torch.Generator().manual_seed(1)) * 2 - 1


@torch.inference_mode()
def alone(net: nn.Module, pixels: Tensor, grid: Grid) -> Tensor:
    patches = torch.stack([pixels[:, top:bottom, left:right] for top, left, bottom, right in grid.boxes()])
    return torch.cat([net(batch) for batch in patches.split(512)])


def together(net: nn.Module, pixels: Tensor, grid: Grid) -> Tensor:
    return torch.cat([outputs for _, outputs in DenseNetwork(net, grid.size).strips(pixels, grid)])


def difference(a: Tensor, b: Tensor) -> float:
    assert a.shape == b.shape
    return float((a - b).abs().max() / b.abs().max())


def check_equal(net: nn.Module, pixels: Tensor, grid: Grid) -> None:
    """The order of summation is all that may differ: in float64 that leaves twelve digits, even of outputs that cancel
    and on every processor."""
    net, pixels = copy.deepcopy(net).double(), pixels.double()
    assert difference(together(net, pixels, grid), alone(net, pixels, grid)) < 1e-12


@pytest.mark.parametrize("n_out", [0, 5])
@pytest.mark.parametrize("stride", [1, 2, 3, 4, 8, 16, 32])
@pytest.mark.parametrize("padding", [0, 1])
@pytest.mark.parametrize(("size", "channels"), [(32, 1), (32, 3), (64, 1)])
def test_equals_patch_by_patch(size: int, channels: int, padding: int, stride: int, n_out: int) -> None:
    net = network(size, padding, channels, n_out)
    # A last row and a last column that are not a whole number of strides away, for every stride above 1.
    grid = Grid(size + 6 * min(stride, 8) + 1, size + 9 * min(stride, 8) + 1, size, stride)
    pixels = image(grid.height, grid.width, channels)
    check_equal(net, pixels, grid)


@settings(max_examples=100, deadline=None)
@given(data=st.data())
def test_any_tiling_of_any_geometry_is_exact(data: st.DataObject) -> None:
    kernel, padding = data.draw(st.sampled_from([(4, 1), (4, 0), (5, 2), (5, 1), (3, 1), (2, 0)]), "kernel, padding")
    size = data.draw(st.integers(12, 36), "size")
    stride = data.draw(st.integers(1, size), "stride")
    phases = data.draw(st.integers(1, 4), "phases")
    tile = data.draw(st.tuples(st.integers(1, 7), st.integers(1, 7)), "tile")
    net = network(size, padding, n_out=data.draw(st.sampled_from([0, 3])), kernel=kernel, width=2)
    grid = Grid(
        size + data.draw(st.integers(0, 5 * stride)), size + data.draw(st.integers(0, 5 * stride)), size, stride
    )
    pixels = image(grid.height, grid.width)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(dense, "_tiling", lambda layers, stride, *_: (dense._Scan(layers, stride, phases), *tile))
        check_equal(net, pixels, grid)


def used(name: str, **settings: str) -> Detector:
    """A detector whose batch normalisation has seen data."""
    torch.manual_seed(0)
    detector = make_config({"detector": {"name": name, "nz": 6, "width": 8, **settings}}).build(1).eval()
    with torch.no_grad():
        for key, value in detector.state_dict().items():
            if key.endswith(("running_mean", "bias")):
                value.add_(0.1 * torch.randn_like(value))
            elif key.endswith("running_var"):
                value.mul_(0.5 + torch.rand_like(value))
    return detector


@pytest.mark.parametrize(
    ("name", "settings", "stride"),
    [
        ("anogan", {}, 4),
        ("ganomaly", {}, 4),
        ("ganomaly", {"networks": "k4_valid"}, 4),
        ("ganomaly", {"networks": "k4_valid"}, 1),
    ],
)
def test_networks_of_folded_detectors(name: str, settings: dict[str, str], stride: int) -> None:
    detector = used(name, **settings)
    light = folded(detector)
    critic = light.discriminator
    networks = {"features": critic.body, "outputs": nn.Sequential(critic.body, critic.head)}
    if name == "ganomaly":
        networks["encoder"] = light.encoder
        assert not DenseNetwork.supports(detector.encoder, 32)  # normalises batches
    grid = Grid(75, 90, 32, stride)
    pixels = image(75, 90)
    for net in networks.values():
        check_equal(net, pixels, grid)


def test_strips_are_whole_rows_in_order(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dense, "BUDGET", 50_000)
    grid = Grid(190, 71, 32, 4)
    pixels = image(190, 71)
    strips = list(DenseNetwork(network(32, 1), 32).strips(pixels, grid))
    assert len(strips) > 2
    ends = [0, *(start + len(outputs) for start, outputs in strips)]
    assert [start for start, _ in strips] == ends[:-1]
    assert all(end % len(grid.cols) == 0 for end in ends)
    assert ends[-1] == len(grid)


def passed_alone(net: nn.Module, grid: Grid) -> int:
    """How many patches of the grid went through the network one by one."""
    numbers: list[int] = []
    handle = net.register_forward_pre_hook(lambda _, inputs: numbers.append(len(inputs[0])))
    together(net, image(grid.height, grid.width), grid)
    handle.remove()
    return sum(numbers)


@pytest.mark.parametrize("padding", [0, 1])
def test_only_shifted_patches_pass_alone(padding: int) -> None:
    net = network(32, padding)
    grid = Grid(97, 110, 32, 4)
    assert passed_alone(net, grid) == len(grid.rows) + len(grid.cols) - 1
    assert passed_alone(net, Grid(96, 96, 32, 4)) == 0
    # Here nothing overlaps.
    grid = Grid(97, 110, 32, 32)
    assert passed_alone(net, grid) == len(grid)


@pytest.mark.parametrize(("padding", "saving"), [(0, 6), (1, 6)])
@pytest.mark.parametrize("stride", [1, 4])
def test_sharing_saves_arithmetic(padding: int, saving: int, stride: int) -> None:
    net = network(32, padding, width=16)
    grid = Grid(32 + 40 * stride, 32 + 40 * stride, 32, stride)
    pixels = image(grid.height, grid.width)
    with FlopCounterMode(display=False) as one_patch:
        net(pixels[None, :, :32, :32])
    with FlopCounterMode(display=False) as shared:
        together(net, pixels, grid)
    assert 0 < shared.get_total_flops() * saving < one_patch.get_total_flops() * len(grid)


class LiveNumbers(TorchDispatchMode):
    """Counts the elements of all tensors that were made inside and are still alive."""

    def __init__(self) -> None:
        super().__init__()
        self.now = self.peak = 0
        self.known: set[int] = set()

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):  # type: ignore[no-untyped-def]
        result = func(*args, **(kwargs or {}))
        for tensor in tree_leaves(result):
            if isinstance(tensor, Tensor) and tensor.untyped_storage().data_ptr() not in self.known:
                storage = tensor.untyped_storage()
                address, n = storage.data_ptr(), storage.nbytes() // tensor.element_size()
                self.known.add(address)
                self.now += n
                self.peak = max(self.peak, self.now)
                weakref.finalize(storage, self._forget, address, n)
        return result

    def _forget(self, address: int, n: int) -> None:
        self.known.discard(address)
        self.now -= n


def peak(net: nn.Module, grid: Grid) -> int:
    pixels = image(grid.height, grid.width)
    with LiveNumbers() as numbers:
        for _ in DenseNetwork(net, grid.size).strips(pixels, grid):
            pass
    return numbers.peak


@pytest.mark.parametrize("stride", [2, 4, 8])
def test_no_stride_exceeds_its_kernel(stride: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """oneDNN 3.12 reads beyond its inputs there and with strides on a single output, which shows only now and then."""
    convolve, calls = F.conv2d, []

    def spy(x: Tensor, weight: Tensor, bias: Tensor | None, stride: tuple[int, int], *rest: object) -> Tensor:
        result = convolve(x, weight, bias, stride, *rest)
        calls.extend(zip(stride, weight.shape[2:], result.shape[2:], strict=True))
        return result

    monkeypatch.setattr(F, "conv2d", spy)
    grid = Grid(32 + 12 * stride, 32, 32, stride)
    together(network(32, 1), image(grid.height, 32), grid)
    assert any(step > 1 for step, _, _ in calls)
    assert all(step == 1 if n == 1 else step <= taps for step, taps, n in calls)


@pytest.mark.parametrize("height", [96, 300])
@pytest.mark.parametrize(("stride", "n_out"), [(1, 5), (4, 0), (4, 5)])
@pytest.mark.parametrize("padding", [0, 1])
def test_memory_is_bounded(padding: int, stride: int, n_out: int, height: int, monkeypatch: pytest.MonkeyPatch) -> None:
    budget = 200_000
    monkeypatch.setattr(dense, "BUDGET", budget)
    net = network(32, padding, n_out=n_out)
    grid = Grid(height, 96, 32, stride)
    row = len(grid.cols) * len(together(net, image(32, 32), Grid(32, 32, 32, 32))[0])
    assert peak(net, grid) < 1.25 * (budget + 2 * row)


@pytest.mark.parametrize("padding", [0, 1])
def test_float32(padding: int) -> None:
    net, grid, pixels = network(32, padding), Grid(60, 71, 32, 4), image(60, 71)
    outputs = together(net, pixels, grid)
    assert outputs.dtype == torch.float32
    assert difference(outputs, alone(net, pixels, grid)) < 1e-5


@pytest.mark.parametrize("padding", [0, 1])
def test_bfloat16(padding: int) -> None:
    net = network(32, padding)
    grid = Grid(60, 71, 32, 4)
    pixels = image(60, 71)
    with torch.autocast("cpu", torch.bfloat16):
        outputs = together(net, pixels, grid)
    assert outputs.dtype == torch.float32
    assert 1e-6 < difference(outputs, alone(net, pixels, grid)) < 0.03


def test_leaves_pixels_and_network_alone() -> None:
    net = network(32, 1).requires_grad_(True)
    pixels, grid = image(50, 50), Grid(50, 50, 32, 4)
    before = pixels.clone(), [parameter.clone() for parameter in net.parameters()]
    together(net, pixels, grid)
    assert torch.equal(pixels, before[0])
    assert all(torch.equal(a, b) for a, b in zip(net.parameters(), before[1], strict=True))


CONV, FLAT = nn.Conv2d(1, 2, 4, stride=2, padding=1), nn.Flatten()


@pytest.mark.parametrize(
    "net",
    [
        nn.Sequential(CONV, nn.LeakyReLU(), FLAT),
        nn.Sequential(CONV, FLAT, nn.ReLU(), nn.Linear(2 * 16**2, 3), nn.ReLU(), nn.Linear(3, 1)),
        nn.Sequential(nn.Identity(), nn.Conv2d(1, 2, 5, stride=2, padding=2), FLAT),
        nn.Sequential(nn.Sequential(nn.Conv2d(1, 2, 3), nn.Sequential(nn.ReLU())), FLAT),
    ],
    ids=str,
)
def test_supported(net: nn.Module) -> None:
    assert DenseNetwork.supports(net, 32)
    grid = Grid(41, 40, 32, 2)
    pixels = image(41, 40)
    check_equal(net, pixels, grid)


@pytest.mark.parametrize(
    "net",
    [
        nn.Sequential(CONV),
        nn.Sequential(FLAT, nn.Linear(32**2, 3)),
        nn.Sequential(CONV, FLAT, nn.Linear(2 * 15**2, 3)),
        nn.Sequential(CONV, nn.BatchNorm2d(2), FLAT),
        nn.Sequential(CONV, nn.GroupNorm(1, 2), FLAT),
        nn.Sequential(CONV, FLAT, nn.LayerNorm(2 * 16**2)),
        nn.Sequential(CONV, nn.Dropout(), FLAT),
        nn.Sequential(CONV, nn.MaxPool2d(2), FLAT),
        nn.Sequential(nn.ReLU(), CONV, FLAT),
        nn.Sequential(CONV, nn.Flatten(2), nn.Flatten()),
        nn.Sequential(nn.Conv2d(1, 2, 3, dilation=2), FLAT),
        nn.Sequential(nn.Conv2d(1, 2, (3, 4)), FLAT),
        nn.Sequential(nn.Conv2d(1, 2, 3, stride=(1, 2)), FLAT),
        nn.Sequential(nn.Conv2d(1, 2, 3, padding=(1, 0)), FLAT),
        nn.Sequential(nn.Conv2d(1, 2, 3, padding="same"), FLAT),
        nn.Sequential(nn.Conv2d(1, 2, 3, padding=2), FLAT),
        nn.Sequential(nn.Conv2d(1, 2, 3, padding=1, padding_mode="reflect"), FLAT),
        nn.Sequential(nn.Conv2d(2, 2, 3, groups=2), FLAT),
        nn.Sequential(nn.Conv2d(1, 2, 33), FLAT),
        nn.Sequential(nn.ConvTranspose2d(1, 2, 4), FLAT),
    ],
    ids=str,
)
def test_unsupported(net: nn.Module) -> None:
    assert not DenseNetwork.supports(net, 32)
    with pytest.raises(ValueError, match="supports"):
        DenseNetwork(net, 32)


@pytest.mark.parametrize("grid", [Grid(40, 40, 16, 4), Grid(40, 41, 32, 4), Grid(41, 40, 32, 4)])
def test_refuses_another_grid(grid: Grid) -> None:
    with pytest.raises(ValueError, match="match"):
        next(DenseNetwork(network(32, 1), 32).strips(image(40, 40), grid))
