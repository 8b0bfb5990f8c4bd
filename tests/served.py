"""The explorer in a process of its own, and something for it to show."""

import contextlib
import http.client
import io
import json
import signal
import subprocess
import sys
from urllib.parse import parse_qs, urlsplit

import numpy as np
from inference.decoders import LinearDecoder
from inference.graphs import Linear, images_of
from PIL import Image

from ngvae_tools import select_latents

DIMENSIONS = (0, 2)


class Served:
    """`ngvae-tools explore` with these words; `ask` sends what its own page would send, unless told otherwise."""

    def __init__(self, *words, folder):
        # A process that is started from a background job would inherit that it ignores interrupts.
        before = signal.signal(signal.SIGINT, signal.default_int_handler)
        try:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "ngvae_tools", "explore", *map(str, words)],
                cwd=folder,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
            )
        finally:
            signal.signal(signal.SIGINT, before)
        self.url = self.process.stdout.readline().strip()
        if not self.url:
            raise RuntimeError(self.process.communicate()[1])
        parts = urlsplit(self.url)
        self.port, self.token = parts.port, parse_qs(parts.query)["token"][0]
        self.host = f"{parts.hostname}:{parts.port}"

    def __enter__(self):
        return self

    def __exit__(self, *exception):
        self.process.kill()
        self.process.communicate()

    def request(self, method, path, body=None, **headers):
        """Status, headers and body; a header of None is left out."""
        own = {"Host": self.host, "X-Ngvae-Token": self.token, "Origin": f"http://{self.host}"}
        with contextlib.closing(http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)) as connection:
            connection.putrequest(method, path, skip_host=True, skip_accept_encoding=True)
            given = own | {name.replace("_", "-"): value for name, value in headers.items()}
            if body is not None:
                given.setdefault("Content-Length", str(len(body)))
            for name, value in given.items():
                for one in value if isinstance(value, list) else [value]:
                    if one is not None:
                        connection.putheader(name, one)
            connection.endheaders(body)
            answer = connection.getresponse()
            return answer.status, answer.headers, answer.read()

    def ask(self, question, body=None, **headers):
        """Status and answer of a question of the page's script: JSON as it is, bytes of an image."""
        sent = body if isinstance(body, bytes) else json.dumps(body if body is not None else {}).encode()
        status, found, content = self.request("POST", f"/api/{question}", sent, **headers)
        return status, json.loads(content) if found["Content-Type"] == "application/json" else content

    def end(self, number=signal.SIGINT):
        """Interrupt it: exit code and what it wrote."""
        self.process.send_signal(number)
        out, err = self.process.communicate(timeout=30)
        return self.process.returncode, out, err


def write_analysis(folder, *, count=40, name="{:02}.png", decoder=None):
    """An encoder, its images, a decoder and the analysis of them in `folder`; the images (N, H, W, C)."""
    images = images_of(count)
    Linear().save(folder / "encoder.onnx")
    decoder = decoder or LinearDecoder((0.5, 0.25, 0.125), images.shape[1:])
    decoder.save(folder / "decoder.onnx")
    (folder / "images").mkdir()
    for number, image in enumerate(images):
        Image.fromarray(image).save(folder / "images" / name.format(number))
    select_latents(
        folder / "encoder.onnx",
        folder / "images",
        folder / "out",
        dimensions=list(DIMENSIONS),
        decoder=folder / "decoder.onnx",
    )
    return images


def pixels(content):
    """The pixels (H, W, C) of a PNG."""
    return np.asarray(Image.open(io.BytesIO(content)))
