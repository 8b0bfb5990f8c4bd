"""Whether an analysis still tells of the latent file beside it, to which images may have been added since."""

from __future__ import annotations

from pathlib import Path

from ngvae_tools.errors import NgvaeToolsError
from ngvae_tools.files import sha256_of
from ngvae_tools.reporting.sources import NamedAnalysis
from ngvae_tools.reporting.words import plain, plural

HASHED_BYTES = 2**26
"""Bytes up to which a latent file of the size that the record says is hashed too."""


def stale(named: NamedAnalysis) -> str | None:
    """Why a record does not tell of the latent file beside it, a sentence; None: it does, or there is none."""
    told, path = named.record.latents, named.folder / Path(named.record.latents.file).name
    try:
        if not path.is_file():
            return None
        size = path.stat().st_size
        if size == told.bytes and (size > HASHED_BYTES or sha256_of(path) == told.sha256):
            return None
        from ngvae_tools.latents.reader import open_latents

        with open_latents(path) as file:
            rows = len(file)
    except (OSError, NgvaeToolsError):
        found = "cannot be read"
    else:
        before = named.record.data.n_images - named.record.data.n_rejected
        found = "is another" if rows == before else f"holds {plural(rows, 'image', 'images')} in place of {before:,}"
    return (
        f"{plain(path.name)} has changed since it was analysed, and {found}; what is said here is of the file before. "
        "Run select-latents again on all images."
    )
