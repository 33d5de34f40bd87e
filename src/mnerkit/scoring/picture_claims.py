"""What a method does with pictures (or captions): three claims that do not follow from one another.

- `reads`: the trained method is better with each post's own pictures than with those of other posts;
- `helped`: it is better than its text twin, the same tower and head without pictures;
- `by content`: it is better than the same method trained on pictures of other posts, both tested with the posts' own.

A method may read pictures and not be helped by them, or be helped by what its layers add, whatever is in the pictures.
Nothing here imports torch.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, get_args

from mnerkit.scoring.seeds_and_folds import SeedComparison
from mnerkit.scoring.significance import LEVEL, Comparison, holm

ClaimName = Literal["reads", "helped", "by content"]
CLAIMS: tuple[ClaimName, ...] = get_args(ClaimName)


@dataclass(frozen=True)
class Claim:
    """A claim about a method.

    Attributes:
        system: the method, as tables call it.
        name: which of the three.
        test: of the method against what the claim compares it with; None: that was not run.
        p: of the test, after correction for all claims that were made with it; None without a test.
    """

    system: str
    name: ClaimName
    test: SeedComparison | Comparison | None
    p: float | None = None

    @property
    def holds(self) -> bool | None:
        """Whether the method is better, significantly after correction; None where that was not run."""
        return None if self.test is None or self.p is None else self.p < LEVEL and self.test["difference"] > 0

    def __str__(self) -> str:
        if self.test is None or self.p is None:
            return "not run"
        half = (self.test["high"] - self.test["low"]) / 2
        verdict = "yes" if self.holds else "worse" if self.p < LEVEL else "no"
        return f"{verdict}: {self.test['difference']:+.2f} +- {half:.2f}, p {self.p:.3f}"


def corrected(claims: Sequence[Claim]) -> list[Claim]:
    """The claims, with p-values corrected by Holm's procedure for the number of those that were tested."""
    tested = [claim for claim in claims if claim.test is not None]
    values = iter(holm([claim.test["p"] for claim in tested if claim.test is not None]))
    return [
        claim if claim.test is None else Claim(claim.system, claim.name, claim.test, next(values)) for claim in claims
    ]


def claim_rows(
    tests: Mapping[str, Mapping[ClaimName, SeedComparison | Comparison]],
) -> list[tuple[str, tuple[Claim, Claim, Claim]]]:
    """For each method the three claims, p-values corrected over all tests of the table.

    Args:
        tests: by method, those that were run.
    """
    claims = corrected([Claim(system, name, own.get(name)) for system, own in tests.items() for name in CLAIMS])
    return [
        (system, (claims[3 * place], claims[3 * place + 1], claims[3 * place + 2]))
        for place, system in enumerate(tests)
    ]
