"""What holds at an attacked input, given what was seen at the clean one: a `Shift`.

A shift is a lower bound on a smoothed mean, nonincreasing in the distance t of the image in units of sigma. `at(t)` is
the bound, rounded down; `reach(level)` is a t where the bound was evaluated above the level. Whoever asks for a value
asks `at`, whoever asks for a radius asks `reach`, and neither knows what it was made of:

- `Mixture` (`mixtures`): parts that keep their weight under the attack. Suffix cells, covers, means, curves, laws.
- `Worst` (`neyman_pearson`): the worst classifier of one mean, against groups of likelihood ratios.
- `Least` and `Greatest` (`shift`): of several shifts, where the attacker chooses, and where every one of them holds.

What the draws prove becomes one of these in `scores`, `covers` and `joint`; a bound that is new is a new maker
and nothing else.
"""
