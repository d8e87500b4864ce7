"""Sentences that certificates of every kind say alike."""

import math


def asked_so_far(questions: int) -> str:
    """What the count of a client's distinct questions means for one certificate picked among their answers."""
    if questions == 1:
        return "This client has asked this model no other question within the retention time."
    return (
        f"This client has asked this model {questions} distinct questions within the retention time: one certificate"
        f" selected among them holds with probability 1 - {questions} alpha, if none had a larger alpha."
    )


def in_short(risk: float) -> str:
    """A risk, short where that drops only float noise: it is never stated lower than it is."""
    short = f"{risk:g}"
    return short if math.isclose(float(short), risk, rel_tol=1e-12) else repr(float(risk))
