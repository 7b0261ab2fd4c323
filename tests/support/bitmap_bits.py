#!/usr/bin/env python3
"""Prints the bits of a persistent bitmap of a qcow2 image, in hexadecimal; reads the file itself.

usage: bitmap_bits.py IMAGE NAME
"""
import struct
import sys

with open(sys.argv[1], "rb") as file:
    image = file.read()
cluster = 1 << struct.unpack_from(">I", image, 20)[0]
at = struct.unpack_from(">I", image, 100)[0]
while True:
    kind, length = struct.unpack_from(">II", image, at)
    if kind == 0x23852875:
        count, _, _, directory = struct.unpack_from(">IIQQ", image, at + 8)
        break
    if kind == 0:
        sys.exit("no bitmaps")
    at += 8 + (length + 7) // 8 * 8
for _ in range(count):
    table, entries, _, _, _, name_length, extra = struct.unpack_from(">QIIBBHI", image, directory)
    name_at = directory + 24 + extra
    if image[name_at:name_at + name_length].decode() == sys.argv[2]:
        for entry in struct.unpack_from(">%dQ" % entries, image, table):
            off = entry & 0x00fffffffffffe00
            bits = (image[off:off + cluster].ljust(cluster, b"\0") if off
                    else (b"\xff" if entry & 1 else b"\0") * cluster)
            print(bits.hex())
        sys.exit(0)
    directory = (name_at + name_length + 7) // 8 * 8
sys.exit("no such bitmap")
