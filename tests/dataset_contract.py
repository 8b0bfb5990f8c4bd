"""What every data set backend must hold; a test class of a backend inherits it and makes `dataset`."""

import hashlib
import pickle
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest


class DatasetContract:
    """Needs three fixtures.

    `dataset`: at least 5 images, at least one of them unusable unless `spotless`. `good`: the index and the images
    expected. `reopened`: a function that opens the same data again.
    """

    spotless = False

    def test_every_index_is_a_sample_or_a_rejection(self, dataset, good):
        samples, rejections = dataset.read(0, len(dataset))
        assert len(samples) + len(rejections) == len(dataset)
        assert sorted([*samples.index.tolist(), *(r.index for r in rejections)]) == list(range(len(dataset)))
        assert samples.index.tolist() == list(good[0])
        assert bool(rejections) != self.spotless
        assert all(r.reason and r.identifier for r in rejections)

    def test_samples_hold_the_images_in_order(self, dataset, good):
        samples, _ = dataset.read(0, len(dataset))
        assert samples.index.dtype == np.int64
        assert samples.images.dtype == dataset.dtype == good[1].dtype
        assert samples.images.shape[1:] == dataset.image_shape
        np.testing.assert_array_equal(samples.images, good[1])

    def test_ranges_put_together_equal_the_whole(self, dataset):
        whole, rejected = dataset.read(0, len(dataset))
        for size in (1, 2, 3):
            parts = [dataset.read(k, min(k + size, len(dataset))) for k in range(0, len(dataset), size)]
            np.testing.assert_array_equal(np.concatenate([p.images for p, _ in parts]), whole.images)
            assert [r for _, some in parts for r in some] == rejected

    def test_an_empty_range_has_the_shape(self, dataset):
        samples, rejections = dataset.read(2, 2)
        assert samples.images.shape == (0, *dataset.image_shape)
        assert not rejections
        assert len(dataset.identifiers(2, 2)) == 0

    @pytest.mark.parametrize("bounds", [(-1, 2), (3, 2), (0, 10_000)])
    def test_ranges_outside_are_refused(self, dataset, bounds):
        with pytest.raises(IndexError):
            dataset.read(*bounds)
        with pytest.raises(IndexError):
            dataset.identifiers(*bounds)

    def test_threads_read_the_same(self, dataset):
        whole, _ = dataset.read(0, len(dataset))
        with ThreadPoolExecutor(4) as pool:
            for samples, _ in pool.map(lambda _: dataset.read(0, len(dataset)), range(16)):
                np.testing.assert_array_equal(samples.images, whole.images)

    def test_rejections_are_named_as_identifiers(self, dataset):
        names = dataset.identifiers(0, len(dataset))
        for rejection in dataset.read(0, len(dataset))[1]:
            name = names[rejection.index]
            expected = name if isinstance(name, bytes) else str(name).encode()
            assert rejection.identifier.encode(errors="surrogateescape") == expected

    def test_fingerprint_is_stable_and_is_sha256(self, dataset, reopened):
        assert len(dataset.fingerprint()) == 2 * hashlib.sha256().digest_size
        with reopened() as again:
            assert again.fingerprint() == dataset.fingerprint()

    def test_it_reads_again_after_close_and_pickling(self, dataset, good):
        dataset.read(0, 1)
        copy = pickle.loads(pickle.dumps(dataset))
        dataset.close()
        dataset.close()
        for again in (dataset, copy):
            np.testing.assert_array_equal(again.read(0, len(again))[0].images, good[1])
            again.close()
