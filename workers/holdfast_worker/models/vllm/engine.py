"""What reads prompts for a guard on vLLM: the engine in a process of its own, or a server that already runs.

The worker keeps noise, preprocessing, vision tower and projector; an engine takes image features and token ids and
gives the log-probabilities of the verdict tokens. What this module sends is JSON and safetensors, nothing pickled.
"""

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from multiprocessing.connection import Connection, Pipe
from typing import Protocol, Self

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import load, save
from torch import Tensor

from holdfast_worker.models.errors import EngineLostError, ModelConfigError, ModelOutputError

PROCESS_MODULE = f"{__package__}.process"
"""What the child runs."""

_PATIENCE_S = 20  # for an engine that was told to end


@dataclass(frozen=True, eq=False)
class Prompts:
    """Prompts over images of one shape: vLLM's scheduler dies of a step that mixes shapes.

    Attributes:
        features: What the language model reads of each image, shape (images, image_tokens, hidden), on the CPU.
        images: Which image each prompt shows, int64, shape (prompts,).
        ids: Token ids of all prompts, one behind the other, each with one placeholder for its image, int64.
        lengths: Token ids of each prompt, int64, shape (prompts,).
    """

    features: Tensor
    images: NDArray[np.int64]
    ids: NDArray[np.int64]
    lengths: NDArray[np.int64]

    def split(self) -> list[NDArray[np.int64]]:
        """The token ids of each prompt."""
        return np.split(self.ids, np.cumsum(self.lengths)[:-1])

    def to_bytes(self) -> bytes:
        """The prompts as safetensors."""
        numbers = {"images": self.images, "ids": self.ids, "lengths": self.lengths}
        tensors = {name: torch.from_numpy(values) for name, values in numbers.items()}
        return save({"features": self.features.contiguous(), **tensors})

    @classmethod
    def from_bytes(cls, content: bytes) -> Self:
        """What `to_bytes` wrote."""
        read = load(content)
        return cls(read["features"], *(read[name].numpy() for name in ("images", "ids", "lengths")))


@dataclass(frozen=True)
class EngineSettings:
    """What vLLM is started with.

    Attributes:
        folder: Checkpoint folder, in either of transformers' layouts; read, never written.
        dtype: Number type of weights and activations.
        device: ``cpu``, ``cuda`` or ``cuda:N``.
        hidden: Width of the language model.
        context: Positions of a prompt and its one answering token.
        cache_bytes: Size of the key-value cache on a CPU.
        tile_tokens: Patches of one tile.
        verdict: Token ids whose log-probabilities are wanted.
        memory: Share of the GPU's memory that vLLM may take, weights included.
        batch: Prompts in one step at most.
        threads: CPU threads.
    """

    folder: str
    dtype: str
    device: str
    hidden: int
    context: int
    cache_bytes: int
    tile_tokens: int
    verdict: Sequence[int]
    memory: float
    batch: int
    threads: int


class Engine(Protocol):
    """Reads prompts; one thread at a time may call it.

    Attributes:
        name: Kind of engine; part of the guard's fingerprint.
    """

    name: str

    @property
    def lost(self) -> bool:
        """Whether it has died and must be started again."""

    def start(self) -> None:
        """Starts it, anew where it has run before; returns when it is ready.

        Raises:
            ModelConfigError: It refuses the checkpoint or the settings.
            EngineLostError: It cannot be reached.
        """

    def logprobs(self, prompts: Prompts) -> NDArray[np.float32]:
        """Log-probabilities of the verdict tokens behind each prompt, over the whole vocabulary.

        Returns:
            Shape (prompts, verdict tokens), raw: no temperature, penalty or mask.

        Raises:
            EngineLostError: It died; none of these prompts is answered.
            ModelOutputError: The features are not as wide as the language model.
        """

    def stop(self) -> None:
        """Ends it."""


class ProcessEngine:
    """vLLM in a child process, which lives and dies without the worker and never outlives it.

    The child, rather than vLLM's own engine process: that one is left running, and its GPU full, when the worker is
    killed. Here the child reads the end of its connection and goes.

    Attributes:
        cached_positions_total: Positions of prompts that were found in the prefix cache.
    """

    name = "vllm"

    def __init__(self, settings: EngineSettings) -> None:
        self.cached_positions_total = 0
        self._settings = settings
        self._process: subprocess.Popen[bytes] | None = None
        self._connection: Connection | None = None

    @property
    def pid(self) -> int | None:
        """The child's process id, while there is one."""
        return None if self._process is None else self._process.pid

    @property
    def lost(self) -> bool:  # noqa: D102 - as the protocol says
        return self._process is None or self._process.poll() is not None

    def start(self) -> None:  # noqa: D102
        self.stop()
        ours, theirs = Pipe()
        command = [sys.executable, "-m", PROCESS_MODULE, str(theirs.fileno()), json.dumps(asdict(self._settings))]
        with theirs:
            self._process = subprocess.Popen(  # noqa: S603 - our own module
                command,
                pass_fds=(theirs.fileno(),),
                stdin=subprocess.DEVNULL,
                stdout=2,
                env=os.environ | child_environment(self._settings, os.environ.get("CUDA_VISIBLE_DEVICES")),
                start_new_session=True,
            )
        self._connection = ours
        if problem := json.loads(self._receive()):
            self.stop()
            raise ModelConfigError(f"vLLM does not serve {self._settings.folder}: {problem}; correct that")

    def logprobs(self, prompts: Prompts) -> NDArray[np.float32]:  # noqa: D102
        if (width := prompts.features.shape[-1]) != self._settings.hidden:
            raise ModelOutputError(
                f"image features are {width} wide, must be {self._settings.hidden}, as the language model is; use a"
                " projector and a language model that belong together"
            )
        if self._connection is None:
            raise EngineLostError("vLLM's engine does not run, must be started before it reads; start it")
        try:
            self._connection.send_bytes(prompts.to_bytes())
        except OSError as error:
            raise self._death() from error
        answer = load(self._receive())
        self.cached_positions_total += int(answer["cached"])
        found: NDArray[np.float32] = answer["logprobs"].numpy()
        return found

    def stop(self) -> None:  # noqa: D102
        if self._connection is not None:
            self._connection.close()
            self._connection = None
        if self._process is not None:
            try:
                self._process.wait(_PATIENCE_S)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
            self._process = None

    def _receive(self) -> bytes:
        assert self._connection is not None  # noqa: S101 - callers have looked
        try:
            return self._connection.recv_bytes()
        except (EOFError, OSError) as error:
            raise self._death() from error

    def _death(self) -> EngineLostError:
        """Buries the child and says how it died."""
        process = self._process
        self.stop()
        code = None if process is None else process.returncode
        return EngineLostError(f"vLLM's engine died (exit code {code}), must live; it is started again")


def child_environment(settings: EngineSettings, visible: str | None) -> dict[str, str]:
    """The environment variables that vLLM's process needs besides the worker's own.

    Args:
        settings: What vLLM is started with.
        visible: ``CUDA_VISIBLE_DEVICES`` of the worker.
    """
    quiet = {"HF_HUB_OFFLINE": "1", "VLLM_NO_USAGE_STATS": "1", "VLLM_ENABLE_V1_MULTIPROCESSING": "0"}
    if settings.device == "cpu":
        threads = {"OMP_NUM_THREADS": str(settings.threads), "VLLM_CPU_OMP_THREADS_BIND": "nobind"}
        return quiet | threads | {"TORCHDYNAMO_DISABLE": "1", "OMP_WAIT_POLICY": "PASSIVE"}
    if ":" not in settings.device:
        return quiet
    index = int(settings.device.partition(":")[2])
    return quiet | {"CUDA_VISIBLE_DEVICES": visible.split(",")[index] if visible else str(index)}
