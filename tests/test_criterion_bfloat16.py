"""The criterion of a head that speaks bfloat16: computed in float32, its gradient rounded to bfloat16."""

import pytest
import torch
from test_criterion_one_pass import BCE, FOCAL, OPTIONS, A, B, C, results

from dethead.schemes import MultilabelSoftmax, QualityFocal

SCHEMES = [(MultilabelSoftmax(), "positives"), (BCE, "all"), (FOCAL, "all"), (QualityFocal(beta=2.0), "all")]


@pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS)
@pytest.mark.parametrize(("scheme", "class_on"), SCHEMES, ids=str)
@pytest.mark.parametrize("one_pass", [True, False], ids=["one pass", "autograd"])
def test_terms_and_gradient_are_those_of_float64_to_the_rounding_of_bfloat16(
    one_pass, scheme, class_on, options
):
    raw = (3 * torch.randn(B, A, C + 5, generator=torch.Generator().manual_seed(0))).bfloat16()
    both = [
        results(one_pass, scheme, dtype=dtype, raw=raw.clone(), class_on=class_on, **options)
        for dtype in (torch.bfloat16, torch.float64)
    ]
    (*terms, gradient), (*wanted, exact) = both
    assert gradient.dtype == torch.bfloat16
    assert all(term.isfinite().all() for term in terms)
    torch.testing.assert_close(
        [one.double() for one in terms], [one.double() for one in wanted], rtol=1e-2, atol=1e-4
    )
    torch.testing.assert_close(gradient.double(), exact, rtol=2**-7, atol=1e-3)
