import torch

from inspect_gan.benchmark.profiles import profile


def test_the_costliest_operation_comes_first() -> None:
    a = torch.rand(300, 400)
    runs: list[int] = []

    def work() -> None:
        runs.append(1)
        (a @ a.T).sum()

    lines = profile(work).splitlines()
    assert len(runs) == 2
    first = lines[2].split()
    assert first[2:] == ["1", "aten::mm", "300×400", "400×300"]
    shares = [float(line.split()[0].rstrip("%")) for line in lines[2:]]
    assert shares == sorted(shares, reverse=True)
    assert 50 < shares[0] <= 100
