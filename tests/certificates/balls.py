"""Arb balls: exact numbers with a proved error, so that `a <= b` is true only where it is certain.

A searched bound lies on a grid, so that a margin's work is seen only where the exact bound lies just below a point of
the grid: `hard_risks` gives the risks at which it does.
"""

import math
from collections.abc import Callable, Iterator

import flint

from holdfast.certificates import ScoreSample

flint.ctx.prec = 240


def phi(x: flint.arb) -> flint.arb:
    """The normal distribution function."""
    return (-x / flint.arb(2).sqrt()).erfc() / 2


def below(x: float) -> flint.arb:
    """The lowest number that may have been rounded to this float."""
    return (flint.arb(x) + flint.arb(math.nextafter(x, -math.inf))) / 2


def above(x: float) -> flint.arb:
    """The highest number that may have been rounded to this float."""
    return (flint.arb(x) + flint.arb(math.nextafter(x, math.inf))) / 2


def hard_risks(near: float, risk_at: Callable[[flint.arb], flint.arb], points: int) -> Iterator[float]:
    """Risks whose exact bound is below a grid point near `near`, and above the float before it or nearly so.

    `risk_at` is the exact risk at which a number is the bound; it rises with the number.
    """
    assert near > 0.0, "a bound of 0 has no grid; ask where something is proved"
    unit = math.ldexp(1.0, math.frexp(near)[1] - 32)
    for point in range(round(near / unit), round(near / unit) + points):
        exact = risk_at(flint.arb(point * unit))
        risk = float(exact)
        while not flint.arb(risk) < exact:
            risk = math.nextafter(risk, 0.0)
        if risk < 1.0:
            yield risk


def tail(successes: int, draws: int, p: flint.arb) -> flint.arb:
    """P[Binomial(draws, p) >= successes]."""
    return flint.arb.beta_lower(p, flint.arb(successes), flint.arb(draws - successes + 1), True)


def any_time_risk(successes: int, draws: int, p: flint.arb) -> flint.arb:
    """1 / M_n(p) of the any-time bound (section 4)."""
    half, misses = flint.arb(1) / 2, draws - successes
    mixture = flint.arb(0)
    for a, b in ((half, flint.arb(0.05)), (half, half)):
        mixture += half * (_log_beta(successes + a, misses + b) - _log_beta(a, b)).exp()
    log_likelihood = successes * p.log() + (misses * (1 - p).log() if misses else 0)
    return log_likelihood.exp() / mixture


def kl_risk(sample: ScoreSample, q: flint.arb) -> flint.arb:
    """exp(-n KL(mean, q))."""
    p = mean(sample)
    rest = 0 if p == 1 else (1 - p) * ((1 - p) / (1 - q)).log()
    return (-sample.size * (p * (p / q).log() + rest)).exp()


def betting_risk(sample: ScoreSample, m: flint.arb, bets: list[flint.arb]) -> flint.arb:
    """1 / K_n(m) of the betting bound (section 6) with these bets below 1, beside the one that stakes all."""
    return _wealth_risk(sample, m, bets, flint.arb(1) / 2)


def standing_risk(sample: ScoreSample, m: flint.arb) -> flint.arb:
    """The same of 11 bets that stand, 15/16, 10/16, ..., and 3/4 on the one that stakes all."""
    return _wealth_risk(sample, m, [flint.arb(15) / 16 * (flint.arb(2) / 3) ** k for k in range(11)], flint.arb(3) / 4)


def _wealth_risk(sample: ScoreSample, m: flint.arb, bets: list[flint.arb], on_all: flint.arb) -> flint.arb:
    shares = [(flint.arb(1), on_all), *((bet, (1 - on_all) / len(bets)) for bet in bets)]
    wealth = flint.arb(0)
    for bet, share in shares:
        factors = [(1 - bet + bet * value / m, count) for value, count in _levels(sample)]
        if not any(factor == 0 for factor, _ in factors):
            wealth += share * sum((count * factor.log() for factor, count in factors), flint.arb(0)).exp()
    return 1 / wealth


def bets(alpha: float, horizon: int) -> list[flint.arb]:
    """15/16, 10/16, ... down to sqrt(8 ln(1/alpha) / horizon) / 8 or below."""
    least = math.sqrt(-8.0 * math.log(alpha) / horizon) / 8.0
    found = [flint.arb(15) / 16]
    while float(found[-1]) > min(15 / 16, least) * (1.0 + 1e-12):
        found.append(found[-1] * 2 / 3)
    return found


def mean(sample: ScoreSample) -> flint.arb:
    return sum((value * count for value, count in _levels(sample)), flint.arb(0)) / sample.size


def variance(sample: ScoreSample) -> flint.arb:
    """The unbiased one."""
    middle = mean(sample)
    return sum(((v - middle) ** 2 * count for v, count in _levels(sample)), flint.arb(0)) / (sample.size - 1)


def _levels(sample: ScoreSample) -> list[tuple[flint.arb, int]]:
    return [(flint.arb(v), c) for v, c in zip(sample.values.tolist(), sample.counts.tolist(), strict=True)]


def _log_beta(a: flint.arb, b: flint.arb) -> flint.arb:
    return a.lgamma() + b.lgamma() - (a + b).lgamma()
