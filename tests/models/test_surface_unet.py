import pytest
import torch
from torch import nn

from pcsa import grid
from pcsa.models import SurfaceUNet, order_surfaces


def _net(num_surfaces: int = 3, channels=(4, 6, 8), **options) -> SurfaceUNet:
    torch.manual_seed(0)
    return SurfaceUNet(num_surfaces, channels=channels, **options)


@pytest.mark.parametrize("channels", [(4, 6), (4, 6, 8), (3, 4, 5, 6)])
@pytest.mark.parametrize("size", [(32, 16), (37, 21), (5, 3)])
def test_shapes_and_gradients(channels, size, gradients_reach_all):
    net = _net(channels=channels)
    image = torch.rand(2, 1, *size).requires_grad_()
    logits = net(image)["logits"]
    assert logits.shape == (2, 3, *size)
    gradients_reach_all(net, image, logits)
    # As many halvings as there are widths, less one.
    with torch.no_grad():
        sizes = []
        for module in net.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.register_forward_hook(lambda _, __, out: sizes.append(out.shape[2]))
        net(torch.rand(2, 1, 32, 16))
    assert min(sizes) == 32 // 2 ** (len(channels) - 1)
    assert max(sizes) == 32


def test_any_size_is_padded_by_its_last_row_and_column(trained, close):
    net = trained(_net()).double()
    image = torch.rand(1, 1, 18, 11, dtype=torch.float64)
    rows, columns = torch.arange(20).clamp(max=17), torch.arange(12).clamp(max=10)  # multiples of 4
    by_hand = net(image[:, :, rows][..., columns])["logits"]
    close(net(image)["logits"], by_hand[:, :, :18, :11])


def test_learns_a_handful(overfit):
    generator = torch.Generator().manual_seed(0)
    net = _net(2, channels=(8, 8, 16))
    # Two bright bands, noise, and their upper edges.
    x, y = torch.arange(20.0), torch.arange(32.0)[:, None]
    first = 8 + 4 * torch.sin(x / 4 + torch.rand(3, 1, generator=generator) * 6)
    truth = torch.stack([first, first + 9], 1)  # [3, 2, 20]
    image = 0.4 * (y >= truth[:, 0, None]) + 0.4 * (y >= truth[:, 1, None])
    image = (image + 0.1 * torch.rand(3, 32, 20, generator=generator))[:, None]

    def error():
        columns = net(image)["logits"].permute(0, 3, 1, 2).flatten(0, 1)
        position = grid.soft_argmax(columns).view(3, 20, 2).transpose(1, 2)
        return (order_surfaces(position) - truth).abs().mean()

    assert overfit(net, error, 40) < 0.2


def test_compiles_in_one_piece(trained):
    net, image = trained(_net()), torch.rand(2, 1, 18, 11)

    def surfaces(image):
        return order_surfaces(net(image)["logits"].softmax(2).cumsum(2).sum(2))

    compiled = torch.compile(surfaces, backend="aot_eager", fullgraph=True)
    torch.testing.assert_close(compiled(image), surfaces(image))


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_order_on_cuda():
    logits = torch.rand(2, 3, 18, 11, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    assert torch.equal(order_surfaces(logits.cuda()).cpu(), order_surfaces(logits))


# --- the order of surfaces -------------------------------------------------------------------------------------


def test_order_by_hand():
    position = torch.tensor([[2.0, 1.0, 4.0, 3.0, 3.5, 5.0]])
    assert order_surfaces(position).tolist() == [[2, 2, 4, 4, 4, 5]]
    assert order_surfaces(position.T, dim=0).T.tolist() == [[2, 2, 4, 4, 4, 5]]


@pytest.mark.parametrize("dim", [1, 2, -1])
def test_order_is_the_recursion(dim, close):
    # s_k = s_(k-1) + relu(s_k - s_(k-1)), values and gradients.
    generator = torch.Generator().manual_seed(0)
    position = torch.randn(3, 5, 7, dtype=torch.float64, generator=generator).requires_grad_()
    rows = list(position.unbind(dim))
    for k in range(1, len(rows)):
        rows[k] = rows[k - 1] + torch.relu(rows[k] - rows[k - 1])
    expected = torch.stack(rows, dim)
    ordered = order_surfaces(position, dim)
    close(ordered, expected)
    assert (ordered.diff(dim=dim) >= 0).all()
    weight = torch.randn(ordered.shape, dtype=torch.float64, generator=generator)
    close(*(torch.autograd.grad((x * weight).sum(), position)[0] for x in (ordered, expected)))


def test_order_leaves_what_is_in_order():
    position = torch.rand(2, 9, 50, generator=torch.Generator().manual_seed(0)).cumsum(1)
    assert torch.equal(order_surfaces(position), position)


def test_bad_input_of_order():
    with pytest.raises(ValueError, match=r"`position` \(torch.int64\) must be floating point"):
        order_surfaces(torch.zeros(2, 3, dtype=torch.int64))
    with pytest.raises(ValueError, match=r"`dim` \(=1\) must be an axis of `position` \[3\]"):
        order_surfaces(torch.zeros(3))
