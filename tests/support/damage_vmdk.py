#!/usr/bin/env python3
"""damage_vmdk.py FILE KIND - breaks one thing of a VMDK file in place.

Of a hosted sparse extent with a redundant directory (what platter and qemu-img make):
  past-end     the first grain's entry, in both copies, points behind the file
  into-header  the same into the header
  orphan       the first grain loses its entries
  twice        the second grain shows the first one's place
  one-copy     the redundant copy alone loses the first grain's entry
  primary      the directory's first entry points behind the file
  capacity     2^60 sectors
  unclean      the mark "not closed properly"
Of a stream:
  order        the first two grains' LBAs change places
  lba          the first grain's LBA is that of another grain
  size         the first grain's marker says 4 GiB
  no-footer    the footer and what follows it are cut off
  two-footers  footer and end of stream once more
  loop         the footer's directory place is that of the footer itself
  footer-end   the footer says "at the end" as the header does
  truncated    a quarter is gone
  table-self   the directory's first entry shows the directory
"""
import struct
import sys

SECTOR = 512
END = 4 * SECTOR  # of a stream: marker, footer, end of stream; from the end: 3 sectors


def get(data, at, kind="<I"):
    return struct.unpack_from(kind, data, at)[0]


def put(data, at, value, kind="<I"):
    struct.pack_into(kind, data, at, value)


def tables(data):
    """Byte offsets of the first entry of the first tables: redundant, primary."""
    return [get(data, get(data, at, "<Q") * SECTOR) * SECTOR for at in (48, 56)]


def first_entry(data, table):
    return next(at for at in range(table, table + 2048, 4) if get(data, at) > 1)


def grains(data):
    """Byte offsets of a stream's first two grain markers."""
    at = get(data, 64, "<Q") * SECTOR
    return at, at + -(-(12 + get(data, at + 8)) // SECTOR) * SECTOR


def entries(data, value):
    for table in tables(data):
        put(data, first_entry(data, table), value)


def damage(data, kind):
    if kind == "past-end":
        entries(data, len(data) // SECTOR + 1000)
    elif kind == "into-header":
        entries(data, 1)
        entries(data, 2)
    elif kind == "orphan":
        entries(data, 0)
    elif kind == "twice":
        for table in tables(data):
            at = first_entry(data, table)
            put(data, first_entry(data, at + 4), get(data, at))
    elif kind == "one-copy":
        put(data, first_entry(data, tables(data)[0]), 0)
    elif kind == "primary":
        put(data, get(data, 56, "<Q") * SECTOR, len(data) // SECTOR + 1000)
    elif kind == "capacity":
        put(data, 12, 2**60, "<Q")
    elif kind == "unclean":
        data[72] = 1
    elif kind == "order":
        a, b = grains(data)
        first, second = get(data, a, "<Q"), get(data, b, "<Q")
        put(data, a, second, "<Q")
        put(data, b, first, "<Q")
    elif kind == "lba":
        put(data, grains(data)[0], 1 << 40, "<Q")
    elif kind == "size":
        put(data, grains(data)[0] + 8, 0xffffffff)
    elif kind == "no-footer":
        del data[-3 * SECTOR:]
    elif kind == "two-footers":
        data += data[-3 * SECTOR:]
    elif kind == "loop":
        put(data, len(data) - 2 * SECTOR + 56, len(data) // SECTOR - 2, "<Q")
    elif kind == "footer-end":
        put(data, len(data) - 2 * SECTOR + 56, 2**64 - 1, "<Q")
    elif kind == "truncated":
        del data[len(data) * 3 // 4:]
    elif kind == "table-self":
        directory = get(data, len(data) - 2 * SECTOR + 56, "<Q")
        put(data, directory * SECTOR, directory)
    else:
        sys.exit(f"damage_vmdk: {kind}: no such kind")


with open(sys.argv[1], "rb") as stream:
    content = bytearray(stream.read())
damage(content, sys.argv[2])
with open(sys.argv[1], "wb") as stream:
    stream.write(content)
