"""Images in a column of Parquet files."""

from __future__ import annotations

import os
from collections.abc import Generator, Sequence
from contextlib import closing, contextmanager
from typing import TYPE_CHECKING, Any, Literal

from ngvae_tools.contract import Resize
from ngvae_tools.datasets.base import ImageShape
from ngvae_tools.datasets.columns import require_pyarrow
from ngvae_tools.datasets.listing import files_below
from ngvae_tools.datasets.sources import Source
from ngvae_tools.datasets.tables import BATCH_BYTES, Part, TableImages
from ngvae_tools.errors import DatasetError

if TYPE_CHECKING:
    import numpy.typing as npt

_BUFFER = 2**20
# Where images are alike they are stored once, and the size of the column says less than what is read.
_MAX_ROWS = 256


class ParquetImages(TableImages):
    """Encoded images in a column of one Parquet file, or of all below a folder in the order of their paths.

    The column holds bytes, or structs of bytes and path as Hugging Face's do; a path alone is not followed.

    Args:
        path: The file or folder, or its URL.
        dataset_key: The column's name; None: see `image_column`.
        image_shape: See `EncodedImages`.
        dtype: See `EncodedImages`.
        resize: See `EncodedImages`.

    Raises:
        DatasetError: A file cannot be read, or has no such column.
        MissingDependencyError: pyarrow is not installed.
        OptionError: The requested shape, dtype or resizing cannot be used.
    """

    kind: Literal["parquet"] = "parquet"

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        dataset_key: str | None = None,
        image_shape: ImageShape | None = None,
        dtype: npt.DTypeLike | None = None,
        resize: Resize | None = None,
    ) -> None:
        super().__init__(path, image_shape=image_shape, dtype=dtype, resize=resize)
        require_pyarrow(self.location)
        self._files = [source for _, source in files_below(self.path, ".parquet")]
        self._batch: dict[tuple[int, int], int] = {}
        groups = []
        for number, source in enumerate(self._files):
            with _opened(source) as file:
                self._take_schema(file.schema_arrow, dataset_key, source.location)
                for group in range(file.metadata.num_row_groups):
                    about = file.metadata.row_group(group)
                    size = sum(
                        chunk.total_uncompressed_size
                        for chunk in map(about.column, range(about.num_columns))
                        if chunk.path_in_schema.split(".")[0] == self.key
                    )
                    rows = max(int(about.num_rows), 0)
                    groups.append((number, group, rows))
                    self._batch[number, group] = max(min(BATCH_BYTES * rows // max(size, 1), rows, _MAX_ROWS), 1)
        self._settle(groups, max(self._batch.values(), default=1))

    def _columns(self, names: Sequence[str]) -> dict[str, list[Any]]:
        columns: dict[str, list[Any]] = {name: [] for name in names}
        for source in self._files:
            with _opened(source) as file:
                table = file.read(columns=list(names))
            for name in names:
                columns[name] += table[name].to_pylist()
        return columns

    def _stream(self, part: Part) -> Generator[Any]:
        import pyarrow.parquet as pq

        with self._files[part.file].open() as raw, closing(pq.ParquetFile(raw, buffer_size=_BUFFER)) as file:
            size = self._batch[part.file, part.place]
            for batch in file.iter_batches(size, row_groups=[part.place], columns=[self.key], use_threads=False):
                yield batch.column(0)


@contextmanager
def _opened(source: Source) -> Generator[Any]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        with source.open() as raw, closing(pq.ParquetFile(raw)) as file:
            yield file
    except (pa.ArrowException, OSError, ValueError, MemoryError) as error:
        raise DatasetError(
            f"{source.location} cannot be read",
            expected="an undamaged Parquet file",
            found=" ".join(str(error).split())[:200] or type(error).__name__,
            remedy="check the file, or fetch it again",
        ) from error
