"""The certificate of a job that ran in a test, as the certifier writes it."""

import itertools
from datetime import UTC, datetime

from holdfast.contract.guard.certificates import Certificate
from holdfast.queue.jobs import JobRecord
from holdfast.queue.orders import Order
from holdfast_service.certifier.guard.view import GuardView
from holdfast_worker.models.guard.voting import Guard
from holdfast_worker.sampling.guard import Ready, margins, tally


def certificate_of(guard: Guard, ready: Ready, cuts: tuple[int, ...], size: tuple[int, int]) -> Certificate:
    """The certificate that the certifier writes from these orders, run in one batch."""
    spec, orders = ready.spec, [Order("job", index, *end) for index, end in enumerate(itertools.pairwise(cuts))]
    found = margins(guard, [(order, ready) for order in orders])
    view = GuardView.begin(JobRecord("cert_0", "running", spec, ready.seed, datetime.now(UTC), size), spec)
    for order, part in zip(orders, found, strict=True):
        view = view.add(tally(ready, order, part))
    return view.certificate("draws_spent", None)
