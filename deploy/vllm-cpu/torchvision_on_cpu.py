"""Makes torchvision's CUDA build importable beside a CPU build of torch.

vLLM imports torchvision, whose compiled operators cannot load here; importing it ends where it describes one of them
further. That wants their signatures only, which are given just before; nothing in the tests calls an operator.
"""

import importlib.abc
import sys
from typing import Any

_BOXES = "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor"
_kept: list[Any] = []  # signatures live as long as the library that gave them


class _BeforeTorchvision(importlib.abc.MetaPathFinder):
    def find_spec(self, fullname: str, path: object = None, target: object = None) -> None:
        if fullname == "torchvision":
            sys.meta_path.remove(self)
            _give_signatures()


def _give_signatures() -> None:
    import torch

    library = torch.library.Library("torchvision", "FRAGMENT")
    for operator in ("nms", "qnms"):
        if not hasattr(torch.ops.torchvision, operator):
            library.define(operator + _BOXES)
    _kept.append(library)


sys.meta_path.insert(0, _BeforeTorchvision())
