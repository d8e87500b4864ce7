"""Lower confidence bounds on a success probability, at one sample size or at all of them (section 4).

Every bound is rounded down: the search returns a point where the defining inequality was checked with room for
floating-point error. It is at most 1e-9 (relative) below the exact bound up to 10^4 draws; beyond, the any-time bound
at few successes loses up to 1e-13 per draw.
"""

import math
from collections.abc import Callable
from typing import Literal, SupportsIndex, TypeVar

from scipy.special import betainc

from holdfast.certificates import ranges
from holdfast.certificates.rounding import LIBRARY, SMALLEST, down, room, up
from holdfast.certificates.search import greatest_proved, rising_root

Bound = Literal["any_time", "clopper_pearson"]
"""`any_time` holds at every number of draws at once, `clopper_pearson` at one fixed beforehand."""

Successes = TypeVar("Successes", int, float)

# (a, b) of the two halves of the mixture: one costs almost nothing near p = 1, the other serves mid-range p.
_PRIORS = ((0.5, 0.05), (0.5, 0.5))
# Log-odds beyond which a probability has no normal float, and the last Newton step in log-odds.
_FAR = 700.0
_STEP = 2.0**-42
# ULPs allowed to SciPy's incomplete beta function: 7e-12 up to 10^6 draws, where 2e-12 was measured against Arb, and
# in proportion to the draws beyond. Below the least risk there is no bound: tails of 3e-247 were all wrong.
_TAIL = 2**15
_TAIL_DRAWS = 2**20
_LEAST_RISK = 1e-200


def clopper_pearson_lower(successes: int, draws: int, alpha: float) -> float:
    """One-sided Clopper–Pearson lower bound, for a number of draws fixed beforehand.

    Holds with probability at least 1 - alpha: P[bound > p] <= alpha for every p.

    Args:
        successes: how many draws succeeded, 0..draws.
        draws: independent draws taken, at least 0.
        alpha: risk, strictly between 0 and 1.

    Returns:
        A bound in [0, 1); 0.0 without a success, or at a risk below 1e-200.

    Raises:
        ValueError: counts that contradict each other or a risk outside its range.
    """
    successes, draws, alpha = _checked(ranges.whole("successes", successes), draws, alpha)
    if not successes or alpha < _LEAST_RISK:
        return 0.0
    misses = draws - successes + 1
    ulps = max(_TAIL, _TAIL * draws // _TAIL_DRAWS)
    log_beta = math.lgamma(successes) + math.lgamma(misses) - math.lgamma(successes + misses)

    def tail(p: float) -> float:
        return float(betainc(successes, misses, p))

    def in_logits(logit: float) -> tuple[float, float]:
        p, log_p, log_q = _from_logit(logit)
        value = math.log(tail(p) / alpha) if tail(p) > 0.0 else -math.inf
        log_slope = successes * log_p + misses * log_q - log_beta - value - math.log(alpha)
        return value, math.exp(min(log_slope, 700.0)) if value > -math.inf else 0.0

    guess = rising_root(in_logits, -_FAR, _FAR, _logit(successes, misses), _STEP)
    exact = alpha ** (1.0 / draws) if successes == draws else _from_logit(guess)[0]
    return greatest_proved(exact, lambda p: p < 1.0 and up(tail(p), ulps) < alpha, beyond=0) or 0.0


def any_time_lower(successes: float, draws: int, alpha: float) -> float:
    """Lower bound valid at every number of draws at once, from a mixture of two beta-binomial martingales.

    Holds with probability at least 1 - alpha for all n simultaneously (Ville's inequality), so that sampling may
    stop on any rule: the bound is the smallest p with M_n(p) < 1/alpha, where
    M_n(p) = sum_i B(k+a_i, n-k+b_i) / B(a_i, b_i) / 2 / (p^k (1-p)^(n-k)).

    Draws of scores in [0, 1] serve as well as successes and failures, k their sum and p their mean (ours, section 4):
    x -> (r/p)^x ((1-r)/(1-p))^(1-x) is convex, so that at a mean of p it lies on average below its chord, which is 1
    there. M_n is a mean of products of these, hence a supermartingale.

    Args:
        successes: k, how many draws succeeded, or the sum of their scores rounded down; in [0, draws].
        draws: n, independent draws taken so far, at least 0.
        alpha: risk, strictly between 0 and 1.

    Returns:
        A bound in [0, 1); 0.0 without a success.

    Raises:
        ValueError: counts that contradict each other or a risk outside its range.
    """
    if isinstance(successes, SupportsIndex):  # a large count would be rounded as a float
        successes = ranges.whole("successes", successes)
    else:
        successes = ranges.nonnegative("successes", successes)
    successes, draws, alpha = _checked(successes, draws, alpha)
    if successes < SMALLEST:
        return 0.0
    misses = draws - successes
    evidence, magnitude = _log_mixture(successes, misses)
    level = evidence + math.log(alpha)
    margin = room(magnitude - level, LIBRARY)

    def in_logits(logit: float) -> tuple[float, float]:
        p, log_p, log_q = _from_logit(logit)
        return successes * log_p + misses * log_q - level, successes - draws * p

    def proved(p: float) -> bool:
        return p < 1.0 and successes * math.log(p) + misses * math.log1p(-p) < level - margin

    if not misses:
        return greatest_proved(math.exp(level / draws), proved, beyond=0) or 0.0
    peak = _logit(successes, misses)
    start = peak - math.sqrt(-2.0 * math.log(alpha) * draws / (successes * misses))
    return greatest_proved(_from_logit(rising_root(in_logits, -_FAR, peak, start, _STEP))[0], proved, beyond=0) or 0.0


def binomial_tail_down(successes: int, draws: int, p: float) -> float:
    """P[Bin(draws, p) >= successes], rounded down; rises with p.

    Args:
        successes: c, 1..draws.
        draws: independent draws.
        p: success probability, in [0, 1].

    Returns:
        A probability; 1.0 for p = 1, and 0.0 where it is below 1e-200.
    """
    if p >= 1.0:
        return 1.0
    tail = float(betainc(successes, draws - successes + 1, p))
    return down(min(tail, 1.0), max(_TAIL, _TAIL * draws // _TAIL_DRAWS)) if tail >= _LEAST_RISK else 0.0


def lower_bound(bound: Bound) -> Callable[[int, int, float], float]:
    """The function (successes, draws, alpha) -> lower bound of this name.

    Raises:
        ValueError: there is none.
    """
    functions = {"any_time": any_time_lower, "clopper_pearson": clopper_pearson_lower}
    if bound not in functions:
        raise ValueError(f"bound={bound!r} must be one of {', '.join(functions)}; name one of them")
    return functions[bound]


def _logit(successes: float, misses: float) -> float:
    return math.log(successes) - math.log(misses)


def _from_logit(logit: float) -> tuple[float, float, float]:
    """Probability p of a log-odds, with log p and log(1-p)."""
    log_p = -math.log1p(math.exp(-logit)) if logit > 0.0 else logit - math.log1p(math.exp(logit))
    return math.exp(log_p), log_p, log_p - logit


def _log_mixture(successes: float, misses: float) -> tuple[float, float]:
    """Log of the mixed marginal likelihood of the draws, and the size of the terms that it was summed from."""
    logs = []
    magnitude = 1.0
    for a, b in _PRIORS:
        terms = (
            math.lgamma(successes + a),
            math.lgamma(misses + b),
            -math.lgamma(successes + misses + a + b),
            math.lgamma(a + b) - math.lgamma(a) - math.lgamma(b),
        )
        logs.append(sum(terms))
        magnitude = max(magnitude, sum(map(abs, terms)))
    top = max(logs)
    return top + math.log(sum(math.exp(log - top) for log in logs) / len(logs)), magnitude


def _checked(successes: Successes, draws: int, alpha: float) -> tuple[Successes, int, float]:
    draws = ranges.whole("draws", draws)
    if successes > draws:
        raise ValueError(f"successes={successes} must be at most draws={draws}; count each draw once")
    return successes, draws, ranges.open_unit("alpha", alpha)
