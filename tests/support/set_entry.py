#!/usr/bin/env python3
"""Gives an entry of the block table of a VHD, VHDX or VDI image that platter made another value.

usage: set_entry.py FORMAT IMAGE INDEX VALUE; VALUE "first" is what entry 0 has.
"""
import struct
import sys

PLACES = {"vhd": (1536, ">I"), "vhdx": (3 << 20, "<Q"), "vdi": (1 << 20, "<I")}


def main():
    image_format, name, index, value = sys.argv[1:]
    at, form = PLACES[image_format]
    size = struct.calcsize(form)
    with open(name, "r+b") as file:
        file.seek(at)
        first = struct.unpack(form, file.read(size))[0]
        file.seek(at + int(index) * size)
        file.write(struct.pack(form, first if value == "first" else int(value, 0)))


main()
