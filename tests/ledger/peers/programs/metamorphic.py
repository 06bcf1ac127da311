"""Checks with the Rust library metamorphic-log: reads a JSON question on standard input, fails on a lie."""

import json
import sys
from base64 import b64decode

import metamorphic_log as log

question = json.load(sys.stdin)
note, vkeys = question["note"], question["vkeys"]
head = log.checkpoint_verify(note, vkeys)
for index, leaf, proof in question["inclusion"]:
    log.checkpoint_verify_inclusion(note, vkeys, index, b64decode(leaf), [b64decode(value) for value in proof])
consistency = [b64decode(value) for value in question["consistency"]]
log.checkpoint_verify_consistency(question["old"], note, vkeys, consistency)
sys.stdout.write(str(head))
