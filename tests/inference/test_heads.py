"""Which outputs are heads, and what their axes mean: real graphs, expected values in numpy."""

import numpy as np
import pytest
from inference.graphs import SHAPE, Linear, images_of, nodes, write

from ngvae_tools.datasets import open_dataset
from ngvae_tools.errors import ContractError
from ngvae_tools.inference.session import EncoderSession, HeadNames, InputOptions
from ngvae_tools.inference.stream import encode_range

IMAGES = np.random.default_rng(3).integers(0, 256, (5, 8, 8, 3), dtype=np.uint8)
"""Five images as a data set gives them."""


def spatial(path, name="mu", second="logvar", *, layout="NCHW", values=None, **options):
    """mu: the image averaged over patches of 4x4; the second head: minus that. Spatial (N, 3, 2, 2)."""
    steps = [("AveragePool", "image", "pooled", {"kernel_shape": [4, 4], "strides": [4, 4]})]
    axes = ("N", 3, 8, 8)
    if layout == "NHWC":
        steps = [
            ("Transpose", "image", "moved", {"perm": [0, 3, 1, 2]}),
            ("AveragePool", "moved", "small", {"kernel_shape": [4, 4], "strides": [4, 4]}),
            ("Transpose", "small", "pooled", {"perm": [0, 2, 3, 1]}),
        ]
        axes = ("N", 8, 8, 3)
    outputs = [name]
    if second is None:
        steps += [("Neg", "pooled", "minus"), ("Concat", "pooled minus", name, {"axis": 1})]
    else:
        steps += [("Identity", "pooled", name), ("Neg", "pooled", second)]
        outputs.append(second)
    return write(path, nodes(*steps), outputs, axes=options.pop("axes", axes), values=values, **options)


def pooled(images=IMAGES):
    """The same in numpy, float64, (N, 2, 2, 3)."""
    return images.reshape(-1, 2, 4, 2, 4, 3).mean(axis=(2, 4)) / 255


def flat(path, names, *, shapes=None, **options):
    """Each output is the sum of the image's rows of channel 0, times its place in `names`: (N, 8)."""
    steps = [
        ("ReduceSum", "image axes", "sums", {"keepdims": 0}),
        *(("Mul", f"sums f{place}", name) for place, name in enumerate(names)),
    ]
    values = {"axes": np.array([1, 3])} | {f"f{n}": np.float32(n + 1) for n in range(len(names))}
    return write(path, nodes(*steps), names, values=values, shapes=shapes, **options)


def sums(images=IMAGES):
    return images.astype(np.float64).sum(axis=(2, 3)) / 255


class TestNames:
    @pytest.mark.parametrize(
        "names",
        [
            ("z_mean", "z_log_var"),
            ("mean", "log_var"),
            ("embedding", "log_covariance"),
            ("mu", "log_var"),
            ("mu", "log_variance"),
            ("vae/z_mean:0", "vae/z_log_var:0"),
            ("Mu", "LogVar"),
        ],
    )
    def test_names_that_others_use_are_known_and_said(self, tmp_path, names):
        session = EncoderSession(flat(tmp_path / "m.onnx", names))
        assert session.second_head == "logvar"
        assert session.family.second_head == "logvar"
        for name in names:
            assert name == "mu" or any(f"{name} is taken for" in note for note in session.notes)
        heads = session.encode(IMAGES)
        np.testing.assert_allclose(heads.mu, sums(), rtol=1e-5)
        np.testing.assert_allclose(heads.second, 2 * sums(), rtol=1e-5)

    @pytest.mark.parametrize("names", [("mu", "std"), ("mean", "variance"), ("mu", "z"), ("z_mean", "z_std")])
    def test_what_is_no_log_variance_is_not_taken_for_one(self, tmp_path, names):
        path = flat(tmp_path / "m.onnx", names)
        with pytest.raises(ContractError, match="a standard deviation is not a log-variance"):
            EncoderSession(path)
        session = EncoderSession(path, heads=HeadNames(mu=names[0]))
        assert session.second_head is None
        assert session.metadata.family == "deterministic"

    def test_two_candidates_are_not_guessed_between(self, tmp_path):
        path = flat(tmp_path / "m.onnx", ("z_mean", "mean", "log_var"))
        with pytest.raises(ContractError, match="--mu"):
            EncoderSession(path)
        session = EncoderSession(path, heads=HeadNames(mu="mean"))
        np.testing.assert_allclose(session.encode(IMAGES).mu, 2 * sums(), rtol=1e-5)
        assert session.second_head == "logvar"

    def test_the_order_of_outputs_does_not_matter(self, tmp_path):
        session = EncoderSession(flat(tmp_path / "m.onnx", ("z", "logvar", "mu")))
        heads = session.encode(IMAGES)
        np.testing.assert_allclose(heads.mu, 3 * sums(), rtol=1e-5)
        np.testing.assert_allclose(heads.second, 2 * sums(), rtol=1e-5)

    def test_one_output_is_taken_for_codes(self, tmp_path):
        session = EncoderSession(flat(tmp_path / "m.onnx", ("code",)))
        assert (session.second_head, session.metadata.family, session.latent_dim) == (None, "deterministic", 8)
        assert any("only output" in note for note in session.notes)
        heads = session.encode(IMAGES)
        assert heads.second is None
        np.testing.assert_allclose(heads.mu, sums(), rtol=1e-5)

    def test_metadata_can_say_that_codes_are_deterministic(self, tmp_path):
        linear = Linear()
        metadata = linear.metadata(family="deterministic").to_json()
        session = EncoderSession(linear.save(tmp_path / "m.onnx", metadata=metadata))
        assert session.second_head is None
        assert session.notes == []
        assert session.encode(images_of(2)).second is None

    def test_deterministic_codes_stream(self, tmp_path, as_h5):
        linear = Linear()
        path = linear.save(
            tmp_path / "m.onnx",
            metadata=linear.metadata(family="deterministic").to_json(),
            nan_where_white=True,
        )
        images = images_of(20)
        images[[3, 7], -1, -1, -1] = 255
        dataset = open_dataset(as_h5(tmp_path / "d.h5", images))
        block = encode_range(dataset, EncoderSession(path), 0, len(dataset), batch_size=8)
        assert block.heads.second is None
        assert [r.index for r in block.rejected] == [3, 7]
        np.testing.assert_array_equal(block.heads.mu, linear.heads(images[block.index])[0])

    def test_a_single_output_with_positions_is_asked_for(self, tmp_path):
        path = spatial(tmp_path / "m.onnx", "moments", None)
        with pytest.raises(ContractError, match="one output"):
            EncoderSession(path)
        both = EncoderSession(path, heads=HeadNames(mu="moments", logvar="moments"))
        assert (both.latent_dim, both.positions, both.second_head) == (3, 4, "logvar")
        codes = EncoderSession(path, heads=HeadNames(mu="moments"))
        assert (codes.latent_dim, codes.positions, codes.second_head) == (6, 4, None)

    def test_a_head_of_whole_numbers_is_refused(self, tmp_path):
        steps = nodes(("Flatten", "image", "mu"), ("Cast", "mu", "logvar", {"to": 7}))
        path = write(tmp_path / "m.onnx", steps, ["mu"])
        import onnx
        from onnx import TensorProto, helper

        model = onnx.load(path)
        model.graph.output.append(helper.make_tensor_value_info("logvar", TensorProto.INT64, None))
        path.write_bytes(model.SerializeToString())
        with pytest.raises(ContractError, match="logvar of floating-point numbers, found int64"):
            EncoderSession(path)

    def test_heads_of_different_sizes_are_refused(self, tmp_path):
        steps = nodes(("Flatten", "image", "mu"), ("ReduceSum", "mu one", "logvar", {"keepdims": 1}))
        path = write(tmp_path / "m.onnx", steps, ["mu", "logvar"], values={"one": np.array([1])})
        with pytest.raises(ContractError, match=r"logvar of the shape \(1, 192\) of mu, found shape \(1, 1\)"):
            EncoderSession(path)


class TestSpatial:
    def test_channels_are_dimensions_and_positions_are_samples(self, tmp_path):
        session = EncoderSession(spatial(tmp_path / "m.onnx"))
        assert (session.latent_dim, session.positions) == (3, 4)
        heads = session.encode(IMAGES)
        # Row-major positions, those of one image consecutive.
        np.testing.assert_allclose(heads.mu, pooled().reshape(20, 3), atol=1e-6)
        np.testing.assert_allclose(heads.second, -pooled().reshape(20, 3), atol=1e-6)

    def test_a_channel_at_a_position_is_a_dimension_by_option(self, tmp_path):
        options = InputOptions(spatial="position")
        session = EncoderSession(spatial(tmp_path / "m.onnx"), input_options=options)
        assert (session.latent_dim, session.positions) == (12, 1)
        expected = pooled().transpose(0, 3, 1, 2).reshape(5, 12)
        np.testing.assert_allclose(session.encode(IMAGES).mu, expected, atol=1e-6)

    @pytest.mark.parametrize("mode", ["channel", "position"])
    def test_channels_last_follow_the_input(self, tmp_path, mode):
        path = spatial(tmp_path / "m.onnx", layout="NHWC")
        session = EncoderSession(path, input_options=InputOptions(spatial=mode))
        assert any("taken from axis 3" in note for note in session.notes)
        expected = pooled().reshape(20, 3) if mode == "channel" else pooled().transpose(0, 3, 1, 2).reshape(5, 12)
        np.testing.assert_allclose(session.encode(IMAGES).mu, expected, atol=1e-6)

    def test_metadata_tell_the_axis_where_the_layout_would_mislead(self, tmp_path):
        # An own file takes NHWC, and has channels first inside.
        from ngvae_tools.contract import ModelMetadata

        text = ModelMetadata("encoder", "gaussian", 3, (8, 8, 3), "float32").to_json()
        steps = nodes(
            ("Transpose", "image", "moved", {"perm": [0, 3, 1, 2]}),
            ("AveragePool", "moved", "mu", {"kernel_shape": [4, 4], "strides": [4, 4]}),
            ("Neg", "mu", "logvar"),
        )
        session = EncoderSession(
            write(tmp_path / "m.onnx", steps, ["mu", "logvar"], axes=("N", 8, 8, 3), metadata=text)
        )
        assert (session.latent_dim, session.positions) == (3, 4)
        assert session.metadata.latent_dim == 3
        found = session.encode(IMAGES.astype(np.float32)).mu
        np.testing.assert_allclose(found, 255 * pooled().reshape(20, 3), rtol=1e-5)

    def test_one_position_is_none(self, tmp_path):
        steps = nodes(("GlobalAveragePool", "image", "mu"), ("Neg", "mu", "logvar"))
        session = EncoderSession(write(tmp_path / "m.onnx", steps, ["mu", "logvar"]))
        assert (session.latent_dim, session.positions) == (3, 1)
        np.testing.assert_allclose(session.encode(IMAGES).mu, IMAGES.mean(axis=(1, 2)) / 255, atol=1e-6)

    def test_rank_three_is_channels_and_positions(self, tmp_path):
        steps = nodes(("Reshape", "image shape", "mu"), ("Neg", "mu", "logvar"))
        path = write(tmp_path / "m.onnx", steps, ["mu", "logvar"], values={"shape": np.array([0, 3, 64])})
        session = EncoderSession(path)
        assert (session.latent_dim, session.positions) == (3, 64)
        np.testing.assert_allclose(session.encode(IMAGES).mu, IMAGES.reshape(-1, 3) / 255, atol=1e-6)

    def test_a_vector_is_one_dimension(self, tmp_path):
        steps = nodes(("ReduceSum", "image axes", "mu", {"keepdims": 0}))
        path = write(tmp_path / "m.onnx", steps, ["mu"], values={"axes": np.array([1, 2, 3])})
        session = EncoderSession(path, heads=HeadNames(mu="mu"))
        assert session.latent_dim == 1
        np.testing.assert_allclose(session.encode(IMAGES).mu[:, 0], IMAGES.sum(axis=(1, 2, 3)) / 255, rtol=1e-5)

    def test_an_image_with_one_bad_position_is_rejected_whole(self, tmp_path, as_h5):
        # The square root of 254.5 - sample: not a number where a sample is white.
        steps = nodes(
            ("Sub", "limit image", "left"),
            ("Sqrt", "left", "root"),
            ("AveragePool", "root", "mu", {"kernel_shape": [4, 4], "strides": [4, 4]}),
            ("Neg", "mu", "logvar"),
        )
        limit = np.float32(254.5 / 255)
        path = write(tmp_path / "m.onnx", steps, ["mu", "logvar"], values={"limit": limit})
        images = np.random.default_rng(0).integers(0, 200, (10, 8, 8, 3), dtype=np.uint8)
        images[4, 0, 0, 0] = 255
        session = EncoderSession(path)
        dataset = open_dataset(as_h5(tmp_path / "d.h5", images))
        block = encode_range(dataset, session, 0, len(dataset), batch_size=3)
        good = [0, 1, 2, 3, 5, 6, 7, 8, 9]
        assert block.index.tolist() == good
        assert [r.index for r in block.rejected] == [4]
        assert (block.size, block.heads.mu.shape) == (10, (36, 3))
        expected = np.sqrt(limit - images[good] / 255).reshape(-1, 2, 4, 2, 4, 3).mean(axis=(2, 4)).reshape(36, 3)
        np.testing.assert_allclose(block.heads.mu, expected, atol=1e-5)

    def test_too_many_dimensions_are_refused(self, tmp_path):
        steps = nodes(("Identity", "image", "mu"), ("Neg", "mu", "logvar"))
        path = write(tmp_path / "m.onnx", steps, ["mu", "logvar"], axes=("N", 3, 128, 128))
        assert EncoderSession(path).positions == 128 * 128
        with pytest.raises(ContractError, match=r"at most 2048 dimensions, found 49152.*--spatial position"):
            EncoderSession(path, input_options=InputOptions(spatial="position"))


class TestDiffusers:
    AXES = ("batch_size", 3, "height", "width")

    def path(self, folder, axes=AXES):
        return spatial(folder / "m.onnx", "latent_parameters", None, axes=axes)

    @pytest.mark.parametrize("axes", [AXES, ("batch_size", "num_channels", "height", "width"), ("a", "b", "c", "d")])
    def test_one_output_holds_both_heads(self, tmp_path, axes):
        session = EncoderSession(self.path(tmp_path, axes), image_shape=(8, 8, 3))
        assert (session.latent_dim, session.positions, session.second_head) == (3, 4, "logvar")
        assert session.metadata.image_shape == (8, 8, 3)
        assert session.metadata.family == "gaussian"
        heads = session.encode(IMAGES)
        # diffusers feeds images from -1 to 1.
        np.testing.assert_allclose(heads.mu, 2 * pooled().reshape(20, 3) - 1, atol=1e-6)
        np.testing.assert_allclose(heads.second, 1 - 2 * pooled().reshape(20, 3), atol=1e-6)
        assert "input from -1 to 1" in session.notes[0]

    def test_the_range_can_be_named(self, tmp_path):
        options = InputOptions(low=0, high=1)
        session = EncoderSession(self.path(tmp_path), image_shape=(8, 8, 3), input_options=options)
        np.testing.assert_allclose(session.encode(IMAGES).mu, pooled().reshape(20, 3), atol=1e-6)

    def test_the_log_variance_is_clamped_as_diffusers_does(self, tmp_path):
        session = EncoderSession(self.path(tmp_path), image_shape=(8, 8, 3), input_options=InputOptions(low=0, high=1))
        samples = np.full((1, 8, 8, 3), 50, np.float32)
        samples[..., 1] = -70
        heads = session.encode(samples)
        np.testing.assert_array_equal(heads.mu[0], [50, -70, 50])
        np.testing.assert_array_equal(heads.second[0], [-30, 20, -30])

    def test_the_images_size_is_asked_for_once_and_only_where_it_is_open(self, tmp_path):
        asked = []

        def shape():
            asked.append(1)
            return 8, 16, 3

        session = EncoderSession(self.path(tmp_path), image_shape=shape)
        assert (asked, session.positions, session.metadata.image_shape) == ([1], 8, (8, 16, 3))
        EncoderSession(spatial(tmp_path / "fixed.onnx"), image_shape=shape)
        assert asked == [1]
        with pytest.raises(ContractError, match="name the data set"):
            EncoderSession(self.path(tmp_path))

    def test_an_odd_number_of_channels_is_no_pair(self, tmp_path):
        steps = nodes(("Identity", "image", "latent_parameters"))
        with pytest.raises(ContractError, match="even number of channels"):
            EncoderSession(write(tmp_path / "m.onnx", steps, ["latent_parameters"]))


class TestInputs:
    @pytest.mark.parametrize("elem", ["float16", "float64"])
    def test_other_precisions_are_cast(self, tmp_path, elem):
        steps = nodes(("Flatten", "image", "mu"), ("Neg", "mu", "logvar"))
        session = EncoderSession(write(tmp_path / "m.onnx", steps, ["mu", "logvar"], elem=elem))
        heads = session.encode(IMAGES)
        assert heads.mu.dtype == np.float32
        expected = (IMAGES / 255).astype(np.float32).astype(elem).transpose(0, 3, 1, 2).reshape(5, -1)
        np.testing.assert_allclose(heads.mu, expected.astype(np.float32), atol=1e-3 if elem == "float16" else 1e-7)

    def test_grey_images(self, tmp_path):
        linear = Linear(shape=(6, 5, 1))
        path = linear.save(tmp_path / "m.onnx", metadata=None, sample_type="float32", layout="NCHW")
        session = EncoderSession(path)
        assert session.metadata.image_shape == (6, 5, 1)
        images = images_of(3, (6, 5, 1))
        np.testing.assert_allclose(session.encode(images).mu, linear.heads(images / 255)[0], atol=1e-6)

    @pytest.mark.parametrize("batch", [1, 4])
    def test_a_fixed_batch_is_fed_in_pieces(self, tmp_path, batch):
        linear = Linear()
        path = linear.save(tmp_path / "m.onnx", axes=(batch, *SHAPE), output_shape=(batch, None))
        session = EncoderSession(path)
        images = images_of(9)
        heads = session.encode(images)
        for ours, theirs in zip((heads.mu, heads.second), linear.heads(images), strict=True):
            np.testing.assert_array_equal(ours, theirs)

    def test_a_batch_that_is_fixed_inside_is_found_out(self, tmp_path):
        # torch bakes the batch into a Reshape though the axis is called dynamic (pytorch #148886).
        steps = nodes(("Reshape", "image shape", "mu"), ("Neg", "mu", "logvar"))
        path = write(tmp_path / "m.onnx", steps, ["mu", "logvar"], values={"shape": np.array([1, 192])})
        session = EncoderSession(path)
        assert any("only one at once" in note for note in session.notes)
        expected = IMAGES.transpose(0, 3, 1, 2).reshape(5, -1) / 255
        np.testing.assert_allclose(session.encode(IMAGES).mu, expected, atol=1e-6)

    def test_no_images_give_no_rows(self, tmp_path):
        session = EncoderSession(spatial(tmp_path / "m.onnx"))
        heads = session.encode(IMAGES[:0])
        assert heads.mu.shape == heads.second.shape == (0, 3)

    def test_pieces_of_a_batch_are_bounded_by_memory(self, tmp_path, monkeypatch):
        monkeypatch.setattr("ngvae_tools.inference.session.BATCH_BYTES", 0)
        session = EncoderSession(spatial(tmp_path / "m.onnx"))
        assert session._batch == 1
        np.testing.assert_allclose(session.encode(IMAGES).mu, pooled().reshape(20, 3), atol=1e-6)
