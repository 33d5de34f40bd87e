"""Three claims about pictures, each with its own test, and one correction for all of them."""

from __future__ import annotations

import numpy as np
import pytest

from mnerkit.scoring.picture_claims import CLAIMS, claim_rows
from mnerkit.scoring.seeds_and_folds import SeedComparison, mean_test, runs_test
from mnerkit.scoring.significance import holm
from tests.scoring.test_seeds_and_folds import drawn, variance


def test(difference: float, p: float) -> SeedComparison:
    own = runs_test(drawn(np.random.default_rng(0), 2, 50, 0.1))
    return {**own, "difference": difference, "low": difference - 1, "high": difference + 1, "p": p}


test.__test__ = False  # type: ignore[attr-defined]


def test_claims_are_corrected_together_and_do_not_follow_from_one_another() -> None:
    found = dict(
        claim_rows({"a": {"reads": test(20, 0.0001), "helped": test(0.3, 0.02)}, "b": {"helped": test(-2, 0.01)}})
    )
    assert [claim.name for claim in found["a"]] == list(CLAIMS)
    assert [claim.p for claim in found["a"][:2]] == holm([0.0001, 0.02, 0.01])[:2]
    assert [claim.holds for claim in found["a"]] == [True, True, None]
    # worse is no help, however small the p-value
    assert found["b"][1].holds is False and str(found["b"][1]).startswith("worse: -2.00 +- 1.00")
    assert str(found["b"][0]) == "not run"
    many = claim_rows({str(number): {"helped": test(0.3, 0.02)} for number in range(3)})
    assert [claims[1].holds for _, claims in many] == [False] * 3


def test_the_mean_over_corpora_has_a_quarter_of_the_sum_of_their_variances() -> None:
    rng = np.random.default_rng(0)
    tests = [runs_test(drawn(rng, 3, size, 0.1)) for size in (200, 400)]
    both = mean_test(tests)
    assert both["difference"] == pytest.approx(np.mean([each["difference"] for each in tests]))
    assert variance(both) == pytest.approx(sum(map(variance, tests)) / 4)
    assert min(each["freedom"] for each in tests) < both["freedom"] < sum(each["freedom"] for each in tests) + 1e-9
    one = mean_test(tests[:1])
    assert one == pytest.approx(tests[0])
