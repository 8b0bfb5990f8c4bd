"""Images in a column of Arrow files, as Hugging Face's `save_to_disk` writes them."""

from __future__ import annotations

import json
import os
from collections.abc import Generator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from ngvae_tools.contract import Resize
from ngvae_tools.datasets.arrow_messages import Message, walk
from ngvae_tools.datasets.base import ImageShape
from ngvae_tools.datasets.columns import require_pyarrow
from ngvae_tools.datasets.listing import Listed, files_below
from ngvae_tools.datasets.places import Place
from ngvae_tools.datasets.sources import Source
from ngvae_tools.datasets.tables import Part, TableImages
from ngvae_tools.errors import DatasetError

if TYPE_CHECKING:
    import numpy.typing as npt

_SPLITS = "dataset_dict.json"
_STATE = "state.json"


class ArrowImages(TableImages):
    """Encoded images in a column of one Arrow file (stream or file format), or of a folder of them.

    A folder of `save_to_disk` has them in the order of its `state.json`, others in the order of their paths.

    Args:
        path: The file or folder, or its URL.
        dataset_key: The column's name; None: see `image_column`.
        image_shape: See `EncodedImages`.
        dtype: See `EncodedImages`.
        resize: See `EncodedImages`.

    Raises:
        DatasetError: A file cannot be read or has no such column, or the folder holds several splits.
        MissingDependencyError: pyarrow is not installed.
        OptionError: The requested shape, dtype or resizing cannot be used.
    """

    kind: Literal["arrow"] = "arrow"

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
        self._files = [source for _, source in _ordered(self.path)]
        self._schemas: list[bytes] = []
        self._messages: list[Message] = []
        parts = []
        for number, source in enumerate(self._files):
            schema, batches = walk(source)
            self._take_schema(_schema(schema, source), dataset_key, source.location)
            self._schemas.append(schema)
            for batch in batches:
                parts.append((number, len(self._messages), batch.rows))
                self._messages.append(batch)
        self._settle(parts, max((batch.rows for batch in self._messages), default=1))

    def _columns(self, names: Sequence[str]) -> dict[str, list[Any]]:
        columns: dict[str, list[Any]] = {name: [] for name in names}
        for part in self._parts:
            try:
                batch = self._batch(part)
            except DatasetError:
                raise
            except Exception:  # noqa: BLE001 (its images are rejected)
                for name in names:
                    columns[name] += [None] * part.rows
                continue
            for name in names:
                columns[name] += batch.column(name).to_pylist()
        return columns

    def _stream(self, part: Part) -> Generator[Any]:
        yield self._batch(part).column(self.key)

    def _batch(self, part: Part) -> Any:
        import pyarrow as pa

        source, message = self._files[part.file], self._messages[part.place]
        data = source.read(message.offset, message.length)
        batch = pa.ipc.read_record_batch(pa.ipc.read_message(data), _schema(self._schemas[part.file], source))
        if batch.num_rows != part.rows:
            raise ValueError(f"{batch.num_rows} rows are there where {part.rows} are stated")
        return batch


def _schema(message: bytes, source: Source) -> Any:
    import pyarrow as pa

    try:
        return pa.ipc.read_schema(pa.py_buffer(message))
    except (pa.ArrowException, OSError, ValueError) as error:
        raise _unusable(
            source.location, "an undamaged Arrow file", str(error), "check it, or write it again"
        ) from error


def _ordered(place: Place) -> list[Listed]:
    if not isinstance(place, Path) or not place.is_dir():
        return files_below(place, ".arrow")
    if (place / _SPLITS).is_file():
        splits = sorted(each.name for each in place.iterdir() if each.is_dir())
        found = ", ".join(splits) or "none"
        raise _unusable(
            str(place), "one split", f"several: {found}", f"name one, such as {place / (splits or ['train'])[0]}"
        )
    files = files_below(place, ".arrow")
    if not (place / _STATE).is_file():
        return files
    known = {os.fsdecode(name): (name, source) for name, source in files}
    try:
        state = json.loads((place / _STATE).read_text(encoding="utf-8"))
        names = [each["filename"] for each in state["_data_files"]]
        return [known[name] for name in names]
    except (OSError, ValueError, KeyError, TypeError) as error:
        what = f"a {_STATE} that names .arrow files of this folder"
        raise _unusable(str(place), what, f"{type(error).__name__}: {error}", "save the data set again") from error


def _unusable(location: str, expected: str, found: str, remedy: str) -> DatasetError:
    return DatasetError(f"{location} cannot be read", expected=expected, found=found, remedy=remedy)
