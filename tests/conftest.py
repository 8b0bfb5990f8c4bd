import contextlib
import functools
import importlib.util
import io
import os
import signal
import subprocess
import sys
import threading
import warnings
from pathlib import Path

import chromium
import h5py
import numpy as np
import pytest
from PIL import Image

from ngvae_tools.datasets import write_sprites

# Settings of size and colour, which must not decide what a test sees.
_OF_THE_USER = ("COLUMNS", "LINES", "FORCE_COLOR")


class CommandLine:
    """`python -m ngvae_tools` in a process of its own, in a folder of its own."""

    def __init__(self, folder, **environment):
        self.folder = folder
        self.environment = environment

    def start(self, *words, **options):
        own = {name: value for name, value in os.environ.items() if name not in _OF_THE_USER}
        with _default_interrupt():
            return subprocess.Popen(
                [sys.executable, "-m", "ngvae_tools", *map(str, words)],
                **{
                    "cwd": self.folder,
                    "env": own | {name: str(value) for name, value in self.environment.items()},
                    "stdin": subprocess.DEVNULL,
                    "stdout": subprocess.PIPE,
                    "stderr": subprocess.PIPE,
                    "text": True,
                    "errors": "surrogateescape",
                }
                | options,
            )

    def __call__(self, *words, timeout=120, **options):
        """Run to the end: exit code, stdout, stderr."""
        with self.start(*words, **options) as process:
            try:
                out, err = process.communicate(timeout=timeout)
            except BaseException:
                process.kill()
                raise
        return subprocess.CompletedProcess(words, process.returncode, out, err)

    def under(self, **environment):
        """The same with more environment variables."""
        return CommandLine(self.folder, **self.environment | environment)


class Commands:
    """The same commands in this process, whose libraries are loaded, where nothing hangs on a process of its own."""

    def __init__(self, folder):
        self.folder = folder

    def __call__(self, *words):
        """Run to the end: exit code, stdout, stderr."""
        out, err = (io.TextIOWrapper(io.BytesIO(), encoding="utf-8", write_through=True) for _ in range(2))
        argv = list(map(str, words))
        with (
            contextlib.chdir(self.folder),
            contextlib.redirect_stdout(out),
            contextlib.redirect_stderr(err),
            warnings.catch_warnings(),
            pytest.MonkeyPatch.context() as patch,
        ):
            warnings.simplefilter("default")
            patch.setattr(sys, "argv", ["ngvae-tools", *argv])
            for name in _OF_THE_USER:
                patch.delenv(name, raising=False)
            code = self._run(argv)
        return subprocess.CompletedProcess(words, code, *(text.buffer.getvalue().decode() for text in (out, err)))

    def _run(self, argv):
        from ngvae_tools.cli import app, terminal

        handlers = set(terminal.logger.handlers)
        try:
            app.app(argv)
        except SystemExit as ended:
            return ended.code or 0
        finally:
            for handler in set(terminal.logger.handlers) - handlers:
                terminal.logger.removeHandler(handler)
                handler.close()


@contextlib.contextmanager
def _default_interrupt():
    """A process that is started from a background job would inherit that it ignores interrupts."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


HOOK = """
import atexit, os, sys

class Refuse:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in os.environ["REFUSED"].split():
            with open(os.environ["ATTEMPTS"], "a") as file:
                print(name, file=file)
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

def leave():
    with open(os.environ["LOADED"], "w") as file:
        print(*sys.modules, sep="\\n", file=file)

sys.meta_path.insert(0, Refuse())
atexit.register(leave)
"""


class Watch:
    """A command line in whose processes some imports fail; it knows what was attempted and what was loaded."""

    def __init__(self, folder, command_line, refused):
        folder.mkdir()
        (folder / "sitecustomize.py").write_text(HOOK)
        self._attempts, self._loaded = folder / "attempts", folder / "loaded"
        self.run = command_line.under(
            PYTHONPATH=folder, REFUSED=" ".join(refused), ATTEMPTS=self._attempts, LOADED=self._loaded
        )

    @property
    def attempts(self):
        return self._attempts.read_text().split() if self._attempts.exists() else []

    @property
    def loaded(self):
        """Top-level names of the modules that the last process had loaded when it ended."""
        return {name.partition(".")[0] for name in self._loaded.read_text().split()}


@pytest.fixture(scope="session", autouse=True)
def operators_of_onnxscript():
    """Read once a session: torch reads the source of all of them at each export, for half a second."""
    name = "onnxscript._framework_apis.torch_2_11"
    if importlib.util.find_spec(name) is None:
        yield
        return
    exporting = importlib.import_module(name)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(exporting, "get_torchlib_ops", functools.cache(exporting.get_torchlib_ops))
        yield


@pytest.fixture
def command_line(tmp_path):
    return CommandLine(tmp_path)


@pytest.fixture
def commands(tmp_path):
    return Commands(tmp_path)


@pytest.fixture(scope="session")
def commands_in():
    """A function that makes the same for a folder."""
    return Commands


@pytest.fixture
def watch(tmp_path, command_line):
    return lambda *refused: Watch(tmp_path / f"watch-{len(refused)}", command_line, refused)


@pytest.fixture(scope="session")
def sprites(tmp_path_factory):
    """200 sprites of 32x32 as HDF5."""
    path = tmp_path_factory.mktemp("data") / "sprites.h5"
    write_sprites(path, images=200, size=32)
    return path


@pytest.fixture(scope="session")
def sprite_folder(sprites):
    """The same sprites as PNG files."""
    with h5py.File(sprites) as file:
        return write_pngs(sprites.with_suffix(""), file["images"][:])


@pytest.fixture(scope="session")
def run(sprites, tmp_path_factory):
    """A training of one epoch."""
    from ngvae_tools import train

    return train(sprites, tmp_path_factory.mktemp("runs") / "run-sprites", epochs=1, latent_dim=6, device="cpu")


def write_pngs(folder, images):
    folder.mkdir(parents=True, exist_ok=True)
    for index, image in enumerate(np.asarray(images)):
        Image.fromarray(image[:, :, 0] if image.shape[2] == 1 else image).save(folder / f"{index:05d}.png")
    return folder


def write_h5(path, images, **options):
    with h5py.File(path, "w") as file:
        file.create_dataset("images", data=images, **options)
    return path


@pytest.fixture
def as_pngs():
    return write_pngs


@pytest.fixture
def as_h5():
    return write_h5


@pytest.fixture
def small_disk(tmp_path):
    """A function that makes a folder on a disk of its own of so many KiB."""
    mounted: list[Path] = []

    def make(kilobytes, *, read_only=False):
        folder = tmp_path / f"disk{len(mounted)}"
        folder.mkdir()
        how = f"size={kilobytes}k" + (",ro" if read_only else "")
        found = subprocess.run(
            ["mount", "-t", "tmpfs", "-o", how, "none", folder], check=False, capture_output=True, text=True
        )
        if found.returncode:
            pytest.skip(f"mounting a small disk is not allowed here: {found.stderr.strip()}")
        mounted.append(folder)
        return folder

    try:
        yield make
    finally:
        for folder in mounted:
            subprocess.run(["umount", folder], check=True)


def files_below(folder):
    """Relative paths of all files below a folder, and of empty folders with a slash."""
    return sorted(
        str(path.relative_to(folder)) + ("/" if path.is_dir() else "")
        for path in Path(folder).rglob("*")
        if path.is_file() or not any(path.iterdir())
    )


@pytest.fixture(scope="module")
def browser():
    """Chromium without a window; of one module, for its loop must not run in tests that have their own."""
    playwright = pytest.importorskip("playwright.sync_api", reason="pip install --group peers has playwright")
    try:
        path = chromium.executable()
    except RuntimeError as error:
        pytest.fail(str(error))
    with playwright.sync_playwright() as running:
        # Root, as in a container, may use no sandbox; the pages are our own.
        found = running.chromium.launch(executable_path=path, args=["--no-sandbox"])
        yield found
        found.close()


@pytest.fixture
def listed():
    return files_below
