"""What the commands say while they work, a line at a time, each at once."""

from collections.abc import Callable


def say(line: str) -> None:
    """Print a line now, whatever it is piped into."""
    print(line, flush=True)


def report_step(every: int) -> Callable[[int, float], None]:
    """What says the loss of every so many steps."""
    return lambda step, loss: say(f"step {step:4d}  loss {loss:.4f}") if step % every == 0 else None
