"""vLLM's process: starts the engine, says whether it runs, then answers prompts until its connection ends.

It ends at the first error: what an engine does after one is not to be trusted, and starting it again is the worker's.
"""

import itertools
import json
import logging
import sys
from collections.abc import Iterator, Sequence
from multiprocessing.connection import Connection
from typing import Any

import torch
from safetensors.torch import save
from torch import Tensor

from holdfast_worker.models.vllm.engine import EngineSettings, Prompts

_REASON = 600  # characters of vLLM's own words that are passed on


def main(handle: int, settings: EngineSettings) -> None:
    """Serves one connection.

    Args:
        handle: File descriptor of the connection.
        settings: What vLLM is started with.
    """
    with Connection(handle) as connection:
        try:
            engine = _engine(settings)
        except Exception as error:
            connection.send_bytes(json.dumps(f"{type(error).__name__}: {error}"[:_REASON]).encode())
            raise
        connection.send_bytes(json.dumps(None).encode())
        numbers = itertools.count()
        while True:
            try:
                content = connection.recv_bytes()
            except EOFError:
                return
            connection.send_bytes(save(_answer(engine, settings.verdict, Prompts.from_bytes(content), numbers)))


def _engine(settings: EngineSettings) -> Any:
    from vllm import LLM

    # It would write the prompts and image features of a failed step into the log.
    logging.getLogger("vllm.logging_utils.dump_input").setLevel(logging.CRITICAL + 1)
    return LLM(settings.folder, **_arguments(settings))


def _arguments(settings: EngineSettings) -> dict[str, Any]:
    shared = {
        "dtype": settings.dtype,
        "max_model_len": settings.context,
        "max_num_seqs": settings.batch,
        "max_logprobs": max(20, len(settings.verdict)),
        "logprobs_mode": "raw_logprobs",
        "enable_prefix_caching": True,
        # Features only: vision tower and projector are not even loaded.
        "enable_mm_embeds": True,
        "limit_mm_per_prompt": {"image": 0, "video": 0},
        "mm_processor_kwargs": {
            "num_image_tokens": settings.tile_tokens,
            "vision_feature_select_strategy": "full",
        },
        "mm_processor_cache_gb": 0,  # no noised image comes twice
        "load_format": "safetensors",
        "trust_remote_code": False,
        "disable_log_stats": True,
        "seed": 0,
    }
    if settings.device != "cpu":
        return shared | {"gpu_memory_utilization": settings.memory}
    # The CPU's default block of 128 tokens is longer than many a prefix, which then is never found again.
    return shared | {"enforce_eager": True, "block_size": 32, "kv_cache_memory_bytes": settings.cache_bytes}


def _answer(engine: Any, verdict: Sequence[int], prompts: Prompts, numbers: Iterator[int]) -> dict[str, Tensor]:
    """Log-probabilities of the verdict tokens, (prompts, verdict tokens), and how many positions were cached."""
    from vllm import SamplingParams

    # A number of its own for every image, by which vLLM tells cached prefixes apart: no two images ever share one.
    names = [str(next(numbers)) for _ in prompts.features]
    asked = [
        {
            "prompt_token_ids": ids.tolist(),
            "multi_modal_data": {"image": [prompts.features[image]]},
            "multi_modal_uuids": {"image": [names[image]]},
        }
        for image, ids in zip(prompts.images, prompts.split(), strict=True)
    ]
    # One style of log-probabilities for all: beside these, vLLM would corrupt the `logprobs=K` of other prompts.
    style = SamplingParams(max_tokens=1, temperature=0, logprob_token_ids=list(verdict), detokenize=False)
    answers = engine.generate(asked, style, use_tqdm=False)
    rows = [answer.outputs[0].logprobs[0] for answer in answers]
    return {
        "logprobs": torch.tensor([[row[token].logprob for token in verdict] for row in rows]),
        "cached": torch.tensor(sum(answer.num_cached_tokens for answer in answers)),
    }


if __name__ == "__main__":
    main(int(sys.argv[1]), EngineSettings(**json.loads(sys.argv[2])))
