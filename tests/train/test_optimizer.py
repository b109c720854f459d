"""The optimizer: against singular value decompositions, and against the optimizers that torch ships."""

import copy

import pytest
import torch
from torch import Tensor, nn

from videogen.train.optimizer import MuonAdamW, orthogonalize

SHAPES = [(16, 48), (48, 16), (24, 24), (17, 100)]


def make_matrix(*shape: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(sum(shape)), dtype=torch.float64)


def newton_schulz(matrix: Tensor) -> Tensor:
    """The iteration as it is written in Jordan 2024, on the matrix itself."""
    a, b, c = 3.4445, -4.7750, 2.0315
    x = matrix.T if matrix.shape[0] > matrix.shape[1] else matrix
    x = x / (x.norm() + 1e-7)
    for _ in range(5):
        gram = x @ x.T
        x = a * x + (b * gram + c * gram @ gram) @ x
    return x.T if matrix.shape[0] > matrix.shape[1] else x


@pytest.mark.parametrize("shape", SHAPES)
def test_orthogonalize_keeps_directions_and_levels_singular_values(shape: tuple[int, int]) -> None:
    matrix = make_matrix(*shape)
    u, s, vh = torch.linalg.svd(matrix, full_matrices=False)
    turned = u.T @ orthogonalize(matrix) @ vh.T  # diagonal, if the singular vectors are the same
    values = turned.diagonal()
    torch.testing.assert_close(turned, torch.diag(values), rtol=0, atol=1e-10)
    large = s > 0.02 * s.norm()
    assert values[large].min() > 0.65 and values.max() < 1.25
    assert (values > 0).all()


@pytest.mark.parametrize("shape", SHAPES)
def test_the_gram_form_equals_the_plain_iteration(shape: tuple[int, int]) -> None:
    matrix = make_matrix(*shape)
    torch.testing.assert_close(orthogonalize(matrix), newton_schulz(matrix), rtol=0, atol=1e-9)
    single = orthogonalize(matrix.float())
    torch.testing.assert_close(single.double(), newton_schulz(matrix), rtol=0, atol=1e-4)


@pytest.mark.parametrize("shape", SHAPES)
def test_bfloat16_turns_the_same_way(shape: tuple[int, int]) -> None:
    matrix = make_matrix(*shape).float()
    half, exact = orthogonalize(matrix, bfloat16=True), orthogonalize(matrix)
    assert half.dtype == torch.float32
    assert (half - exact).norm() < 0.05 * exact.norm()


def test_scale_does_not_matter_and_zero_stays_zero() -> None:
    matrix = make_matrix(16, 32)
    torch.testing.assert_close(orthogonalize(1e3 * matrix), orthogonalize(matrix), rtol=0, atol=1e-6)
    assert not orthogonalize(torch.zeros(16, 32)).any()


def parameters_of(*shapes: tuple[int, ...]) -> list[nn.Parameter]:
    generator = torch.Generator().manual_seed(0)
    return [nn.Parameter(torch.randn(shape, generator=generator)) for shape in shapes]


def set_gradients(parameters: list[nn.Parameter], step: int) -> None:
    generator = torch.Generator().manual_seed(100 + step)
    for parameter in parameters:
        parameter.grad = torch.randn(parameter.shape, generator=generator) * (1 + step)


def test_vectors_are_trained_as_by_adamw() -> None:
    ours = parameters_of((7,), (3, 5), (2, 3, 3, 3))
    theirs = copy.deepcopy(ours)
    optimizer = MuonAdamW([(str(i), p) for i, p in enumerate(ours)], lr=0.01, weight_decay=0.5)
    reference = torch.optim.AdamW(theirs, lr=0.01, betas=(0.9, 0.99), eps=1e-8, weight_decay=0.0)
    for step in range(12):
        for group in (*optimizer.param_groups, *reference.param_groups):
            group["lr"] = 0.01 / (1 + step)
        for parameters, each in ((ours, optimizer), (theirs, reference)):
            set_gradients(parameters, step)
            each.step()
        for one, other in zip(ours, theirs, strict=True):
            torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-7)


def test_matrices_are_trained_as_by_the_muon_of_torch() -> None:
    """Which orthogonalises in bfloat16: the same up to the rounding of that."""
    ours = parameters_of((32, 64), (64, 32))
    theirs = copy.deepcopy(ours)
    start = copy.deepcopy(ours)
    optimizer = MuonAdamW([(str(i), p) for i, p in enumerate(ours)], lr=0.02, weight_decay=0.1)
    reference = torch.optim.Muon(
        theirs, lr=0.02, weight_decay=0.1, momentum=0.95, nesterov=True, adjust_lr_fn="match_rms_adamw"
    )
    for step in range(3):
        for parameters, each in ((ours, optimizer), (theirs, reference)):
            set_gradients(parameters, step)
            each.step()
    for one, other, before in zip(ours, theirs, start, strict=True):
        moved = (other - before).detach()
        assert (one - other).norm() < 0.03 * moved.norm()


def test_a_convolution_is_trained_as_its_flattened_matrix() -> None:
    (kernel,) = parameters_of((16, 4, 3, 3))
    matrix = nn.Parameter(kernel.detach().flatten(1).clone())
    for parameter in (kernel, matrix):
        optimizer = MuonAdamW([("weight", parameter)], lr=0.1)
        parameter.grad = torch.arange(16 * 36.0).sin().view_as(parameter)
        optimizer.step()
    assert torch.equal(kernel.flatten(1), matrix)


def test_which_rule_takes_what() -> None:
    shapes = {
        "linear.weight": (16, 16), "conv.weight": (32, 2, 3, 3), "linear.bias": (64,),
        "thin.weight": (15, 64), "token_embedding.weight": (64, 64), "scalar": (),
    }  # fmt: skip
    named = [(name, nn.Parameter(torch.zeros(shape))) for name, shape in shapes.items()]
    optimizer = MuonAdamW(named, lr=0.1, weight_decay=0.3)
    names = {id(parameter): name for name, parameter in named}
    rules = {
        group["rule"]: ({names[id(parameter)] for parameter in group["params"]}, group["weight_decay"])
        for group in optimizer.param_groups
    }
    assert rules == {
        "muon": ({"linear.weight", "conv.weight"}, 0.3),
        "adamw": ({"linear.bias", "thin.weight", "token_embedding.weight", "scalar"}, 0.0),
    }


def test_without_muon_everything_is_trained_as_by_the_adamw_of_torch() -> None:
    ours = parameters_of((32, 64), (64,), (16, 4, 3, 3))
    theirs = copy.deepcopy(ours)
    named = [(str(i), parameter) for i, parameter in enumerate(ours)]
    optimizer = MuonAdamW(named, lr=0.01, weight_decay=0.2, use_muon=False)
    matrices, vectors = [theirs[0], theirs[2]], [theirs[1]]
    reference = torch.optim.AdamW(
        [{"params": matrices, "weight_decay": 0.2}, {"params": vectors, "weight_decay": 0.0}],
        lr=0.01,
        betas=(0.9, 0.99),
    )
    for step in range(4):
        for parameters, each in ((ours, optimizer), (theirs, reference)):
            set_gradients(parameters, step)
            each.step()
    for one, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-7)


def test_parameters_without_a_gradient_are_left_alone() -> None:
    ours = parameters_of((16, 16), (5,), (5,))
    before = copy.deepcopy(ours)
    optimizer = MuonAdamW([(str(i), p) for i, p in enumerate(ours)], lr=0.1, weight_decay=0.1)
    ours[1].grad = torch.ones(5)
    optimizer.step()
    assert torch.equal(ours[0], before[0]) and torch.equal(ours[2], before[2])
    assert not torch.equal(ours[1], before[1])


def test_a_saved_state_goes_on_identically() -> None:
    def make(parameters: list[nn.Parameter]) -> MuonAdamW:
        return MuonAdamW([(str(i), p) for i, p in enumerate(parameters)], lr=0.01, weight_decay=0.1)

    ours = parameters_of((16, 20), (6,))
    optimizer = make(ours)
    for step in range(3):
        set_gradients(ours, step)
        optimizer.step()
    resumed = [nn.Parameter(parameter.detach().clone()) for parameter in ours]
    other = make(resumed)
    other.load_state_dict(copy.deepcopy(optimizer.state_dict()))
    for step in range(3, 6):
        for parameters, each in ((ours, optimizer), (resumed, other)):
            set_gradients(parameters, step)
            each.step()
    assert all(torch.equal(one, two) for one, two in zip(ours, resumed, strict=True))


def test_the_loss_of_a_small_problem_falls() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(16, 32), nn.Tanh(), nn.Linear(32, 16))
    inputs = torch.randn(64, 16)
    target = torch.randn(16, 16)
    optimizer = MuonAdamW(model.named_parameters(), lr=0.02)
    losses = []
    for _ in range(60):
        loss = (model(inputs) - torch.tanh(inputs @ target)).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < losses[0] / 5


def test_named_parts_are_adamws_at_their_share_of_the_rate() -> None:
    weight = torch.randn(32, 32, generator=torch.Generator().manual_seed(0))
    slow, reference = (torch.nn.Parameter(weight.clone()) for _ in range(2))
    optimizer = MuonAdamW([("text_encoder.weight", slow)], lr=0.1, adamw_scales={"text_encoder": 0.25})
    expected = torch.optim.AdamW([reference], lr=0.025, betas=(0.9, 0.99), weight_decay=0)
    for _ in range(3):
        for parameter in (slow, reference):
            parameter.grad = parameter.detach().sin()
        optimizer.step()
        expected.step()
    torch.testing.assert_close(slow, reference)
