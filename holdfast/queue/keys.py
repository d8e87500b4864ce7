"""Every Redis key, with its type, its life and who writes it.

| key | type | life | written by |
|---|---|---|---|
| `job:{id}` | hash: the fields of `jobs.JobRecord` | retention | gateway, then certifier or worker |
| `input:{id}` | hash: text, suffix, image (PNG bytes), fields | until the job ends | gateway |
| `plan:{id}` | hash: order index → order | until the job ends | certifier |
| `tallies:{id}` | hash: order index → tally (HSETNX: a tally that arrives twice counts once) | retention | workers |
| `settled:{id}` | hash: `settled.Settled`, the first worker's | until the job ends | workers |
| `jobs:active` | set of job ids queued or running | permanent | gateway, certifier |
| `orders:{fingerprint}` | stream of orders, group `workers` | entry: until acknowledged | certifier |
| `tallies` | stream of hints (job ids with news), group `certifiers` | last 10,000 | gateway, workers |
| `events:{id}` | stream of progress and outcome | retention | certifier |
| `dead:orders` | stream of orders that failed three times | last 1,000 | workers |
| `workers` | set of worker ids | until found dead | workers |
| `asked:{client}:{fingerprint}` | sorted set: distinct questions (digests), by when | retention | gateway |
| `worker:{id}` | string: models it serves, names it loads | 10 s, renewed every 3 s | its heartbeat thread |

All of them stand under `holdfast:`. Values are JSON, or bytes where the table says so; never pickle.

What must change together changes in one Lua script, which no other client can come between; each file says what it
takes and answers.

| script | what it does, if the job is open | called by |
|---|---|---|
| `ask.lua` | `asked`, and their number in `job`, whatever its state | gateway |
| `issue.lua` | `plan`, `orders`, and the job runs | certifier |
| `complete.lua` | `tallies` and its hint; the order is acknowledged even where the job has ended | worker |
| `requeue.lua` | the order from one stream to another, whatever the job | worker |
| `settle.lua` | `settled`, once | worker |
| `finish.lua` | the outcome in `job` and `events`; `input`, `plan`, `settled` and the place in `jobs:active` go | all |
"""

PREFIX = "holdfast:"
ACTIVE_JOBS = PREFIX + "jobs:active"
TALLY_HINTS = PREFIX + "tallies"
DEAD_ORDERS = PREFIX + "dead:orders"
WORKERS = PREFIX + "workers"

ORDER_GROUP = "workers"
CERTIFIER_GROUP = "certifiers"


def job(job_id: str) -> str:
    """Hash: the job's record."""
    return f"{PREFIX}job:{job_id}"


def inputs(job_id: str) -> str:
    """Hash: the text, suffix and image to certify."""
    return f"{PREFIX}input:{job_id}"


def plan(job_id: str) -> str:
    """Hash: the orders issued so far, by index."""
    return f"{PREFIX}plan:{job_id}"


def tallies(job_id: str) -> str:
    """Hash: the tallies that have come back, by order index."""
    return f"{PREFIX}tallies:{job_id}"


def settled(job_id: str) -> str:
    """Hash: what an encoder's workers share about the job."""
    return f"{PREFIX}settled:{job_id}"


def events(job_id: str) -> str:
    """Stream: the job's progress and its outcome."""
    return f"{PREFIX}events:{job_id}"


def orders(fingerprint: str) -> str:
    """Stream: the orders for one model."""
    return f"{PREFIX}orders:{fingerprint}"


def asked(client: str, fingerprint: str) -> str:
    """Sorted set: the distinct questions of a client to a model, as digests, by the second they were last asked."""
    return f"{PREFIX}asked:{client}:{fingerprint}"


def worker(worker_id: str) -> str:
    """String: the lease of one worker."""
    return f"{PREFIX}worker:{worker_id}"
