"""Opening a model in onnxruntime, and running it within a time limit; what encoders and decoders share."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from ngvae_tools.errors import ContractError
from ngvae_tools.inference.providers import (
    CPU,
    ProviderChoice,
    require_onnxruntime,
    session_options,
    share_bounded_memory,
)
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
        choice: Execution providers to ask for.
        threads: Threads of the CPU provider.
        seconds_per_image: What the trial took for one image.
        refusal: Makes the error of a file that cannot be used.

    Raises:
        ContractError: onnxruntime cannot open it.
    """

    def __init__(
        self, data: bytes, *, choice: ProviderChoice, threads: int, seconds_per_image: float, refusal: Refusal
    ) -> None:
        self._refusal = refusal
        self._seconds_per_image = seconds_per_image
        self._watchdog = Watchdog()
        onnxruntime = require_onnxruntime()
        options = session_options(threads)
        if share_bounded_memory():
            options.add_session_config_entry("session.use_env_allocators", "1")
        try:
            if choice.plugins:
                options.add_provider_for_devices(list(choice.plugins), {})
                self._session = onnxruntime.InferenceSession(data, options)
            else:
                self._session = onnxruntime.InferenceSession(data, options, providers=list(choice.providers))
        except Exception as error:  # noqa: BLE001 - onnxruntime's exceptions share no public base
            raise refusal("an ONNX model that onnxruntime can run", _first_line(error), "export it again") from None

        self.device = "cpu" if self.provider == CPU else "cuda"
        # On a GPU one run after the other, which the buffers of one batch serve; meanwhile other threads decode.
        self._bound = None if self.device == "cpu" else BoundSession(self._session, self.device)

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
                if self._bound is not None:
                    return self._bound.run(outputs, name, fed, options)
                return list(self._session.run(list(outputs), {name: fed}, options))
        except RunTooLongError:
            expected = f"a run of {len(fed)} {what} within {seconds:.0f} s"
            raise self._refusal(expected, "one that did not end", remedies[0]) from None
        except Exception as error:  # noqa: BLE001 - onnxruntime's exceptions share no public base
            raise self._refusal("a graph that runs", _first_line(error), remedies[1]) from None


class BoundSession:
    """Runs with buffers on the device that are made once for each shape of batch, one run at a time.

    Args:
        session: The session.
        device: onnxruntime's name of the device that the input lies on.
    """

    def __init__(self, session: Any, device: str) -> None:
        self._session = session
        self._device = device
        self._lock = threading.Lock()
        self._inputs: dict[tuple[str, tuple[int, ...], str], Any] = {}

    def run(
        self, outputs: Sequence[str], name: str, fed: npt.NDArray[Any], options: Any = None
    ) -> list[npt.NDArray[Any]]:
        """The outputs, copied to the host."""
        fed = np.ascontiguousarray(fed)
        with self._lock:
            key = (name, fed.shape, fed.dtype.str)
            if key in self._inputs:
                self._inputs[key].update_inplace(fed)
            else:
                value = require_onnxruntime().OrtValue
                self._inputs[key] = value.ortvalue_from_numpy(fed, self._device, 0)
            binding = self._session.io_binding()
            binding.bind_ortvalue_input(name, self._inputs[key])
            for output in outputs:
                binding.bind_output(output, self._device, 0)
            self._session.run_with_iobinding(binding, options)
            return list(binding.copy_outputs_to_cpu())


def filled(batch: npt.NDArray[Any], fixed: int | None) -> npt.NDArray[Any]:
    """A batch as a graph of a fixed one takes it: its last entry repeated."""
    missing = 0 if fixed is None else fixed - len(batch)
    return np.concatenate([batch, np.repeat(batch[-1:], missing, axis=0)]) if missing > 0 else batch


def _first_line(error: Exception) -> str:
    text = str(error).strip().splitlines()
    return text[0][:200] if text else type(error).__name__
