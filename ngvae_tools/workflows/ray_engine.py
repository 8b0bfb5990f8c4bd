"""Workers on a Ray cluster: actors that each hold the encoder and the data set, and run whole shards."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ngvae_tools.analysis.blas import one_blas_thread
from ngvae_tools.errors import MissingDependencyError, NgvaeToolsError, OutputError
from ngvae_tools.inference.local import Done
from ngvae_tools.inference.providers import CUDA
from ngvae_tools.inference.shards import ShardResult, run_shard

if TYPE_CHECKING:
    from ngvae_tools.datasets.places import Place
    from ngvae_tools.workflows.encode import EncodeOptions, OpenPass

AHEAD = 2
"""Shards that an actor has in hand, so that it never waits for the next."""


class Encoder:
    """What runs in an actor: the same shard function as on one machine.

    Args:
        model: The encoder file, as every node finds it.
        data: The data set, the same.
        options: How to read both.
        fingerprint: Of the pass; a node that sees other files must not take part.

    Raises:
        OutputError: The node sees another encoder, data set or version.
    """

    def __init__(self, model: Path, data: Place, options: EncodeOptions, fingerprint: str) -> None:
        from ngvae_tools.workflows.encode import open_pass

        self._context = open_pass(model, data, options)
        self._open = self._context.__enter__()
        if self._open.encoding.fingerprint != fingerprint:
            raise OutputError(
                "a Ray node sees another encoder, data set or version",
                expected=f"the fingerprint {fingerprint[:16]}",
                found=self._open.encoding.fingerprint[:16],
                remedy="put the same files at the same paths on all nodes, with the same packages",
            )

    def run(self, number: int) -> ShardResult:
        """The result of a shard."""
        opened = self._open
        plan = opened.encoding.plan
        with one_blas_thread():
            return run_shard(opened.dataset, opened.session, plan, plan.shard(number), opened.encoding.settings)


def run_on_ray(
    opened: OpenPass,
    shards: Sequence[int],
    *,
    keep: Callable[[ShardResult], None],
    on_done: Callable[[Done], None],
) -> None:
    """Run shards on the Ray cluster that is connected or configured (`RAY_ADDRESS`), or on one of this machine.

    Args:
        opened: The pass; without `workers` in its options there is an actor on each processor of the cluster.
        shards: Numbers of the shards to run.
        keep: Called with every finished shard.
        on_done: Called after every shard; what it raises ends the run.

    Raises:
        MissingDependencyError: Ray is not installed.
        OutputError: A node sees other files, or the cluster has lost a worker for good.
    """
    ray = _require_ray()
    ours = not ray.is_initialized()
    if ours:
        ray.init(log_to_driver=False, include_dashboard=False, logging_level="ERROR")
    actors: list[Any] = []
    try:
        count = opened.options.workers or max(int(ray.cluster_resources().get("CPU", 1)), 1)
        # What is called back stays here, and everything else is a value.
        options = dataclasses.replace(opened.options, on_plan=None, on_progress=None, workers=1, engine="local")
        paths = [path.resolve() if isinstance(path, Path) else path for path in (opened.model, opened.data)]
        gpus = 1 if opened.session.provider == CUDA else 0
        remote = ray.remote(num_cpus=1, num_gpus=gpus, max_restarts=2, max_task_retries=2)(Encoder)
        actors = [remote.remote(*paths, options, opened.encoding.fingerprint) for _ in range(min(count, len(shards)))]
        _drive(ray, actors, list(shards), keep=keep, on_done=on_done)
    except ray.exceptions.RayTaskError as error:
        if isinstance(error.cause, NgvaeToolsError):
            raise error.cause from None
        raise
    except (ray.exceptions.RayActorError, ray.exceptions.RayError) as error:
        raise OutputError(
            "the Ray cluster has lost a worker",
            expected="workers that end their shards",
            found=str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__,
            remedy="look at the cluster (ray status); the same command goes on from the shards that are finished",
        ) from error
    finally:
        for actor in actors:
            ray.kill(actor)
        if ours:
            ray.shutdown()


def _drive(
    ray: Any,
    actors: Sequence[Any],
    shards: list[int],
    *,
    keep: Callable[[ShardResult], None],
    on_done: Callable[[Done], None],
) -> None:
    """Hand out shards in order, and take what comes back."""
    left = iter(shards)
    busy: dict[Any, Any] = {}

    def give(actor: Any) -> None:
        number = next(left, None)
        if number is not None:
            busy[actor.run.remote(number)] = actor

    for _ in range(AHEAD):
        for actor in actors:
            give(actor)
    while busy:
        (ready,), _ = ray.wait(list(busy))
        actor = busy.pop(ready)
        result: ShardResult = ray.get(ready)
        give(actor)
        keep(result)
        on_done(Done(result.shard.stop - result.shard.start, result.rejected))


def _require_ray() -> Any:
    try:
        import ray
    except ImportError:
        raise MissingDependencyError(
            "Ray is not installed",
            expected="the package ray, for --engine ray",
            found="none",
            remedy="install it with: pip install 'ngvae-tools[ray]', or leave --engine out",
        ) from None
    return ray
