"""A certificate says in words which attackers each of its numbers covers, and how its alpha was shared."""

import pytest

from tests.certificates.issued import KINDS, issued

IN_THE_SLOTS = "any tokens, special ones and those outside the alphabet too, in the first d of the"
OF_THE_ALPHABET = "cover tokens of the alphabet only, before the attack and after it; no special tokens"
OF_A_FIELD = "cover values that the model has for a field only"
APPENDED = "rewrites, insertions and prefixes are not covered, and nothing is certified Safe"
REWRITTEN = "any tokens at any d positions of the text, special ones too: the number of tokens is kept"
FIELDS = "any values of any d categorical fields"
EVERY = (IN_THE_SLOTS, OF_THE_ALPHABET, OF_A_FIELD, APPENDED, REWRITTEN, FIELDS)

COVERED: dict[str, set[str]] = {
    "suffix": {IN_THE_SLOTS, OF_THE_ALPHABET},
    "joint": {IN_THE_SLOTS},
    "stratified": {IN_THE_SLOTS},
    "absorbing": {IN_THE_SLOTS},
    "neyman_pearson": {OF_THE_ALPHABET},
    "per budget": {IN_THE_SLOTS, OF_THE_ALPHABET},
    "target": {IN_THE_SLOTS, OF_THE_ALPHABET},
    "text only": {IN_THE_SLOTS, OF_THE_ALPHABET},
    "append": {APPENDED},
    "image only": set(),
    "l0": {REWRITTEN, OF_THE_ALPHABET},
    "l0 by covers": {REWRITTEN},
    "l0 by neyman_pearson": {OF_THE_ALPHABET},
    "tabular": {FIELDS, OF_A_FIELD},
}


@pytest.mark.parametrize("kind", COVERED)
def test_the_notice_says_which_attackers_the_numbers_of_each_method_cover(kind: str) -> None:
    notice = issued(kind)["notice"]
    assert {words for words in EVERY if any(words in line for line in notice)} == COVERED[kind]
    assert all(sum(words in line for line in notice) == 1 for words in COVERED[kind])


def test_the_tail_stands_in_the_slots_and_is_not_glued_to_the_text() -> None:
    assert any(
        "the tail stands in the slots, it is not glued to the text" in line for line in issued("suffix")["notice"]
    )


@pytest.mark.parametrize("kind", KINDS)
def test_every_sentence_of_a_certificate_ends_as_one(kind: str) -> None:
    certificate = issued(kind)
    assert all(line[0].isupper() and line.endswith(".") for line in (*certificate["notice"], certificate["reason"]))


PARTS = "3/4 of its share for its mean, the rest equally over its law at 24 levels"
NINE = "over 9 budgets in parts of 5, 1, 1, 1, 1, 1, 1, 1, 1"
SHARED = {
    "suffix": f"{NINE}: {PARTS}",
    "one tail": f"{NINE}: {PARTS}, but for the last, which has but its mean",
    "target": f"one score: {PARTS}",
    "text only": f"{NINE}, for its mean alone",
    "stratified": "equally over 9 cells",
    "stratified target": "undivided: one bound serves every number",
    "neyman_pearson": "undivided: one bound serves every number",
    "per budget": f"equally over 4 budgets: {PARTS}",
    "per budget by neyman_pearson": "equally over 3 budgets",
    "append": "undivided: one bound serves every number",
    "image only": "undivided: one bound serves every number",
    "l0": "equally over 3 budgets, then over the covers of each: 1, 12, 66",
    "tabular": "equally over 3 budgets, then over the covers of each: 1, 3, 3",
}


@pytest.mark.parametrize("kind", SHARED)
def test_how_alpha_was_shared_is_said_by_method(kind: str) -> None:
    assert issued(kind)["evidence"]["sharing"] == SHARED[kind]


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        ("suffix", "Unsafe: the smoothed Unsafe probability stays above tau=0.3 against up to 8 tokens"),
        ("append", "against up to 20 appended code points at the radii"),
        ("safe", "Safe: the smoothed Unsafe probability stays below tau=0.3"),
        ("target", "The target (2 tokens, radius 0.5) is certified Unsafe."),
        ("abstained", "Abstained: neither verdict is certified even without an attack"),
    ],
)
def test_the_reason_says_what_was_certified_or_why_nothing_was(kind: str, words: str) -> None:
    assert words in issued(kind)["reason"]
