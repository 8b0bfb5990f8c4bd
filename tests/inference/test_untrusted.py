"""Files that were made to do harm, or that went wrong: each ends in one sentence, in bounded time and memory."""

import os
import resource
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import onnx
import pytest
from inference.graphs import SHAPE, Linear, endless_loop, images_of, nodes, write
from onnx import TensorProto, helper

from ngvae_tools.errors import ContractError
from ngvae_tools.inference import running as running_module
from ngvae_tools.inference import trial as trial_module
from ngvae_tools.inference.session import EncoderSession, InputOptions

IMAGES = np.random.default_rng(3).integers(0, 256, (5, 8, 8, 3), dtype=np.uint8)
FLAT = ("Flatten", "image", "flat")
SECOND = ("Neg", "mu", "logvar")


@pytest.fixture
def linear():
    return Linear()


@pytest.fixture
def short(monkeypatch):
    """A trial of three seconds."""
    monkeypatch.setattr(trial_module, "BASE_SECONDS", 3.0)


def refused(path, match, **options):
    started, before = time.monotonic(), resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss
    with pytest.raises(ContractError, match=match) as caught:
        EncoderSession(path, **options)
    assert time.monotonic() - started < 30
    assert resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss <= max(before, 5 * 2**20)  # KiB
    text = str(caught.value)
    assert "\n" not in text
    assert len(text) < 1000
    return text


def external(model, location, tmp_path, **more):
    """The model's first initializer as a tensor of another file; its bytes."""
    tensor = model.graph.initializer[0]
    data = tensor.raw_data
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    for key, value in {"location": location, **more}.items():
        tensor.external_data.add(key=key, value=str(value))
    path = tmp_path / "model" / "m.onnx"
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(model.SerializeToString())
    return path, data


class TestExternalWeights:
    @pytest.fixture
    def model(self, tmp_path, linear):
        return onnx.load(linear.save(tmp_path / "whole.onnx"))

    @pytest.mark.parametrize("name", ["weights.bin", "deep/weights.bin", "./weights.bin"])
    def test_those_in_the_models_folder_are_taken(self, tmp_path, model, linear, name):
        path, data = external(model, name, tmp_path)
        (path.parent / name).parent.mkdir(exist_ok=True)
        (path.parent / name).write_bytes(data)
        heads = EncoderSession(path).encode(images_of(4))
        np.testing.assert_array_equal(heads.mu, linear.heads(images_of(4))[0])

    def test_offset_and_length(self, tmp_path, model, linear):
        path, data = external(model, "w", tmp_path, offset=7, length=linear.mu_weight.size * 4)
        (path.parent / "w").write_bytes(b"before!" + data + b"after")
        heads = EncoderSession(path).encode(images_of(4))
        np.testing.assert_array_equal(heads.mu, linear.heads(images_of(4))[0])

    def test_the_hash_covers_them(self, tmp_path, model):
        path, data = external(model, "w", tmp_path)
        hashes = set()
        for last in range(2):
            (path.parent / "w").write_bytes(data[:-1] + bytes([last]))
            hashes.add(EncoderSession(path).sha256)
        assert len(hashes) == 2

    def test_a_link_inside_the_folder_is_taken(self, tmp_path, model):
        path, data = external(model, "w", tmp_path)
        (path.parent / "there").write_bytes(data)
        (path.parent / "w").symlink_to("there")
        assert EncoderSession(path).latent_dim == 3

    @pytest.mark.parametrize(
        "location",
        [
            "../secret",
            "deep/../../secret",
            "/etc/passwd",
            "..\\secret",
            "C:\\secret",
            "C:secret",
            "\\\\host\\share",
            "",
        ],
    )
    def test_those_elsewhere_are_refused(self, tmp_path, model, location):
        path, data = external(model, location, tmp_path)
        (tmp_path / "secret").write_bytes(data)
        refused(path, "weights in the model's own folder")

    def test_links_that_leave_the_folder_are_refused(self, tmp_path, model):
        path, data = external(model, "w", tmp_path)
        (tmp_path / "secret").write_bytes(data)
        (path.parent / "w").symlink_to("../secret")
        refused(path, "a link that leaves the folder")
        (path.parent / "w").unlink()
        (tmp_path / "elsewhere").mkdir()
        (tmp_path / "elsewhere" / "x").write_bytes(data)
        (path.parent / "folder").symlink_to(tmp_path / "elsewhere")
        model.graph.initializer[0].external_data[0].value = "folder/x"
        path.write_bytes(model.SerializeToString())
        refused(path, "a link that leaves the folder")

    def test_a_missing_file_a_folder_a_pipe_and_a_circle(self, tmp_path, model):
        path, _ = external(model, "w", tmp_path)
        refused(path, "no file of weights")
        (path.parent / "w").mkdir()
        refused(path, "not a file")
        (path.parent / "w").rmdir()
        os.mkfifo(path.parent / "w")
        refused(path, "not a file")
        (path.parent / "w").unlink()
        (path.parent / "w").symlink_to("w")
        refused(path, "no file of weights")

    @pytest.mark.parametrize(
        "more", [{"offset": -1}, {"length": 10**12}, {"offset": 10**9}, {"offset": "x"}, {"length": -4}]
    )
    def test_weights_beyond_the_file(self, tmp_path, model, more):
        path, data = external(model, "w", tmp_path, **more)
        (path.parent / "w").write_bytes(data)
        refused(path, "weights beyond the")

    def test_too_few_weights(self, tmp_path, model):
        path, data = external(model, "w", tmp_path)
        (path.parent / "w").write_bytes(data[:-4])
        refused(path, "onnxruntime can run")

    def test_a_sparse_file_is_not_read(self, tmp_path, model):
        path, _ = external(model, "w", tmp_path)
        with (path.parent / "w").open("wb") as file:
            file.truncate(2**40)
        refused(path, "below 2 GiB")


class TestReading:
    def test_a_huge_file_a_pipe_and_a_device(self, tmp_path):
        with (tmp_path / "huge.onnx").open("wb") as file:
            file.truncate(2**40)
        refused(tmp_path / "huge.onnx", "below 2 GiB")
        os.mkfifo(tmp_path / "pipe.onnx")
        refused(tmp_path / "pipe.onnx", "not a file")

    def test_deep_nesting(self, tmp_path):
        data = b""
        for _ in range(300):
            for tag in (0x32, 0x2A, 0x0A):  # a graph in an attribute of a node in a graph
                data = bytes([tag]) + _varint(len(data)) + data
        (tmp_path / "deep.onnx").write_bytes(b"\x3a" + _varint(len(data)) + data)
        refused(tmp_path / "deep.onnx", "expected an ONNX file")

    @pytest.mark.slow
    def test_messages_that_grow_when_they_are_parsed(self, tmp_path):
        # Two bytes a node; parsed, each takes 150: beyond the 2 GiB and eight times the file that it may have.
        data = b"\x0a\x00" * 20_000_000
        (tmp_path / "bomb.onnx").write_bytes(b"\x3a" + _varint(len(data)) + data)
        refused(tmp_path / "bomb.onnx", "expected (an ONNX file|a model that runs within)")

    def test_too_many_outputs_and_metadata(self, tmp_path):
        steps = nodes(("Flatten", "image", "mu"), *(("Neg", "mu", f"o{n}") for n in range(1001)))
        refused(write(tmp_path / "m.onnx", steps, ["mu", *(f"o{n}" for n in range(1001))]), "at most 1000 outputs")
        steps = nodes(("Flatten", "image", "mu"), SECOND)
        refused(write(tmp_path / "m.onnx", steps, ["mu", "logvar"], metadata="x" * 2**21), "at most 1 MiB")


class TestOpening:
    def test_an_operator_that_is_not_there(self, tmp_path):
        steps = nodes(("Magic", "image", "mu"), SECOND)
        refused(write(tmp_path / "m.onnx", steps, ["mu", "logvar"]), "onnxruntime can run.*Magic")

    def test_a_domain_that_is_not_there(self, tmp_path):
        steps = [helper.make_node("Magic", ["image"], ["mu"], domain="evil.example"), *nodes(SECOND)]
        path = write(tmp_path / "m.onnx", steps, ["mu", "logvar"], opsets=[("evil.example", 1)])
        refused(path, r"operators that are not there: evil\.example\.Magic; export it with the standard operators")

    def test_an_opset_of_the_future(self, tmp_path, linear):
        model = onnx.load(linear.save(tmp_path / "m.onnx"))
        model.opset_import[0].version = 999
        (tmp_path / "m.onnx").write_bytes(model.SerializeToString())
        refused(tmp_path / "m.onnx", "onnxruntime can run")

    def test_constants_that_fold_for_minutes(self, tmp_path, short):
        # onnxruntime multiplies constants when it opens a file.
        steps = [("Expand", "tiny size", "m0"), *(("MatMul", f"m{n} m{n}", f"m{n + 1}") for n in range(2000))]
        steps += [FLAT, ("ReduceSum", "m2000", "all", {"keepdims": 0}), ("Add", "flat all", "mu"), SECOND]
        values = {"tiny": np.float32([[1e-9]]), "size": np.array([3000, 3000])}
        refused(write(tmp_path / "m.onnx", nodes(*steps), ["mu", "logvar"], values=values), "opened within 3 s")

    def test_constants_that_fold_into_more_than_there_is(self, tmp_path):
        steps = nodes(
            ("Expand", "one size", "much"),
            ("ReduceSum", "much", "all", {"keepdims": 0}),
            FLAT,
            ("Add", "flat all", "mu"),
            SECOND,
        )
        values = {"one": np.float32([1]), "size": np.array([2**34])}
        refused(write(tmp_path / "m.onnx", steps, ["mu", "logvar"], values=values), r"runs within [\d.]+ GiB")

    @pytest.mark.parametrize("axes", [("N", 3, 10**6, 10**6), ("N", 3, 0, 8), (10**9, 3, 8, 8), (0, 3, 8, 8)])
    def test_absurd_images(self, tmp_path, axes):
        path = write(tmp_path / "m.onnx", nodes(FLAT, ("Neg", "flat", "mu"), SECOND), ["mu", "logvar"], axes=axes)
        refused(path, "images of at most")


class TestRunning:
    def test_a_loop_that_does_not_end(self, tmp_path, short):
        steps = [*nodes(FLAT), endless_loop("mu", "flat"), *nodes(SECOND)]
        path = write(tmp_path / "m.onnx", steps, ["mu", "logvar"], values={"true": np.array(True)})
        refused(path, "run within 3 s, found one that did not end")

    def test_a_loop_over_constants_that_does_not_end(self, tmp_path, short):
        steps = [endless_loop("loop", "one"), *nodes(FLAT, ("Add", "flat loop", "mu"), SECOND)]
        values = {"true": np.array(True), "one": np.float32([1])}
        refused(write(tmp_path / "m.onnx", steps, ["mu", "logvar"], values=values), "did not end")

    def test_a_loop_that_depends_on_the_image_is_ended(self, tmp_path, monkeypatch):
        """The trial's images let it pass; a white image does not."""
        steps = [
            *nodes(FLAT, ("ReduceMean", "flat", "level", {"keepdims": 0}), ("Greater", "level limit", "bright")),
            endless_loop("mu", "flat", "bright"),
            *nodes(SECOND),
        ]
        path = write(tmp_path / "m.onnx", steps, ["mu", "logvar"], values={"limit": np.float32(0.9)})
        session = EncoderSession(path, threads=1)
        monkeypatch.setattr(running_module, "RUN_SECONDS", 1.0)
        session.encode(IMAGES)
        started = time.monotonic()
        with pytest.raises(ContractError, match=r"a run of 5 images within \d s, found one that did not end"):
            session.encode(np.full_like(IMAGES, 255))
        assert time.monotonic() - started < 10
        session.encode(IMAGES)

    def test_an_allocation_of_64_gib(self, tmp_path):
        steps = nodes(
            ("ConstantOfShape", "size", "much"),
            ("ReduceSum", "much", "all", {"keepdims": 0}),
            FLAT,
            ("Add", "flat all", "mu"),
            SECOND,
        )
        path = write(tmp_path / "m.onnx", steps, ["mu", "logvar"], values={"size": np.array([2**34])})
        refused(path, r"runs within [\d.]+ GiB, found one that asks for more memory")

    def test_memory_that_grows_with_every_step(self, tmp_path):
        steps = [FLAT, ("Concat", "flat flat", "c0", {"axis": 1})]
        steps += [("Concat", f"c{n} c{n}", f"c{n + 1}", {"axis": 1}) for n in range(40)]
        steps += [("ReduceSum", "c40 one", "all", {"keepdims": 1}), ("Add", "flat all", "mu"), SECOND]
        path = write(tmp_path / "m.onnx", nodes(*steps), ["mu", "logvar"], values={"one": np.array([1])})
        refused(path, "asks for more memory")

    def test_an_allocation_that_depends_on_the_image_ends_the_run_alone(self, tmp_path):
        """2**38 values for a white image, none for others: an error here, and the session lives on."""
        steps = nodes(
            FLAT,
            ("ReduceMean", "flat", "level", {"keepdims": 1}),
            ("Greater", "level limit", "bright"),
            ("Cast", "bright", "count", {"to": TensorProto.INT64}),
            ("Mul", "count many", "product"),
            ("Reshape", "product vector", "size"),
            ("Expand", "one size", "much"),
            ("ReduceSum", "much", "all", {"keepdims": 0}),
            ("Add", "flat all", "mu"),
            SECOND,
        )
        values = {
            "limit": np.float32(0.9),
            "many": np.array(2**38),
            "vector": np.array([1]),
            "one": np.float32([1]),
        }
        session = EncoderSession(write(tmp_path / "m.onnx", steps, ["mu", "logvar"], values=values))
        with pytest.raises(ContractError, match="a graph that runs"):
            session.encode(np.full_like(IMAGES, 255))
        assert len(session.encode(IMAGES).mu) == 5

    def test_a_graph_that_samples(self, tmp_path):
        steps = nodes(
            FLAT, ("RandomNormalLike", "flat", "noise"), ("Add", "flat noise", "mu"), ("Neg", "flat", "logvar")
        )
        text = refused(write(tmp_path / "m.onnx", steps, ["mu", "logvar"]), "change from run to run")
        assert "export mu and logvar themselves" in text

    def test_a_sample_beside_the_heads_is_no_matter(self, tmp_path):
        steps = nodes(("Flatten", "image", "mu"), SECOND, ("RandomNormalLike", "mu", "noise"), ("Add", "mu noise", "z"))
        session = EncoderSession(write(tmp_path / "m.onnx", steps, ["z", "mu", "logvar"]))
        np.testing.assert_array_equal(session.encode(IMAGES).mu, session.encode(IMAGES).mu)

    def test_values_that_are_never_finite(self, tmp_path):
        steps = nodes(FLAT, ("Sub", "flat two", "below"), ("Sqrt", "below", "mu"), ("Identity", "flat", "logvar"))
        path = write(tmp_path / "m.onnx", steps, ["mu", "logvar"], values={"two": np.float32(2)})
        refused(path, "mu with finite values, found NaN or infinity")
        # With the range that it was made for it can be used.
        assert EncoderSession(path, input_options=InputOptions(low=3, high=4)).latent_dim == 192

    def test_images_of_a_batch_that_depend_on_each_other(self, tmp_path):
        steps = nodes(
            FLAT, ("ReduceMean", "flat nought", "mean"), ("Sub", "flat mean", "mu"), ("Neg", "flat", "logvar")
        )
        path = write(tmp_path / "m.onnx", steps, ["mu", "logvar"], values={"nought": np.array([0])})
        refused(path, "module.eval")

    def test_a_batch_that_is_lost(self, tmp_path):
        steps = nodes(("Reshape", "image shape", "mu"), SECOND)
        path = write(tmp_path / "m.onnx", steps, ["mu", "logvar"], values={"shape": np.array([3, -1])})
        refused(path, r"mu with one row an image, 1 of them, found shape \(3, 64\)")

    def test_a_file_that_changes_meanwhile(self, tmp_path, linear, monkeypatch):
        path = linear.save(tmp_path / "m.onnx")
        other = Linear(seed=5).save(tmp_path / "other.onnx").read_bytes()
        monkeypatch.setattr(trial_module, "read_bytes", lambda _: other)
        refused(path, "changed while it was read")


def test_a_killed_parent_leaves_no_child(tmp_path):
    steps = [*nodes(FLAT), endless_loop("mu", "flat"), *nodes(SECOND)]
    path = write(tmp_path / "m.onnx", steps, ["mu", "logvar"], values={"true": np.array(True)})
    code = (
        "import sys; from pathlib import Path; from ngvae_tools.inference.session import EncoderSession; "
        "EncoderSession(Path(sys.argv[1]))"
    )
    with subprocess.Popen([sys.executable, "-c", code, path]) as process:
        children = []
        deadline = time.monotonic() + 20
        while not children and time.monotonic() < deadline:
            time.sleep(0.1)
            children = _children(process.pid)
        time.sleep(1.5)  # into the loop
        process.kill()
    assert children
    deadline = time.monotonic() + 10
    while any(Path(f"/proc/{child}").exists() for child in children) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert not any(Path(f"/proc/{child}").exists() for child in children)


def test_shape_of_the_builder(tmp_path, linear):
    assert EncoderSession(linear.save(tmp_path / "m.onnx")).metadata.image_shape == SHAPE


def _children(parent):
    return [int(word) for word in Path(f"/proc/{parent}/task/{parent}/children").read_text().split()]


def _varint(value):
    out = b""
    while value > 127:
        out, value = out + bytes([value & 127 | 128]), value >> 7
    return out + bytes([value])
