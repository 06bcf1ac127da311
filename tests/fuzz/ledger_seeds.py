"""Where the fuzzing of the ledger's formats begins."""

from ledger.staging import pack_staging
from ledger.tiles import pack_entries


def ledger_seeds() -> list[bytes]:
    """One valid text of each format, behind the byte that chooses it."""
    note = (
        "example.com/foo\n5\n41smjBUiAU70EtKlT6lIOIYtRTYxYXsDB+XHfcvu/BE=\n\n"
        "— example.com/foo "
        "Uw2QOkn8srV1yJGh2VYRlL1Tnagv1YEq6TfXppzi2ONncAlTgK7Ztg1ERYNZXsYjOBH3mFXmRKuwHjG1Yu72IneyaQM=\n"
    ).encode()
    vkey = b"example.com/foo+530d903a+AekyeRrm56hApGFkyQR4ZCbV54Id2LKaANYcrnKv3U2k"
    valid = [
        note,
        note.split(b"\n\n")[0] + b"\n",
        b"c2sp.org/tlog-proof@v1\nextra aGk=\nindex 3\n" + b"A" * 43 + b"=\n\n" + note,
        b"# c\nlog " + vkey + b" https://x/\nquorum none\n",
        vkey,
        b"PRIVATE+KEY+monkeys+db4d9f7e+ATWIAF3yVBG+Hv1rZFQoNt/BaURkLPtOFMAM2HrEeIr6",
        b"tile/entries/x001/x234/067.p/7",
        b"\x02" + pack_entries([b"a", b"bcd"]),
        pack_staging(".state/staging/5-ab", {"tile/0/000.p/1": b"x"}),
        bytes([1]) + bytes(95),
        b"airlock-opening@v1\nsalt " + b"A" * 43 + b"=\npayload e30=\n",
    ]
    return [bytes([choice]) + text for choice, text in enumerate(valid)]
