"""Mutations of latent files, read in a process of its own: `python latent_fuzz.py FOLDER FIRST STOP`.

Prints a line for each seed. A seed that takes too long ends the process, as one does at which HDF5 crashes; whoever
started it sees at which.
"""

import random
import resource
import signal
import sys
import warnings
from pathlib import Path

from hdf5_bytes import blocks_of, repair
from latent_damage import KINDS, everything, sample

from ngvae_tools.errors import RecordError

MEMORY = 3 * 2**30
SECONDS = 20
_TELLING = (0, 1, 2, 3, 0x7F, 0x80, 0xFE, 0xFF)


def prepare(folder):
    """Write the files that are mutated."""
    for kind in KINDS:
        sample(kind, folder / kind, n=60)


def mutated(seed, sound):
    """A mutation of one of the sound files: its kind, what was done, its bytes, and whether checksums were repaired."""
    rng = random.Random(seed)
    kind = rng.choice(sorted(sound))
    data, blocks = bytearray(sound[kind][0]), sound[kind][1]
    if rng.random() < 0.65:
        for _ in range(rng.choice((1, 1, 1, 2, 4))):
            block = rng.choice(blocks)
            _change(rng, data, block, blocks)
            repair(data, block)
        return kind, bytes(data), True
    _damage(rng, data)
    return kind, bytes(data), False


def _change(rng, data, block, blocks):
    """Change the content of a block of metadata."""
    for _ in range(rng.choice((1, 1, 1, 2, 3, 8))):
        # Long runs of zeros are unused.
        places = [k for k in range(block.start + 4, block.stop) if any(data[k - 3 : k + 4])]
        place = rng.choice(places)
        way = rng.randrange(6)
        if way == 0:
            data[place] ^= 1 << rng.randrange(8)
        elif way == 1:
            data[place] = rng.choice(_TELLING)
        elif way == 2:
            data[place] = rng.randrange(256)
        elif way == 3:
            data[place] = (data[place] + rng.choice((-1, 1))) % 256
        elif way == 4:
            size = rng.choice((2, 4, 8))
            addresses = (rng.choice(blocks).start, len(data), rng.randrange(len(data)))
            telling = (0, 1, 2**63, 2**64 - 1, 2**63 - 1, 2**31, 2**32 - 1, *addresses)
            written = (rng.choice(telling) % 2 ** (8 * size)).to_bytes(size, "little")
            stop = min(place + size, block.stop)
            data[place:stop] = written[: stop - place]
        else:
            # Messages of another block of the same kind.
            other = rng.choice([each for each in blocks if each.signature == block.signature])
            size = min(block.stop - block.start, other.stop - other.start)
            data[block.start : block.start + size] = data[other.start : other.start + size]


def _damage(rng, data):
    """Change bytes without looking at them."""
    size = len(data)
    start = rng.randrange(size)
    length = min(rng.choice((1, 4, 16, 256, 4096)), size - start)
    piece = bytes(data[start : start + length])
    way = rng.randrange(7)
    if way == 0:
        for _ in range(rng.choice((1, 2, 8, 64))):
            data[rng.randrange(size)] ^= rng.randrange(1, 256)
    elif way == 1:
        data[start : start + length] = bytes([rng.choice((0, 255))]) * length
    elif way == 2:
        into = rng.randrange(size - length + 1)
        data[into : into + length] = piece
    elif way == 3:
        data[start:start] = piece
    elif way == 4:
        del data[start : start + length]
    elif way == 5:
        del data[start:]
    else:
        data += piece


def judge(path, expected, *, repaired):
    """What became of a mutation: a word, or what is wrong."""
    try:
        found = everything(path)
    except RecordError:
        return "refused"
    except Exception as error:  # noqa: BLE001 - this is what is looked for
        return f"FAULT {type(error).__name__}: {error}".replace("\n", " ")[:300]
    if found == expected:
        return "same"
    return "other" if repaired else "FAULT wrong values"


def main():
    """Read mutations of some seeds."""
    folder, first, stop = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
    warnings.simplefilter("error")
    sound = {kind: (folder / kind).read_bytes() for kind in KINDS}
    sound = {kind: (data, blocks_of(data)) for kind, data in sound.items()}
    expected = {kind: everything(folder / kind) for kind in KINDS}
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    path = folder / f"mutated-{first}"
    for seed in range(first, stop):
        kind, data, repaired = mutated(seed, sound)
        path.write_bytes(data)
        # Ends the process, which nothing in it can keep from happening.
        signal.setitimer(signal.ITIMER_REAL, SECONDS)
        verdict = judge(path, expected[kind], repaired=repaired)
        signal.setitimer(signal.ITIMER_REAL, 0)
        sys.stdout.write(f"{seed} {verdict}\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
