#!/usr/bin/env python3
"""Compares what platter and qemu-img say of an image with --output=json.

usage: same_json.py info|map QEMU_FILE PLATTER_FILE

info: equal but for the bytes that the host keeps.  map: every guest byte has the same state; how
runs are cut, and whether unallocated ranges are called present, does not matter.
"""
import json
import sys


def info(path):
    with open(path) as f:
        facts = json.load(f)
    facts.pop("actual-size", None)
    return facts


def runs(path):
    """The runs of a map, neighbours that say the same joined."""
    with open(path) as f:
        parts = json.load(f)
    joined = []
    for part in parts:
        if not part["length"]:  # of a disk of no bytes
            continue
        state = (part["depth"], part["zero"], part["data"] and not part["zero"])
        offset = part.get("offset") if state[2] else None
        start, length = part["start"], part["length"]
        if joined:
            last_start, last_length, last_state, last_offset = joined[-1]
            assert last_start + last_length == start, f"{path}: a gap before {start}"
            expected = None if last_offset is None else last_offset + last_length
            if last_state == state and expected == offset:
                joined[-1] = (last_start, last_length + length, state, last_offset)
                continue
        joined.append((start, length, state, offset))
    return joined


def main():
    what, theirs, ours = sys.argv[1:]
    read = {"info": info, "map": runs}[what]
    wanted, got = read(theirs), read(ours)
    if wanted == got:
        return 0
    if what == "map":
        for a, b in zip(wanted + [None], got + [None]):
            if a != b:
                print(f"first difference: qemu-img {a}, platter {b}")
                break
    else:
        print(f"qemu-img: {json.dumps(wanted, sort_keys=True)}")
        print(f"platter:  {json.dumps(got, sort_keys=True)}")
    return 1


if __name__ == "__main__":
    sys.exit(main())
