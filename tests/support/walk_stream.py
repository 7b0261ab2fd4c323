#!/usr/bin/env python3
"""walk_stream.py FILE - reads a streamOptimized VMDK file strictly, the way VMware's own tools do.

From the front to the back, by the markers alone, and then by the footer and the directory: both
must show the same grains.  Prints "N grains, M tables"; the first thing that is not as it must be
is the error.  Source: VMware, Virtual Disk Format 5.0, "Stream-Optimized Compressed Sparse Extents",
and what ovftool and ESXi insist on (header version 3, no grain of zeros, nothing at the end)."""
import struct
import sys
import zlib

SECTOR = 512
HEADER = struct.Struct("<4sIIQQQQIQQQB4sH")
AT_END = 2**64 - 1
TABLE, DIRECTORY, FOOTER, END = 1, 2, 3, 0


def want(condition, message):
    if not condition:
        sys.exit(f"walk_stream: {message}")


def header_at(data, at):
    names = ("magic version flags capacity grain descriptor_at descriptor_size entries rgd gd "
             "overhead unclean newlines algorithm").split()
    return dict(zip(names, HEADER.unpack_from(data, at)))


def check_header(h, what):
    want(h["magic"] == b"KDMV" and h["version"] == 3, f"{what}: magic or version: {h}")
    want(h["flags"] == 0x30001 and h["algorithm"] == 1, f"{what}: flags or algorithm: {h}")
    want(h["newlines"] == b"\n \r\n" and not h["unclean"], f"{what}: line ends or unclean: {h}")
    want(h["entries"] == 512 and h["rgd"] == 0, f"{what}: tables: {h}")
    want(h["grain"] & (h["grain"] - 1) == 0 and h["grain"] > 8, f"{what}: grain size: {h}")


def read_grain(data, at, h, last):
    lba, size = struct.unpack_from("<QI", data, at)
    want(lba % h["grain"] == 0 and last < lba < h["capacity"], f"grain at {at}: LBA {lba}")
    end = at + 12 + size
    want(end <= len(data), f"grain at {at}: {size} bytes pass the end")
    unpacker = zlib.decompressobj()
    plain = unpacker.decompress(data[at + 12:end])
    want(unpacker.eof and not unpacker.unused_data, f"grain at {at}: not one zlib stream")
    want(len(plain) == h["grain"] * SECTOR, f"grain at {at}: {len(plain)} bytes")
    want(any(plain), f"grain at {at}: all zeros")
    padded = -(-end // SECTOR) * SECTOR
    want(not any(data[end:padded]), f"grain at {at}: padding")
    return lba, padded


def entries_of(data, sector, count):
    return struct.unpack_from(f"<{count}I", data, sector * SECTOR)


def main(data):
    want(len(data) % SECTOR == 0, "no whole sectors")
    h = header_at(data, 0)
    check_header(h, "header")
    want(h["gd"] == AT_END, "header: the directory is not at the end")
    want(h["descriptor_at"] == 1, "header: no descriptor")
    text = data[SECTOR:SECTOR * (1 + h["descriptor_size"])].rstrip(b"\0")
    want(b'createType="streamOptimized"' in text and b"\0" not in text, "descriptor")
    grains, tables, state, last, pending = {}, {}, None, -1, {}
    at = h["overhead"] * SECTOR
    while True:
        want(at + SECTOR <= len(data), "no end of stream")
        value, size, kind = struct.unpack_from("<QII", data, at)
        if size:
            want(state in (None, TABLE), f"grain at {at} behind the directory")
            pending[value // h["grain"]] = at // SECTOR
            last, at = read_grain(data, at, h, last)
            grains.update(pending)
            continue
        want(not any(data[at + 16:at + SECTOR]), f"marker at {at}: not empty")
        state, here = kind, at // SECTOR + 1
        if kind == TABLE:
            want(value == 4, f"table at {at}: {value} sectors")
            index = min(pending) // 512
            wanted = [pending.pop(index * 512 + i, 0) for i in range(512)]
            want(not pending, f"table at {at}: grains of another table before it")
            want(list(entries_of(data, here, 512)) == wanted, f"table at {at}: entries")
            tables[index] = here
        elif kind == DIRECTORY:
            want(not pending, "directory: grains without a table")
            count = -(-h["capacity"] // (h["grain"] * 512))
            want(value == -(-count * 4 // SECTOR), f"directory: {value} sectors")
            directory = here
            want([tables.get(i, 0) for i in range(count)] == list(entries_of(data, here, count)),
                 "directory: entries")
        elif kind == FOOTER:
            want(value == 1, f"footer: {value} sectors")
            f = header_at(data, at + SECTOR)
            check_header(f, "footer")
            want(f["gd"] == directory, "footer: the directory's place")
            want({**f, "gd": AT_END} == h, "footer: not the header's values")
        else:
            want(kind == END and value == 0, f"marker at {at}: kind {kind}")
            want(at + SECTOR == len(data), "bytes behind the end of the stream")
            break
        at += SECTOR * (1 + value)
    want(state == END and f, "no footer")
    print(f"{len(grains)} grains, {len(tables)} tables")


with open(sys.argv[1], "rb") as stream:
    main(stream.read())
