"""report: gather analyses and training runs, and write the page."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Sequence
from pathlib import Path

from ngvae_tools.files import refuse_existing
from ngvae_tools.report.sources import Sources, find_sources, open_sources


def report(
    sources: Sequence[str | os.PathLike[str]] | None = None,
    *,
    html: str | os.PathLike[str] | None = None,
    overwrite: bool = False,
) -> Sources:
    """Read analyses and training runs, match the dimensions of analyses of the same data, and write a page where asked.

    Args:
        sources: Output folders of select-latents and run folders; every one below the current folder by default.
        html: The page to write.
        overwrite: Replace a page that is there.

    Raises:
        OutputError: The page exists or cannot be written.
        RecordError: A source cannot be read, or there is none.
    """
    if html is not None:
        refuse_existing(Path(html), overwrite=overwrite, found="something of that name")
    found = open_sources([Path(source) for source in sources]) if sources else find_sources(Path())
    seen = [named.record.data.fingerprint for named in found.analyses]
    # Analyses that were named are matched, or told why not; among those found, only those of the same data.
    if len(set(seen)) < len(seen) or (sources and len(seen) > 1):
        from ngvae_tools.workflows.stability import stability

        found = dataclasses.replace(found, stability=stability(found.analyses))
    if html is not None:
        from ngvae_tools.report.html import write_html

        write_html(found, Path(html))
    return found
