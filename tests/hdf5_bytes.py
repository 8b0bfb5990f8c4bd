"""The blocks of an HDF5 file that describe its data, each of which ends with a checksum, and that checksum.

The format: https://support.hdfgroup.org/documentation/hdf5/latest/_f_m_t3.html
"""

from dataclasses import dataclass

SIGNATURES = (
    *(b"OHDR", b"OCHK", b"FAHD", b"FADB", b"EAHD", b"EAIB", b"EADB", b"EASB", b"BTHD", b"BTIN", b"BTLF"),
    *(b"FRHP", b"FHIB", b"FSHD", b"FSSE", b"SMTB", b"SMLI"),
)
_SUPERBLOCK = 48
_LONGEST = 2048
_WORD = 2**32 - 1


@dataclass(frozen=True)
class Block:
    """Bytes from `start` to `stop`, whose checksum lies at `checksum`."""

    signature: bytes
    start: int
    stop: int
    checksum: int


def lookup3(data):
    """Bob Jenkins' hash of 2006, as HDF5 uses it."""
    a = b = c = (0xDEADBEEF + len(data)) & _WORD
    if not data:
        return c
    whole = (len(data) - 1) // 12 * 12
    words = memoryview(bytes(data[:whole])).cast("I")
    for k in range(0, whole // 4, 3):
        a, b, c = (a + words[k]) & _WORD, (b + words[k + 1]) & _WORD, (c + words[k + 2]) & _WORD
        a = (a - c & _WORD) ^ _turned(c, 4)
        c = c + b & _WORD
        b = (b - a & _WORD) ^ _turned(a, 6)
        a = a + c & _WORD
        c = (c - b & _WORD) ^ _turned(b, 8)
        b = b + a & _WORD
        a = (a - c & _WORD) ^ _turned(c, 16)
        c = c + b & _WORD
        b = (b - a & _WORD) ^ _turned(a, 19)
        a = a + c & _WORD
        c = (c - b & _WORD) ^ _turned(b, 4)
        b = b + a & _WORD
    last = memoryview(bytes(data[whole:]).ljust(12, b"\0")).cast("I")
    a, b, c = (a + last[0]) & _WORD, (b + last[1]) & _WORD, (c + last[2]) & _WORD
    c = (c ^ b) - _turned(b, 14) & _WORD
    a = (a ^ c) - _turned(c, 11) & _WORD
    b = (b ^ a) - _turned(a, 25) & _WORD
    c = (c ^ b) - _turned(b, 16) & _WORD
    a = (a ^ c) - _turned(c, 4) & _WORD
    b = (b ^ a) - _turned(a, 14) & _WORD
    return (c ^ b) - _turned(b, 24) & _WORD


def _turned(x, k):
    return (x << k | x >> 32 - k) & _WORD


def blocks_of(data):
    """All blocks of a sound file: where each ends is where its checksum fits."""
    data = bytes(data)
    found = [Block(b"\x89HDF", 0, _SUPERBLOCK, _SUPERBLOCK - 4)]
    assert _fits(data, found[0])
    for signature in SIGNATURES:
        start = data.find(signature)
        while start >= 0:
            ends = (Block(signature, start, stop, stop - 4) for stop in range(start + 16, start + _LONGEST))
            found.append(next((block for block in ends if _fits(data, block)), None))
            start = data.find(signature, start + 1)
    start = data.find(b"FHDB")
    while start >= 0:
        # The checksum of these lies behind an address of 8 bytes and a number of up to 8.
        ends = (Block(b"FHDB", start, start + 2**k, start + 13 + size) for k in range(9, 13) for size in range(1, 9))
        found.append(next((block for block in ends if _fits(data, block)), None))
        start = data.find(b"FHDB", start + 1)
    return [block for block in found if block]


def repair(data, block):
    """Make the checksum of a block of a bytearray fit."""
    data[block.checksum : block.checksum + 4] = _checksum(data, block).to_bytes(4, "little")


def _fits(data, block):
    return block.stop <= len(data) and data[block.checksum : block.checksum + 4] == _checksum(data, block).to_bytes(
        4, "little"
    )


def _checksum(data, block):
    content = bytes(data[block.start : block.stop])
    place = block.checksum - block.start
    rest = content[place + 4 :]
    return lookup3(content[:place] + bytes(4) + rest if rest else content[:place])
