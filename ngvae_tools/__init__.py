"""ngvae-tools: which latent dimensions of a trained variational auto-encoder carry information.

`select_latents` analyses an encoder over a data set, `train` makes one, `report` reads what they wrote; `inspect` says
what an ONNX file is, `compare` whether two data sets differ, and `prune` cuts a model down to a selection.
`open_latents` reads the latents that were kept, `export_latents` writes them for other programs, and `similar` finds
images that are near each other in them; `append_latents` and `merge_latents` make larger files of them.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ngvae_tools.latents.reader import open_latents
    from ngvae_tools.workflows.benchmark import benchmark
    from ngvae_tools.workflows.combining import append_latents, merge_latents
    from ngvae_tools.workflows.compare import compare
    from ngvae_tools.workflows.describe_latents import describe_latents, verify_latents
    from ngvae_tools.workflows.export_latents import export_latents
    from ngvae_tools.workflows.inspect import inspect
    from ngvae_tools.workflows.merge import encode_part, merge
    from ngvae_tools.workflows.prune import prune
    from ngvae_tools.workflows.reconstruct import reconstruct
    from ngvae_tools.workflows.report import report
    from ngvae_tools.workflows.select import select_latents
    from ngvae_tools.workflows.similar import index_latents, similar
    from ngvae_tools.workflows.sweep import sweep
    from ngvae_tools.workflows.train import train

__version__ = "0.1.0"

__all__ = [
    "__version__",
    "append_latents",
    "benchmark",
    "compare",
    "describe_latents",
    "encode_part",
    "export_latents",
    "index_latents",
    "inspect",
    "merge",
    "merge_latents",
    "open_latents",
    "prune",
    "reconstruct",
    "report",
    "select_latents",
    "similar",
    "sweep",
    "train",
    "verify_latents",
]

_PLACES = {name: f"workflows.{name}" for name in __all__[1:]} | {
    "select_latents": "workflows.select",
    "encode_part": "workflows.merge",
    "append_latents": "workflows.combining",
    "merge_latents": "workflows.combining",
    "index_latents": "workflows.similar",
    "verify_latents": "workflows.describe_latents",
    "open_latents": "latents.reader",
}


def __dir__() -> list[str]:
    return __all__


def __getattr__(name: str) -> Any:
    # Loaded when asked for: `import ngvae_tools` alone needs neither onnxruntime nor torch.
    if name in _PLACES:
        return getattr(importlib.import_module(f"ngvae_tools.{_PLACES[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
