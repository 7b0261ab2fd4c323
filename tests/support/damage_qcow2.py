#!/usr/bin/env python3
"""Damages the tables of a qcow2 image, in one place.

usage: damage_qcow2.py KIND IMAGE     (KIND "list": prints the kinds)

Guest clusters that are touched are the first ones that have plain data.  Names follow the
specification: docs/interop/qcow2.rst.
"""
import os
import struct
import sys

OFFSET = 0x00FFFFFFFFFFFE00
COPIED = 1 << 63
COMPRESSED = 1 << 62


class Image:
    def __init__(self, path):
        self.file = open(path, "r+b")
        self.bits = self.u32(20)
        self.cluster = 1 << self.bits
        self.l1_size, self.l1 = self.u32(36), self.u64(40)
        self.table, self.table_clusters = self.u64(48), self.u32(56)
        self.order = self.u32(96) if self.u32(4) == 3 else 4
        self.entry_bytes = 16 if self.u32(4) == 3 and self.u64(72) & 16 else 8

    def read(self, at, length):
        self.file.seek(at)
        return self.file.read(length).ljust(length, b"\0")

    def write(self, at, data):
        self.file.seek(at)
        self.file.write(data)

    def u32(self, at):
        return struct.unpack(">I", self.read(at, 4))[0]

    def u64(self, at):
        return struct.unpack(">Q", self.read(at, 8))[0]

    def put64(self, at, value):
        self.write(at, struct.pack(">Q", value & (2**64 - 1)))

    def size(self):
        return os.fstat(self.file.fileno()).st_size

    def entries(self):
        """Places of the L2 entries of plain data, in guest order."""
        for i in range(self.l1_size):
            l2 = self.u64(self.l1 + 8 * i) & OFFSET
            for j in range(self.cluster // self.entry_bytes if l2 else 0):
                at = l2 + j * self.entry_bytes
                entry = self.u64(at)
                if entry & OFFSET and not entry & COMPRESSED and not entry & 1:
                    yield at

    def entry(self, n=0):
        return list(self.entries())[n]

    def own(self):
        """The first entry whose cluster nobody else uses."""
        return next(at for at in self.entries() if self.u64(at) & COPIED)

    def first_l1(self):
        return next(self.l1 + 8 * i for i in range(self.l1_size) if self.u64(self.l1 + 8 * i))

    def refcount(self, cluster, value):
        """Sets the reference count of a host cluster; 8 bits and more."""
        width = 1 << self.order >> 3
        in_block = self.cluster // width
        block = self.u64(self.table + 8 * (cluster // in_block))
        self.write(block + cluster % in_block * width, value.to_bytes(width, "big"))

    def data(self, n=0):
        """The host cluster of the n-th data cluster."""
        return (self.u64(self.entry(n)) & OFFSET) >> self.bits


def leak(i):  # a cluster behind the end that nobody uses
    end = -(-i.size() // i.cluster)
    i.write(end << i.bits, b"x" * i.cluster)
    i.refcount(end, 1)


def refcount_high(i):
    at = i.own()
    i.refcount((i.u64(at) & OFFSET) >> i.bits, 2)
    i.put64(at, i.u64(at) & ~COPIED)


def refcount_zero(i):
    i.refcount(i.data(), 0)


def refcount_zero_of_table(i):
    i.refcount((i.u64(i.first_l1()) & OFFSET) >> i.bits, 0)


def copied_missing(i):
    i.put64(i.own(), i.u64(i.own()) & ~COPIED)


def copied_missing_of_table(i):
    i.put64(i.first_l1(), i.u64(i.first_l1()) & ~COPIED)


def copied_wrong(i):  # two guest clusters in one place, both of which say it is theirs alone
    i.put64(i.entry(1), i.u64(i.entry(0)))


def entry_unaligned(i):
    i.put64(i.entry(), i.u64(i.entry()) + 512)


def entry_past_end(i):
    i.put64(i.entry(), COPIED | 1 << 40)


def entry_of_header(i):  # the header's place means that there is none: its cluster is lost
    i.put64(i.entry(), COPIED)


def entry_onto_table(i):  # guest data in the place of the L1 table
    i.put64(i.entry(), COPIED | i.l1)


def table_past_end(i):
    i.put64(i.first_l1(), COPIED | 1 << 40)


def table_unaligned(i):
    i.put64(i.first_l1(), i.u64(i.first_l1()) + 512)


def blocks_gone(i):
    i.write(i.table, b"\0" * i.cluster)


def block_past_end(i):
    i.put64(i.table, 1 << 40)


def block_unaligned(i):
    i.put64(i.table, i.u64(i.table) + 512)


def block_of_noise(i):
    block = i.u64(i.table)
    i.write(block, bytes((n * 7 + 1) % 251 for n in range(i.cluster)))


def reference_table_past_end(i):
    i.put64(48, 1 << 40)


def dirty(i):
    i.put64(72, i.u64(72) | 1)
    i.refcount(i.data(), 0)


def corrupt_bit(i):
    i.put64(72, i.u64(72) | 2)


KINDS = [leak, refcount_high, refcount_zero, refcount_zero_of_table, copied_missing,
         copied_missing_of_table, copied_wrong, entry_unaligned, entry_past_end, entry_of_header,
         entry_onto_table, table_past_end, table_unaligned, blocks_gone, block_past_end,
         block_unaligned, block_of_noise, reference_table_past_end, dirty, corrupt_bit]


def main():
    if sys.argv[1] == "list":
        print("\n".join(kind.__name__ for kind in KINDS))
    else:
        {kind.__name__: kind for kind in KINDS}[sys.argv[1]](Image(sys.argv[2]))


if __name__ == "__main__":
    main()
