"""Print how long one move of a slider of the explorer takes, from the question to the whole image, on this machine.

A decoder of the project's own networks is exported untrained: what it computes does not change how long it takes.
"""

import contextlib
import http.client
import json
import statistics
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from served import Served

from ngvae_tools import select_latents, train
from ngvae_tools.datasets import write_sprites

MOVES = 500


def main() -> None:
    for size in (32, 64, 128):
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            write_sprites(folder / "sprites.h5", images=100, size=size)
            train(folder / "sprites.h5", folder / "run", epochs=1, device="cpu")
            models = {kind: folder / f"run/{kind}.onnx" for kind in ("encoder", "decoder")}
            select_latents(
                models["encoder"], folder / "sprites.h5", folder / "out", dimensions=[0, 1], decoder=models["decoder"]
            )
            with Served("out", folder=folder) as server:
                moves, points = (moved(server, question) for question in ("decode", "point"))
        print(f"{size} x {size}: a slider {moves}, a point {points}")


def moved(server: Served, question: str) -> str:
    latents = server.ask("about")[1]["start"]
    headers = {"X-Ngvae-Token": server.token, "Origin": f"http://{server.host}"}
    seconds = []
    with contextlib.closing(http.client.HTTPConnection("127.0.0.1", server.port)) as connection:
        for number in range(MOVES):
            body = {"z": [number / MOVES, *latents[1:]]} if question == "decode" else {"row": number % 100}
            start = time.perf_counter()
            connection.request("POST", f"/api/{question}", json.dumps(body), headers)
            answer = connection.getresponse()
            assert answer.read()
            seconds.append(time.perf_counter() - start)
            assert answer.status == 200
    return f"{1e3 * statistics.median(seconds):.1f} ms (95 %: below {1e3 * sorted(seconds)[int(0.95 * MOVES)]:.1f})"


if __name__ == "__main__":
    main()
