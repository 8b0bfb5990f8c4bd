"""Opening a model in onnxruntime, and running it within a time limit; what encoders and decoders share."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from ngvae_tools.errors import ContractError
from ngvae_tools.inference.providers import require_onnxruntime, share_bounded_memory
from ngvae_tools.inference.watchdog import RunTooLongError, Watchdog

RUN_SECONDS = 60.0
RUN_FACTOR = 50
"""Seconds that one run may take: a base, and so many times what the trial took for as many images."""

Refusal = Callable[[str, str, str], ContractError]
"""The error of a file that cannot be used, from what was expected, what was found and the remedy."""


class Model:
    """A model that was tried out, open in onnxruntime.

    Args:
        data: The model's bytes.
        providers: Execution providers, in order of preference.
        threads: Threads of the CPU provider.
        seconds_per_image: What the trial took for one image.
        refusal: Makes the error of a file that cannot be used.

    Raises:
        ContractError: onnxruntime cannot open it.
    """

    def __init__(
        self, data: bytes, *, providers: list[Any], threads: int, seconds_per_image: float, refusal: Refusal
    ) -> None:
        self._refusal = refusal
        self._seconds_per_image = seconds_per_image
        self._watchdog = Watchdog()
        onnxruntime = require_onnxruntime()
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.log_severity_level = 4
        if share_bounded_memory():
            options.add_session_config_entry("session.use_env_allocators", "1")
        try:
            self._session = onnxruntime.InferenceSession(data, options, providers=providers)
        except Exception as error:  # noqa: BLE001 - onnxruntime's exceptions share no public base
            raise refusal("an ONNX model that onnxruntime can run", _first_line(error), "export it again") from None

    @property
    def provider(self) -> str:
        """The execution provider that runs it."""
        return str(self._session.get_providers()[0])

    def run(
        self,
        outputs: Sequence[str],
        name: str,
        fed: npt.NDArray[Any],
        *,
        what: str,
        remedies: tuple[str, str],
    ) -> list[npt.NDArray[Any]]:
        """The outputs for what is fed to the input `name`.

        Args:
            outputs: Names of the outputs.
            name: Name of the input.
            fed: As the graph takes it, the batch on axis 0.
            what: What is fed, for errors: images or latents.
            remedies: What to do where a run does not end, and where it fails.

        Raises:
            ContractError: The run fails, or does not end in time.
        """
        seconds = RUN_SECONDS + RUN_FACTOR * self._seconds_per_image * len(fed)
        try:
            with self._watchdog.limit(seconds) as options:
                return list(self._session.run(list(outputs), {name: fed}, options))
        except RunTooLongError:
            expected = f"a run of {len(fed)} {what} within {seconds:.0f} s"
            raise self._refusal(expected, "one that did not end", remedies[0]) from None
        except Exception as error:  # noqa: BLE001 - onnxruntime's exceptions share no public base
            raise self._refusal("a graph that runs", _first_line(error), remedies[1]) from None


def filled(batch: npt.NDArray[Any], fixed: int | None) -> npt.NDArray[Any]:
    """A batch as a graph of a fixed one takes it: its last entry repeated."""
    missing = 0 if fixed is None else fixed - len(batch)
    return np.concatenate([batch, np.repeat(batch[-1:], missing, axis=0)]) if missing > 0 else batch


def _first_line(error: Exception) -> str:
    text = str(error).strip().splitlines()
    return text[0][:200] if text else type(error).__name__
