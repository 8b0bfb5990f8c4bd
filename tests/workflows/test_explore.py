import base64
import contextlib
import http.client
import json
import math
import os
import shutil
import signal
import socket
import time
from concurrent.futures import ThreadPoolExecutor

import bad_files
import latent_files
import numpy as np
import pytest
from inference.decoders import LinearDecoder
from inference.graphs import Linear, images_of, nodes, write
from PIL import Image
from served import DIMENSIONS, Served, pixels, write_analysis

from ngvae_tools import open_latents, select_latents
from ngvae_tools.errors import ContractError, DatasetError, OptionError, UnknownIdentifierError
from ngvae_tools.inference.decoder import DecoderSession
from ngvae_tools.latents.reader import LatentFile
from ngvae_tools.record import AnalysisRecord
from ngvae_tools.workflows.explore.opening import open_explorer
from ngvae_tools.workflows.image_files import to_bytes


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """40 images, encoder, decoder and the analysis of them."""
    folder = tmp_path_factory.mktemp("explore")
    write_analysis(folder)
    return folder


@pytest.fixture(scope="module")
def served(folder):
    with Served("out", folder=folder) as server:
        yield server


@pytest.fixture(scope="module")
def decoder(folder):
    return DecoderSession(folder / "decoder.onnx")


@pytest.fixture
def spread(tmp_path):
    """A latent file of columns 1 and 3 of 5 with a decoder, without a record."""
    values = np.random.default_rng(3).normal(0, 1, (40, 2))
    latent_files.write(tmp_path / "latents.h5", values, latent_files.names_of(40, "paths"))
    LinearDecoder((0.5, 0.25, 0.125, 0.5, 0.25)).save(tmp_path / "decoder.onnx")
    return tmp_path


def of_url(text):
    head, _, content = text.partition(",")
    assert head == "data:image/png;base64"
    return pixels(base64.b64decode(content))


class TestAnswers:
    def test_the_page_and_its_files(self, served):
        for path, kind, part in (
            ("/", "text/html; charset=utf-8", f'content="{served.token}"'),
            ("/explorer.js", "text/javascript; charset=utf-8", "class Explorer"),
            ("/explorer.css", "text/css; charset=utf-8", "color-scheme"),
        ):
            status, headers, content = served.request("GET", f"{path}?token={served.token}", X_Ngvae_Token=None)
            assert (status, headers["Content-Type"]) == (200, kind)
            assert part in content.decode()

    def test_an_image_is_what_the_decoder_makes(self, served, decoder):
        z = [0.3, -1.5, 2.25]
        status, content = served.ask("decode", {"z": z})
        assert status == 200
        np.testing.assert_array_equal(pixels(content), to_bytes(decoder.decode(np.array([z])))[0])

    def test_a_point_is_an_image_of_the_file(self, served, folder, decoder):
        status, shown = served.ask("point", {"row": 7})
        assert status == 200
        with open_latents(folder / "out") as file:
            z = file.header.origin.fill.copy()
            z[list(DIMENSIONS)] = file[7]
        np.testing.assert_allclose(shown["z"], z)
        assert (shown["row"], shown["name"]) == (7, "07.png")
        original = np.asarray(Image.open(folder / "images/07.png"))
        decoded = decoder.decode(z[None])[0]
        np.testing.assert_array_equal(of_url(shown["original"]), original)
        np.testing.assert_array_equal(of_url(shown["decoded"]), to_bytes(decoded))
        assert shown["error"] == pytest.approx(((original / 255 - decoded.clip(0, 1)) ** 2).mean(), rel=1e-4)
        assert served.ask("point", {"id": "07.png"}) == (200, shown)
        assert served.ask("point", {"id": "../07.png"})[0] == 422

    def test_a_point_lies_where_the_map_has_it(self, served):
        chart = served.ask("about")[1]["map"]
        assert chart["rows"] == list(range(40))
        assert chart["names"][7] == "07.png"
        shown = served.ask("point", {"row": 7})[1]
        np.testing.assert_allclose(shown["place"], chart["places"][7], rtol=1e-5)
        # As the page finds the place of its sliders.
        kept = np.array(shown["z"])[list(DIMENSIONS)]
        np.testing.assert_allclose((kept - chart["centre"]) @ np.array(chart["axes"]), shown["place"], rtol=1e-6)

    def test_an_image_is_encoded_as_those_of_the_file_were(self, served, folder):
        for number in (3, 20):
            data = (folder / f"images/{number:02}.png").read_bytes()
            status, shown = served.ask("encode", data)
            known = served.ask("point", {"row": number})[1]
            with LatentFile(folder / "out", dtype=np.float64) as file:
                largest = file.header.max_error
            assert status == 200
            assert (shown["row"], shown["original"]) == (None, known["original"])
            off = np.abs(np.array(shown["z"]) - known["z"])[list(DIMENSIONS)]
            assert (off <= largest + 1e-6).all()
            assert off.max() > 0

    def test_a_new_image_has_the_latents_of_its_encoder(self, served, tmp_path):
        image = images_of(1, seed=5)[0]
        Image.fromarray(image).save(tmp_path / "new.png")
        shown = served.ask("encode", (tmp_path / "new.png").read_bytes())[1]
        mu = Linear().heads(image[None])[0][0]
        np.testing.assert_allclose(np.array(shown["z"])[list(DIMENSIONS)], mu[list(DIMENSIONS)], rtol=1e-6)
        np.testing.assert_array_equal(of_url(shown["original"]), image)

    def test_many_at_once(self, served, decoder):
        latents = np.random.default_rng(0).normal(size=(60, 3))

        def ask(z):
            status, content = served.ask("decode", {"z": z.tolist()})
            assert status == 200
            return pixels(content)

        with ThreadPoolExecutor(12) as pool:
            found = list(pool.map(ask, latents))
        np.testing.assert_array_equal(found, to_bytes(decoder.decode(latents)))

    def test_moving_a_slider_is_quick(self, served):
        body, seconds = json.dumps({"z": [0, 0, 0]}), []
        headers = {"X-Ngvae-Token": served.token, "Origin": f"http://{served.host}"}
        with contextlib.closing(http.client.HTTPConnection("127.0.0.1", served.port, timeout=60)) as connection:
            for _ in range(40):
                start = time.perf_counter()
                connection.request("POST", "/api/decode", body, headers)
                assert connection.getresponse().read()
                seconds.append(time.perf_counter() - start)
        # Answers that waited for the acknowledgment of their head would take 40 ms each.
        assert sorted(seconds)[10] < 0.03

    def test_sliders_tell_what_the_record_says(self, served, folder):
        about = served.ask("about")[1]
        record = AnalysisRecord.read(folder / "out")
        assert about["headline"].startswith("2 of 3 dimensions")
        assert [slider["dimension"] for slider in about["sliders"]] == [0, 2, 1]
        assert [slider["informative"] for slider in about["sliders"]] == [True, True, False]
        with open_latents(folder / "out") as file:
            values = file.to_numpy()
        for slider in about["sliders"]:
            row = record.dimensions[slider["dimension"]]
            assert slider["information"] == row.information
            assert slider["step"] == pytest.approx(math.sqrt(row.posterior_variance))
            if slider["informative"]:
                column = values[:, DIMENSIONS.index(slider["dimension"])].astype(float)
                ends = np.quantile(column, [0.01, 0.99]) + np.array([-1, 1]) * slider["step"]
            else:
                reach = 3 * math.sqrt(row.posterior_variance)
                ends = np.array([row.mu_mean - reach, row.mu_mean + reach])
            np.testing.assert_allclose([slider["low"], slider["high"]], ends, rtol=1e-6)


class TestWhoMayAsk:
    def test_nobody_without_the_token(self, served):
        for path in ("/", "/explorer.js", "/explorer.css", "/nothing", "/api/about", f"/?token={served.token[:-1]}x"):
            for given in (None, "", "x" * 43, served.token[:-1], served.token + "x"):
                status, headers, content = served.request("GET", path, X_Ngvae_Token=given)
                assert (status, headers["Content-Type"]) == (403, "application/json")
                assert "token" in json.loads(content)["error"]
        assert served.ask("decode", {"z": [0, 0, 0]}, X_Ngvae_Token=None)[0] == 403
        cookie = f"token={served.token}; x-ngvae-token={served.token}"
        assert served.request("GET", "/", X_Ngvae_Token=None, Cookie=cookie)[0] == 403

    def test_the_token_is_long_and_another_each_time(self, served, folder):
        with Served("out", folder=folder) as other:
            assert len(served.token) >= 43
            assert other.token != served.token
            assert other.ask("about", X_Ngvae_Token=served.token)[0] == 403

    def test_not_under_another_name(self, served):
        port = served.port
        foreign = ["evil.example", f"evil.example:{port}", f"127.0.0.1.evil.example:{port}", "127.0.0.1", "localhost"]
        foreign += [f"127.0.0.1:{port + 1}", f"localhost:{port}x", "", None, [f"localhost:{port}", "evil.example"]]
        for host in foreign:
            # Some the server itself refuses as no valid request.
            assert served.request("GET", "/", Host=host)[0] in {400, 421}, host
        assert served.request("GET", "/", Host=f"evil.example:{port}")[0] == 421
        assert served.request("GET", "/", Host=f"localhost:{port}")[0] == 200

    def test_not_from_another_page(self, served):
        foreign = [
            "http://evil.example",
            "null",
            f"https://{served.host}",
            "http://127.0.0.1",
            "http://localhost:1",
            None,
        ]
        foreign += [[f"http://{served.host}", "http://evil.example"]]
        for origin in foreign:
            status, answer = served.ask("decode", {"z": [0, 0, 0]}, Origin=origin)
            assert status == 403, origin
            assert "its own page" in answer["error"]
        assert served.request("GET", "/", Origin="http://evil.example")[0] == 403
        assert served.request("GET", "/", Origin=None)[0] == 200
        assert served.ask("decode", {"z": [0, 0, 0]}, Origin=f"http://localhost:{served.port}")[0] == 200

    def test_only_this_machine(self, served):
        # A server that listens everywhere would answer here too.
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(("127.0.0.2", served.port), timeout=5)

    def test_every_answer_is_locked_down(self, served):
        answers = [
            served.request("GET", "/"),
            served.request("GET", "/nothing"),
            served.request("GET", "/", X_Ngvae_Token=None),
            served.request("POST", "/api/decode", b"{}"),
            served.request("PUT", "/api/decode", b"{}"),
        ]
        assert [status for status, _, _ in answers] == [200, 404, 403, 400, 405]
        for _, headers, _ in answers:
            policy = headers["Content-Security-Policy"].split("; ")
            assert {"default-src 'none'", "script-src 'self'", "style-src 'self'", "frame-ancestors 'none'"} <= set(
                policy
            )
            assert "unsafe" not in headers["Content-Security-Policy"]
            assert headers["X-Content-Type-Options"] == "nosniff"
            assert headers["Referrer-Policy"] == "no-referrer"
            assert headers["Cache-Control"] == "no-store"
            assert "Access-Control-Allow-Origin" not in headers
            assert "Set-Cookie" not in headers

    def test_no_other_file_is_given_out(self, served):
        ways = [
            "/explorer.py",
            "/page.html.jinja",
            "/../app.py",
            "/%2e%2e/app.py",
            "/..%2fapp.py",
            "/explorer.js/../app.py",
        ]
        ways += ["//etc/passwd", "/etc/passwd", "/%00", "/explorer.js%00", "/static/../../../../etc/passwd"]
        for path in ways:
            assert served.request("GET", path)[0] == 404, path


class TestBadQuestions:
    @pytest.mark.parametrize(
        "z",
        [
            [],
            [0, 0],
            [0, 0, 0, 0],
            [0, 0, "x"],
            [0, 0, None],
            [math.nan, 0, 0],
            [math.inf, 0, 0],
            [[0], 0, 0],
            5,
            "000",
            [True] * 3,
            [10**400, 0, 0],
        ],
    )
    def test_latents_that_are_none(self, served, z):
        status, answer = served.ask("decode", {"z": z})
        assert status == 422
        assert "expected 3 finite numbers" in answer["error"]

    @pytest.mark.parametrize(
        "body", [b"", b"[]", b"nonsense", b"\xff", b"{}", b"[" * 100_000, b'{"row": 1.5}', b'{"row": true}']
    )
    def test_questions_that_are_none(self, served, body):
        for question in ("decode", "point"):
            status, answer = served.ask(question, body)
            assert status == 400
            assert answer["error"].endswith(".")

    def test_images_that_are_not_there(self, served):
        for question in ({"row": 40}, {"row": -1}, {"row": 10**30}, {"id": "nope"}, {"id": ""}, {"id": "\ud800"}):
            status, answer = served.ask("point", question)
            assert status == 422
            assert "there is no" in answer["error"]
        assert r"\ud800" in answer["error"]

    def test_files_that_are_no_image_for_this_encoder(self, served, folder):
        whole = (folder / "images/00.png").read_bytes()
        large = bad_files.encoded(np.zeros((9, 9, 3), np.uint8), "PNG")
        for data, reason in (
            (b"", "0 bytes"),
            (b"text", "not an image"),
            (whole[: len(whole) // 2], "decoded"),
            (large, "height 9"),
            (bad_files.bomb_png(60_000, 60_000), "pixels"),
            (bad_files.bomb_png(10_000, 10_000), "pixels"),
        ):
            start = time.perf_counter()
            status, answer = served.ask("encode", data)
            assert time.perf_counter() - start < 5
            assert status == 422
            assert answer["error"].startswith("the image cannot be encoded: expected an image as the encoder takes it")
            assert reason in answer["error"]
        assert served.ask("encode", whole)[0] == 200

    def test_a_file_that_is_too_large_is_not_read(self, served):
        with socket.create_connection(("127.0.0.1", served.port), timeout=10) as connection:
            head = f"POST /api/encode HTTP/1.1\r\nHost: {served.host}\r\nOrigin: http://{served.host}\r\n"
            head += f"X-Ngvae-Token: {served.token}\r\nContent-Length: {2**26 + 1}\r\n\r\n"
            connection.sendall(head.encode())
            assert connection.recv(1 << 16).startswith(b"HTTP/1.1 413 ")

    def test_a_question_that_never_ends_is_cut_off(self, served):
        with socket.create_connection(("127.0.0.1", served.port), timeout=30) as connection:
            head = f"POST /api/decode HTTP/1.1\r\nHost: {served.host}\r\nOrigin: http://{served.host}\r\n"
            head += f"X-Ngvae-Token: {served.token}\r\nTransfer-Encoding: chunked\r\n\r\n"
            connection.sendall(head.encode())
            piece = b"10000\r\n" + b" " * 65536 + b"\r\n"
            for _ in range(17):
                connection.sendall(piece)
            assert connection.recv(1 << 16).startswith(b"HTTP/1.1 413 ")


class TestTheProcess:
    @pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
    def test_an_interrupt_ends_it_and_nothing_was_written(self, folder, listed, number):
        before = listed(folder)
        with Served("out", folder=folder) as server, socket.create_connection(("127.0.0.1", server.port)) as idle:
            assert server.ask("point", {"row": 1})[0] == 200
            idle.sendall(b"GET / HTTP/1.1\r\n")  # a browser that keeps its connection
            start = time.perf_counter()
            code, out, err = server.end(number)
            assert time.perf_counter() - start < 10
        assert (code, out) == (130, "")
        assert err.endswith("\nInterrupted: the explorer has ended; it wrote nothing.\n")
        assert "Traceback" not in err
        assert server.token not in err
        assert listed(folder) == before

    def test_a_browser_opens_when_asked(self, folder, tmp_path, monkeypatch):
        browser = tmp_path / "browser"
        browser.write_text(f'#!/bin/sh\necho "$@" > {tmp_path}/part && mv {tmp_path}/part {tmp_path}/opened\n')
        browser.chmod(0o755)
        monkeypatch.setenv("BROWSER", f"{browser} %s")
        with Served("out", folder=folder) as server:
            assert server.ask("about")[0] == 200
            assert not (tmp_path / "opened").exists()
        with Served("out", "--open", folder=folder) as server:
            deadline = time.perf_counter() + 20
            while not (tmp_path / "opened").exists() and time.perf_counter() < deadline:
                time.sleep(0.05)
            assert (tmp_path / "opened").read_text().strip() == server.url

    def test_a_browser_that_goes_away_changes_nothing(self, served):
        with socket.create_connection(("127.0.0.1", served.port)) as connection:
            connection.sendall(b"POST /api/encode HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\nhalf")
        assert served.ask("point", {"row": 1})[0] == 200

    def test_a_port_that_is_taken(self, folder, commands):
        with socket.socket() as taken:
            taken.bind(("127.0.0.1", 0))
            taken.listen()
            port = taken.getsockname()[1]
            found = commands("explore", folder / "out", "--port", port)
        assert (found.returncode, found.stdout) == (2, "")
        note, error = found.stderr.splitlines()
        assert note.startswith("Note: With every dimension kept the decoder's error")
        assert error.startswith(f"Error: port {port} cannot be used: expected a free port")

    @pytest.mark.parametrize("name", ["starlette", "uvicorn"])
    def test_without_its_packages(self, folder, watch, name):
        found = watch(name).run("explore", folder / "out")
        assert found.returncode == 2
        assert found.stderr.startswith(f"Error: {name} is not installed")
        assert "pip install 'ngvae-tools[explore]'" in found.stderr

    def test_help_loads_nothing_heavy(self, watch):
        watched = watch()
        assert watched.run("explore", "--help").returncode == 0
        assert not {"numpy", "starlette", "uvicorn", "onnxruntime"} & watched.loaded

    def test_torch_is_not_needed(self, folder, watch):
        watched = watch("torch")
        with socket.socket() as taken:
            taken.bind(("127.0.0.1", 0))
            taken.listen()
            found = watched.run("explore", folder / "out", "--port", taken.getsockname()[1])
        assert "cannot be used" in found.stderr
        assert not watched.attempts


class TestWhatIsAtHand:
    def test_models_and_images_elsewhere(self, folder, tmp_path):
        moved = tmp_path / "moved"
        shutil.copytree(folder, moved)
        record = json.loads((moved / "out/selection.json").read_text())
        record["model"]["path"] = record["truncation"]["decoder"] = "/nowhere/model.onnx"
        (moved / "out/selection.json").write_text(json.dumps(record))
        with pytest.raises(OptionError, match="pass --decoder"), open_explorer(moved / "out"):
            pass
        given = {"decoder": moved / "decoder.onnx", "encoder": moved / "encoder.onnx", "data": moved / "images"}
        with open_explorer(moved / "out", decoder=given["decoder"]) as explorer:
            assert not explorer.encodes
            assert any("pass --encoder" in note for note in explorer.notes)
            with pytest.raises(OptionError, match="--encoder"):
                explorer.encode(b"")
            assert explorer.shows_originals  # they lie where they were
        with open_explorer(moved / "out", **given) as explorer:
            assert (explorer.encodes, explorer.shows_originals) == (True, True)
            (note,) = explorer.notes
            assert "no better than that of the mean image" in note
            assert explorer.point(3).original is not None

    def test_without_images_points_show_what_is_decoded(self, spread):
        with open_explorer(spread, decoder=spread / "decoder.onnx") as explorer:
            shown = explorer.point(2)
            assert not explorer.shows_originals
            assert (shown.original, shown.error) == (None, None)
            assert any(note.startswith("Originals are not shown") for note in explorer.notes)
            z = np.array(shown.z)
            np.testing.assert_allclose(z[[0, 2, 4]], [-1, 0, 1])
            decoded = DecoderSession(spread / "decoder.onnx").decode(z[None])
            np.testing.assert_array_equal(pixels(shown.decoded), to_bytes(decoded)[0])

    def test_other_models_and_other_images_are_refused(self, folder, tmp_path, as_pngs):
        Linear(seed=9).save(tmp_path / "encoder.onnx")
        LinearDecoder((3, 2, 1)).save(tmp_path / "decoder.onnx")
        as_pngs(tmp_path / "images", images_of(3))
        for name, error, words in (
            ("encoder", ContractError, "is not the encoder that made"),
            ("decoder", ContractError, "is not the one that"),
            ("data", DatasetError, "is not the data set"),
        ):
            path = tmp_path / ("images" if name == "data" else f"{name}.onnx")
            with pytest.raises(error, match=words), open_explorer(folder / "out", **{name: path}):
                pass
        with open_explorer(folder / "out", decoder=tmp_path / "decoder.onnx", any_decoder=True) as explorer:
            assert any("--any-decoder" in note for note in explorer.notes)

    def test_data_that_changed_since_are_left_out(self, tmp_path):
        write_analysis(tmp_path, count=5)
        Image.fromarray(images_of(1, seed=9)[0]).save(tmp_path / "images/99.png")
        with open_explorer(tmp_path / "out") as explorer:
            assert not explorer.shows_originals
            assert any("is not the data set" in note for note in explorer.notes)
            assert explorer.point(1).original is None

    def test_an_image_that_is_gone(self, tmp_path):
        write_analysis(tmp_path, count=5)
        with open_explorer(tmp_path / "out") as explorer:
            (tmp_path / "images/02.png").unlink()
            shown = explorer.point(2)
            assert shown.original is None
            assert shown.notes == ("The original cannot be read again.",)
            assert explorer.point(3).original is not None


class TestKindsOfLatents:
    def test_a_decoder_of_the_kept_dimensions(self, spread):
        pruned = LinearDecoder((1.0, 0.5))
        pruned.save(spread / "pruned.onnx", metadata=pruned.metadata(kept=(1, 3)).to_json())
        with open_explorer(spread, decoder=spread / "pruned.onnx") as explorer:
            assert [slider.dimension for slider in explorer.sliders] == [1, 3]
            z = explorer.point(5).z
            assert len(z) == 5
            expected = to_bytes(pruned(np.array([[z[1], z[3]]], np.float32)))[0]
            np.testing.assert_array_equal(pixels(explorer.decode(z)), expected)

    def test_none_is_kept(self, tmp_path):
        latent_files.write(tmp_path / "latents.h5", np.zeros((4, 0), np.float32), latent_dim=3)
        LinearDecoder().save(tmp_path / "decoder.onnx")
        with open_explorer(tmp_path, decoder=tmp_path / "decoder.onnx") as explorer:
            assert explorer.chart.plane is None
            assert [slider.informative for slider in explorer.sliders] == [False] * 3
            shown = explorer.point(0)
            assert (shown.place, shown.z) == (None, (-1.0, 0.0, 1.0))

    def test_latents_that_do_not_vary(self, spread):
        latent_files.write(spread / "latents.h5", np.ones((3, 2), np.float32))
        with open_explorer(spread, decoder=spread / "decoder.onnx") as explorer:
            assert explorer.chart.plane is None
            assert "no map" in explorer.notes[-1]
            assert explorer.point(1).place is None
            assert all(slider.low < 1 < slider.high for slider in explorer.sliders if slider.informative)

    def test_no_rows(self, tmp_path):
        latent_files.write(tmp_path / "latents.h5", np.zeros((0, 1), np.float32), latent_dim=3)
        LinearDecoder().save(tmp_path / "decoder.onnx")
        with open_explorer(tmp_path, decoder=tmp_path / "decoder.onnx") as explorer:
            assert explorer.chart.plane is None
            assert pixels(explorer.decode([0, 0, 0])).shape == (6, 5, 3)
            with pytest.raises(UnknownIdentifierError):
                explorer.find("0")

    def test_codes_without_a_posterior(self, spread):
        values = np.random.default_rng(3).normal(0, 1, (40, 2))
        latent_files.write(spread / "latents.h5", values, family="deterministic", steps_from="variance of mu")
        with open_explorer(spread, decoder=spread / "decoder.onnx") as explorer:
            assert explorer.chart.units == "its own standard deviation"
            for slider in explorer.sliders:
                assert not slider.noise
                assert slider.step == pytest.approx((slider.high - slider.low) / 50)

    def test_spatial_latents_are_refused(self, tmp_path, as_h5):
        steps = nodes(("Identity", "image", "mu"), ("Sub", "image eight", "logvar"))
        encoder = write(tmp_path / "e.onnx", steps, ("mu", "logvar"), values={"eight": np.float32(8)})
        images = np.random.default_rng(0).uniform(0, 1, (20, 8, 8, 3)).astype(np.float32)
        select_latents(encoder, as_h5(tmp_path / "d.h5", images), tmp_path / "out", dimensions=[0, 2])
        expected = pytest.raises(OptionError, match=r"spatial latents cannot be explored.*64 positions")
        with expected, open_explorer(tmp_path / "out"):
            pass

    @pytest.mark.parametrize(("channels", "seen"), [(1, 1), (2, 1), (3, 3), (4, 3), (6, 3)])
    def test_any_number_of_channels(self, spread, channels, seen):
        decoder = LinearDecoder((0.5, 0.25, 0.125, 0.5, 0.25), (7, 4, channels))
        decoder.save(spread / "wide.onnx")
        with open_explorer(spread, decoder=spread / "wide.onnx") as explorer:
            found = pixels(explorer.decode(explorer.start)).reshape(7, 4, -1)
            expected = to_bytes(decoder(explorer.start.astype(np.float32)[None]))[0]
            np.testing.assert_array_equal(found, expected[:, :, :seen])
            said = [note for note in explorer.notes if note.startswith(f"The images have {channels} channels")]
            assert len(said) == (channels != seen)

    def test_labels_colour_the_map(self, spread):
        labels = np.arange(40.0)[:, None] % 3
        labels[4] = np.nan
        values = np.random.default_rng(3).normal(0, 1, (40, 2))
        latent_files.write(
            spread / "latents.h5",
            values,
            labels=labels,
            factors=(("shape", "categorical"),),
            classes=(("a", "\x1bb", "c"),),
        )
        with Served(".", "--decoder", "decoder.onnx", folder=spread) as server:
            first, *others = server.ask("about")[1]["map"]["colourings"]
        assert (first["name"], first["categorical"]) == ("shape", True)
        assert first["values"][:6] == [0, 1, 2, 0, None, 2]
        assert first["classes"] == ["a", r"\x1bb", "c"]
        assert [colouring["name"] for colouring in others] == ["z1", "z3"]

    def test_names_that_are_no_text(self, spread):
        names = np.array([b"a\n.png", b"caf\xe9.png", b"z" * 300])
        latent_files.write(spread / "latents.h5", np.eye(3, 2), names)
        with Served(".", "--decoder", "decoder.onnx", folder=spread) as server:
            shown = server.ask("about")[1]["map"]["names"]
            assert shown == [r"a\n.png", r"caf\udce9.png", "z" * 199 + "\N{HORIZONTAL ELLIPSIS}"]
            assert server.ask("point", {"id": os.fsdecode(names[1])})[1]["row"] == 1

    @pytest.mark.slow
    def test_a_million_rows(self, spread):
        values = np.random.default_rng(3).normal(0, 1, (1_000_000, 2)).astype(np.float32)
        latent_files.write(spread / "latents.h5", values)
        start = time.perf_counter()
        with open_explorer(spread, decoder=spread / "decoder.onnx") as explorer:
            assert len(explorer.chart.rows) == 2000
            assert (explorer.chart.rows[0], explorer.chart.rows[-1]) == (0, 999_999)
            # Row numbers of these files are every third.
            assert explorer.find("2999997").row == 999_999
            assert explorer.find("1500000").row == 500_000
            with pytest.raises(UnknownIdentifierError, match="there is no image 1500001"):
                explorer.find("1500001")
        assert time.perf_counter() - start < 10
