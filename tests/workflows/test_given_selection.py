"""Encoding new data with a selection made before, deterministic codes, and spatial latents."""

import json

import numpy as np
import pytest
from inference.graphs import Linear, images_of, nodes, write
from latent_files import read_latents, steps_of

from ngvae_tools import select_latents
from ngvae_tools.errors import ContractError, OptionError, RecordError
from ngvae_tools.inference.session import HeadNames, InputOptions


@pytest.fixture
def encoder(tmp_path):
    return Linear(5, constant=[0.125, 0.9, 0.25, 0.9, 0.875]).save(tmp_path / "encoder.onnx")


class TestGiven:
    def test_named_dimensions_are_kept_whatever_the_rules_say(self, tmp_path, as_h5, encoder):
        data = as_h5(tmp_path / "d.h5", images_of(30))
        record = select_latents(encoder, data, tmp_path / "out", dimensions=(1, 3))
        assert record.selection.rule == "given"
        assert record.selection.indices == record.latents.dimensions == (1, 3)
        values, _, dimensions = read_latents(tmp_path / "out" / "latents.h5")
        assert dimensions.tolist() == [1, 3]
        mu = Linear(5, constant=0).heads(images_of(30))[0]
        step = steps_of(tmp_path / "out")
        assert (np.abs(values - mu[:, [1, 3]]) <= step / 2 + 1e-9).all()
        assert {rule.rule for rule in record.rules} >= {"given", "p", "information"}

    def test_a_selection_made_before_is_applied_to_other_data(self, tmp_path, as_h5, encoder):
        first = select_latents(encoder, as_h5(tmp_path / "a.h5", images_of(40)), tmp_path / "a", threshold=0.3)
        assert first.selection.indices == (0, 2)
        other = as_h5(tmp_path / "b.h5", images_of(25, seed=9))
        second = select_latents(encoder, other, tmp_path / "b", selection=tmp_path / "a")
        assert (second.selection.rule, second.selection.indices) == ("given", (0, 2))
        assert any("selected on" in note and "a.h5" in note for note in second.notes)

    def test_the_selection_of_another_encoder_is_refused(self, tmp_path, as_h5, encoder):
        data = as_h5(tmp_path / "d.h5", images_of(20))
        select_latents(encoder, data, tmp_path / "a")
        other = Linear(5, seed=7).save(tmp_path / "other.onnx")
        with pytest.raises(OptionError, match=r"of another encoder.*pass --dimensions"):
            select_latents(other, data, tmp_path / "b", selection=tmp_path / "a")
        with pytest.raises(RecordError, match="not an analysis record"):
            select_latents(encoder, data, tmp_path / "b", selection=tmp_path / "nothing")
        given = select_latents(encoder, data, tmp_path / "c", selection=tmp_path / "a" / "selection.json")
        assert given.selection.rule == "given"
        assert not (tmp_path / "b").exists()

    @pytest.mark.parametrize(
        ("options", "found"),
        [
            ({"dimensions": (0, 5)}, "0, 5"),
            ({"dimensions": (-1,)}, "-1"),
            ({"dimensions": (2, 2)}, "2, 2"),
            ({"dimensions": (0,), "rule": "p"}, "--dimensions and --rule"),
            ({"selection": "a", "threshold": 0.1}, "--selection and --threshold"),
        ],
    )
    def test_what_cannot_be_kept_is_refused(self, tmp_path, as_h5, encoder, options, found):
        with pytest.raises(OptionError, match=f"found {found}"):
            select_latents(encoder, as_h5(tmp_path / "d.h5", images_of(20)), tmp_path / "b", **options)

    @pytest.mark.parametrize("words", [["--dimensions", "0,x"], ["--dimensions", "0,7"], ["--selection", "nothing"]])
    def test_the_command_line_says_so_in_a_sentence(self, tmp_path, as_h5, encoder, commands, words):
        data = as_h5(tmp_path / "d.h5", images_of(20))
        found = commands("select-latents", encoder, data, "-o", "out", *words)
        assert (found.returncode, found.stdout) == (2, "")
        assert found.stderr.splitlines()[-1].startswith("Error: ")
        assert "Traceback" not in found.stderr

    def test_the_command_line_keeps_them(self, tmp_path, as_h5, encoder, commands):
        data = as_h5(tmp_path / "d.h5", images_of(20))
        found = commands("select-latents", encoder, data, "-o", "out", "--dimensions", "4,0", "--json")
        assert json.loads(found.stdout)["selection"]["informative"] == [0, 4]


class TestDeterministicCodes:
    @pytest.fixture
    def record(self, tmp_path, as_h5):
        linear = Linear(3, unit=1.0)
        linear.mu_weight[:, 1] = 0
        encoder = linear.save(tmp_path / "e.onnx", metadata=None, sample_type="float32", names=("codes", "other"))
        images = images_of(200)
        return select_latents(encoder, as_h5(tmp_path / "d.h5", images), tmp_path / "out", heads=HeadNames(mu="codes"))

    def test_only_the_rules_that_apply_are_used(self, record):
        assert record.model.family == "deterministic"
        assert [rule.rule for rule in record.rules] == ["active"]
        assert record.selection.informative == (True, False, True)
        row = record.dimensions[0]
        assert (row.posterior_variance, row.rate, row.information, row.snr, row.type) == (None,) * 5
        assert record.sample_metrics is None
        assert any("codes are deterministic" in note for note in record.notes)
        assert "mu_variance" in row.intervals

    def test_codes_are_kept_to_a_thousandth_of_their_deviation(self, record, tmp_path):
        values, _, _ = read_latents(tmp_path / "out" / "latents.h5")
        linear = Linear(3, unit=1.0)
        mu = linear.heads(images_of(200) / 255)[0][:, [0, 2]]
        error = (values - mu).std(axis=0) / mu.std(axis=0)
        assert (error < 1.1e-3).all()
        assert (error > 0.5e-3).all()

    def test_rules_that_do_not_apply_are_refused(self, tmp_path, as_h5):
        encoder = Linear(3).save(tmp_path / "e.onnx", metadata=None, sample_type="float32", names=("codes", "other"))
        data = as_h5(tmp_path / "d.h5", images_of(20))
        with pytest.raises(OptionError, match=r"rule information does not apply.*expected one of active"):
            select_latents(encoder, data, tmp_path / "o", heads=HeadNames(mu="codes"), rule="information")

    def test_one_image_decides_nothing(self, tmp_path, as_h5):
        encoder = Linear(3).save(tmp_path / "e.onnx", metadata=None, sample_type="float32", names=("codes", "other"))
        with pytest.raises(OptionError, match=r"rule active cannot judge.*at least two images"):
            select_latents(encoder, as_h5(tmp_path / "d.h5", images_of(1)), tmp_path / "o", heads=HeadNames(mu="codes"))
        assert not (tmp_path / "o").exists()


class TestSpatialLatents:
    """mu is the image itself, (N, 3, 8, 8): three channels at 64 positions."""

    @pytest.fixture
    def encoder(self, tmp_path):
        steps = nodes(("Identity", "image", "mu"), ("Sub", "image eight", "logvar"))
        return write(tmp_path / "e.onnx", steps, ("mu", "logvar"), values={"eight": np.float32(8)})

    @pytest.fixture
    def images(self):
        return np.random.default_rng(0).uniform(0, 1, (50, 8, 8, 3)).astype(np.float32)

    def test_every_position_is_a_sample_of_the_channels(self, tmp_path, as_h5, encoder, images):
        record = select_latents(encoder, as_h5(tmp_path / "d.h5", images), tmp_path / "out")
        assert (record.model.latent_dim, record.model.positions) == (3, 64)
        rows = images.reshape(-1, 3).astype(np.float64)
        np.testing.assert_allclose(record.covariance, np.cov(rows.T), rtol=1e-6, atol=1e-9)
        np.testing.assert_allclose([r.mu_mean for r in record.dimensions], rows.mean(0), rtol=1e-9)
        assert record.data.n_images == 50

    def test_the_latent_file_holds_every_position(self, tmp_path, as_h5, encoder, images):
        select_latents(encoder, as_h5(tmp_path / "d.h5", images), tmp_path / "out", dimensions=(0, 2))
        values, identifiers, dimensions = read_latents(tmp_path / "out" / "latents.h5")
        assert values.shape == (50, 128)
        assert dimensions.tolist() == [0, 2] * 64
        step = steps_of(tmp_path / "out")
        assert (np.abs(values - images[..., [0, 2]].reshape(50, -1)) <= step / 2 + 1e-6).all()
        assert identifiers.tolist() == list(range(50))

    def test_positions_as_dimensions(self, tmp_path, as_h5, encoder, images):
        data = as_h5(tmp_path / "d.h5", images)
        record = select_latents(encoder, data, tmp_path / "out", input_options=InputOptions(spatial="position"))
        assert (record.model.latent_dim, record.model.positions) == (192, 1)
        flat = images.transpose(0, 3, 1, 2).reshape(50, -1).astype(np.float64)
        np.testing.assert_allclose([r.mu_mean for r in record.dimensions], flat.mean(0), rtol=1e-6)

    def test_positions_are_not_taken_for_channels(self, tmp_path, as_h5, encoder, images):
        from ngvae_tools.workflows.prune import prune

        data, by_position = as_h5(tmp_path / "d.h5", images), InputOptions(spatial="position")
        select_latents(encoder, data, tmp_path / "a", dimensions=(0, 2), input_options=by_position)
        with pytest.raises(OptionError, match=r"K = 192, 1 positions.*found gaussian, K = 3, 64 positions.*--spatial"):
            select_latents(encoder, data, tmp_path / "b", selection=tmp_path / "a")
        with pytest.raises(ContractError, match=r"does not fit the selection.*192 latent dimensions, found 3"):
            prune(encoder, tmp_path / "pruned", selection=tmp_path / "a")

    def test_more_dimensions_than_a_covariance_has_room_for(self, tmp_path, as_h5):
        steps = nodes(("Identity", "image", "mu"), ("Identity", "image", "logvar"))
        encoder = write(tmp_path / "e.onnx", steps, ("mu", "logvar"), axes=("N", 3, 32, 32))
        data = as_h5(tmp_path / "d.h5", np.zeros((4, 32, 32, 3), dtype=np.float32))
        with pytest.raises(ContractError, match=r"at most 2048.*found 3072.*--spatial position out"):
            select_latents(encoder, data, tmp_path / "out", input_options=InputOptions(spatial="position"))

    def test_a_decoder_needs_one_latent_an_image(self, tmp_path, as_h5, encoder, images):
        with pytest.raises(OptionError, match=r"found 64 positions.*--spatial position"):
            select_latents(encoder, as_h5(tmp_path / "d.h5", images), tmp_path / "out", decoder=tmp_path / "d.onnx")


class TestFloatSamples:
    """mu is a linear function of what the graph is fed, with the input range -1 to 1."""

    @pytest.fixture
    def analyse(self, tmp_path, as_h5):
        linear = Linear(2, second="logvar", constant=-2.0, unit=1.0)
        encoder = linear.save(tmp_path / "e.onnx", metadata=None, sample_type="float32")

        def run(images, **names):
            record = select_latents(
                encoder,
                as_h5(tmp_path / "d.h5", images),
                tmp_path / "out",
                input_options=InputOptions(low=-1.0, high=1.0),
                overwrite=True,
                **names,
            )
            return record, linear

        return run

    def test_the_same_images_in_any_type_give_the_same_latents(self, analyse):
        images = images_of(50)
        means = []
        for samples in (images, images.astype(np.uint16) * 257, (images / 255).astype(np.float32)):
            record, linear = analyse(samples)
            means.append([row.mu_mean for row in record.dimensions])
        truth = linear.heads(images / 127.5 - 1)[0].mean(axis=0)
        np.testing.assert_allclose(means, [truth] * 3, rtol=1e-4)
        assert any("brought from 0 to 1 to -1 to 1" in note for note in record.notes)

    def test_samples_in_the_range_are_taken_as_they_are(self, analyse):
        images = (images_of(50) / 127.5 - 1).astype(np.float32)
        record, linear = analyse(images)
        np.testing.assert_allclose([r.mu_mean for r in record.dimensions], linear.heads(images)[0].mean(0), rtol=1e-4)
        (note,) = [note for note in record.notes if note.startswith("The float samples")]
        assert note.endswith("are given to the encoder as they are.")

    def test_samples_beyond_the_range_are_doubted(self, analyse):
        record, _ = analyse(images_of(50).astype(np.float32))
        assert any("as they are, beyond -1 to 1: see --input-range" in note for note in record.notes)


def test_a_selection_remembers_how_the_model_was_read(tmp_path, as_h5):
    linear = Linear(3, second="logvar", constant=[-3.0, 0.0, -3.0], unit=1.0)
    encoder = linear.save(tmp_path / "e.onnx", metadata=None, sample_type="float32", names=("fc21", "fc22"))
    data = as_h5(tmp_path / "d.h5", images_of(40))
    names = HeadNames(mu="fc21", logvar="fc22")
    first = select_latents(encoder, data, tmp_path / "a", heads=names, input_options=InputOptions(low=-1.0, high=1.0))
    assert first.model.reading == "gaussian, K = 3, 1 positions, logvar from fc22, mu from fc21, input from -1 to 1"
    again = select_latents(encoder, data, tmp_path / "b", selection=tmp_path / "a" / "selection.json")
    assert again.selection.indices == first.selection.indices == (0, 2)
    assert [row.mu_mean for row in again.dimensions] == [row.mu_mean for row in first.dimensions]
    with pytest.raises(OptionError, match=r"reads the encoder differently.*found .*input from 0 to 1"):
        select_latents(
            encoder, data, tmp_path / "c", selection=tmp_path / "a", input_options=InputOptions(low=0.0, high=1.0)
        )
