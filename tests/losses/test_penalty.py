"""The penalty on weights: its value, its gradient, and what it adds up to beside weight decay."""

import torch

from dethead.losses.penalty import l2_penalty


def test_it_is_the_sum_of_squares_and_its_gradient_twice_the_weights():
    weights = torch.tensor([[1.0, -2.0], [0.5, 0.0]], requires_grad=True)
    value = l2_penalty(weights)
    value.backward()
    assert value.item() == 1 + 4 + 0.25
    assert weights.grad.tolist() == [[2, -4], [1, 0]]


def test_lambda_times_the_penalty_is_a_weight_decay_of_two_lambda():
    start = torch.randn(3, 4, dtype=torch.float64)
    penalised, decayed = (start.clone().requires_grad_() for _ in range(2))
    (0.05 * l2_penalty(penalised)).backward()
    decayed.grad = torch.zeros_like(decayed)
    torch.optim.SGD([penalised], lr=0.1).step()
    torch.optim.SGD([decayed], lr=0.1, weight_decay=0.1).step()
    torch.testing.assert_close(penalised, decayed)


def test_half_precision_weights_do_not_overflow():
    assert l2_penalty(torch.full((100,), 300.0, dtype=torch.float16)).item() == 9e6
