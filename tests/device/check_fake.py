"""The fake accelerator does what a real one does to a host."""

import pytest
import torch
import torch.nn.functional as F
from torch.nn.attention import SDPBackend, sdpa_kernel

from methods.blocks.transfer import moved
from tests.device import fake


def test_it_computes_as_the_cpu_does_forward_and_backward(device):
    torch.manual_seed(0)
    net = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3), torch.nn.BatchNorm2d(4), torch.nn.ReLU())
    x = torch.randn(2, 3, 9, 9)
    net(x).square().mean().backward()
    wanted = [p.grad.clone() for p in net.parameters()]
    net.zero_grad()
    net.to(device)(x.to(device)).square().mean().backward()
    assert all(torch.equal(p.grad.cpu(), w) for p, w in zip(net.parameters(), wanted))


@pytest.mark.parametrize(
    "mix",
    [
        lambda a, b: a + b,
        lambda a, b: torch.cat([a, b]),
        lambda a, b: F.conv2d(a[None, None], b[None, None]),
        lambda a, b: torch.where(a > 0, a, b),
        lambda a, b: a.index_select(0, b[0].long()),
        lambda a, b: b[a[0].long()],
    ],
)
def test_operands_on_the_host_and_on_the_device_are_refused(device, mix):
    a, b = torch.ones(3, 3, device=device), torch.ones(3, 3)
    with pytest.raises(RuntimeError, match="same device"):
        mix(a, b)


def test_a_number_of_no_dimension_may_come_from_the_host(device):
    assert (torch.ones(2, device=device) * torch.tensor(2.0)).sum().item() == 4


def test_launches_waits_and_copies_are_counted(device):
    host = torch.randn(4, 4)
    with fake.counted() as found:
        x = host.to(device)
        y = x @ x
        (y + 1).cpu()
        float(y.sum())
    assert (found.to_device, found.to_host) == (1, 1)
    assert found.launches == 5  # up, product, sum of 1, down, sum
    assert found.waits == {"to device": 1, "to host": 1, "aten::_local_scalar_dense": 1}
    assert found.peak_bytes >= 3 * host.numel() * 4


def test_only_copies_from_pinned_memory_are_not_waited_for(device):
    pinned, pageable = torch.ones(4, pin_memory=True), torch.ones(4)
    assert pinned.is_pinned() and not pageable.is_pinned()
    with fake.counted() as found:
        pinned.to(device, non_blocking=True)
        pinned[1:].to(device, non_blocking=True)
    assert (found.to_device, found.syncs) == (2, 0)
    with fake.counted() as found:
        pinned.to(device)
        pageable.to(device, non_blocking=True)
    assert (found.to_device, found.syncs) == (2, 2)


def test_tensors_are_moved_by_one_copy_a_type_that_nobody_waits_for(device):
    there = torch.arange(3.0, device=device)
    given = [torch.rand(2, 3), torch.tensor(5), there, torch.rand(4, 0), torch.rand(3, 2).mT]
    with fake.counted() as found:
        got = moved(given, device)
    assert (found.to_device, found.syncs) == (2, 0)
    assert got[2] is there and all(x.device == device for x in got)
    assert all(torch.equal(x.cpu(), y.cpu()) for x, y in zip(got, given, strict=True))


def test_what_the_host_must_know_the_size_of_is_a_wait(device):
    x = torch.arange(6.0, device=device)
    mask = x > 2
    some = torch.tensor([1, 2])  # an index on the host, which is copied
    for ask in (lambda: x[mask], lambda: mask.nonzero(), lambda: x.unique(), lambda: x[some]):
        with fake.counted() as found:
            ask()
        assert found.syncs >= 1
    there = some.to(device)
    with fake.counted() as found:
        torch.where(mask, x, 0.0)
        x.masked_fill(mask, 1.0)
        x[there]
    assert found.syncs == 0


def test_what_cuda_computes_at_once_is_one_launch(device):
    """Lists of an optimiser; attention in either direction, beside the padding of its bias."""
    many = [torch.zeros(3, device=device) for _ in range(9)]
    with fake.counted() as found:
        torch._foreach_add_(many, 1)
    assert found.operators == {"aten::_foreach_add_": 1} and all(t.sum() == 3 for t in many)

    with fake.counted() as found:
        many[0].view(3, 1).roll((1, 0), dims=(0, 1))  # but a roll, dimension by dimension
    assert found.operators == {"aten::roll": 2}

    for layout, copies in ((torch.contiguous_format, 0), (torch.channels_last, 1)):
        image = torch.rand(2, 3, 4, 4, device=device).contiguous(memory_format=layout)
        with fake.counted() as found:
            F.group_norm(image, 3)
        assert found.operators.get("copy for group norm", 0) == copies

    def run(where):
        generator = torch.Generator().manual_seed(0)
        shapes = ((2, 3, 5, 4), (2, 3, 5, 4), (2, 3, 5, 4), (3, 5, 5))
        parts = [torch.rand(s, generator=generator).to(where).requires_grad_() for s in shapes]
        with sdpa_kernel(SDPBackend.MATH):
            out = F.scaled_dot_product_attention(*parts[:3], parts[3].expand(2, -1, -1, -1))
        out.backward(torch.ones_like(out))
        return [t.detach().cpu() for t in (out, *(p.grad for p in parts))]

    with fake.counted() as found:
        there = run(device)
    names = ("attention", "attention_backward", "pad of attention")
    assert [found.operators[n] for n in names] == [1, 1, 3]
    assert all(map(torch.equal, there, run("cpu")))
