"""The airlock's cost in CPU time: scanning, whole requests, restoring; beside Presidio's pattern recognisers if asked.

    python benchmarks/bench_airlock.py [--quick]
    AEGIS_PEERS=/path/to/venv python benchmarks/bench_airlock.py    # a venv with presidio-analyzer, no models needed

Dense means one identifier in about 100 characters. Figures are the best of several rounds of user+system time of this
process; the machine should be quiet all the same.
Budgets: clean <= 8 us/KB, words <= 10, dense <= 60, every adversarial 64 KB of UTF-8 <= 40 ms, >= 150 x Presidio's
patterns.
"""

import argparse
import json
import os
import string
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from rich.console import Console
from rich.table import Table

from policies.airlock.config import AirlockConfig
from policies.airlock.redact import AirlockPolicy
from policies.airlock.scan import Scanner
from policies.errors import CapExceededError
from policies.model import (
    Channel,
    ChannelKind,
    DialectName,
    Exchange,
    ExchangeId,
    Forward,
    PolicyRun,
    Role,
    Segment,
    UnixNanos,
)

DENSE = """\
Please summarise the visit of our patient for the referral letter. MRN 74218096, date of birth 04/12/1957, seen on
March 3, 2024 for worsening dyspnoea on exertion and ankle oedema; weight is up four kilograms since the last visit
and the jugular venous pressure is raised. She can be reached at (415) 555-0182 or maria.lopez57@example.com after
working hours. She has a Medicare plan, member ID 1EG4-TE5-MK73, and the pharmacy asks for the SSN 512-44-9021 before
it refills the furosemide. The echocardiogram from 02/27/2024 shows an ejection fraction of 35 percent with global
hypokinesis and moderate mitral regurgitation. The pacemaker, serial number PM-482915-QX, was interrogated without
findings; the device log came from 10.24.118.7 and is attached below for the electrophysiologist. Mail the report to
2217 Alder Creek Drive, Sacramento, CA 95814 and keep a copy for our own files. Bill account number 3019-88421-7, as
agreed with the family when they called. Continue the current medication, repeat the basic metabolic panel next week
and ask the dietician to go over salt restriction with her once more. Explain in plain words why her ankles swell in
the evening and what she should do when her weight goes up again by more than two kilograms within a few days of
leaving the ward.
"""
CLEAN = """\
A middle-aged woman presents with several weeks of progressive fatigue, exertional dyspnoea and swelling of both
ankles. She has a history of hypertension and type 2 diabetes, takes metformin and lisinopril, and does not smoke. On
examination the jugular venous pressure is raised, there are bibasal crackles and a third heart sound. What is the
most likely diagnosis, which investigations would you request first, and how would you start treatment while the
results are pending? Please explain the reasoning behind each step, compare ACE inhibitors with ARNI in this setting,
and say when a beta blocker should be introduced. List common adverse effects and the monitoring that is needed in the
first weeks. Finally, write a short explanation in plain language that could be given to a family who has never heard
of heart failure before.
"""
TRIGGERS = """\
The patient asked the front desk to call her back about the account, and the insurance policy that the group had
changed last year. She said that the provider never answered the phone, that the contact form on the web page was
broken, and that the plan would not cover the visit. The nurse took note of the claim and told the member to reach the
office again in the morning, since the subscriber had to sign the card first. A device such as a pump or a pacemaker
needs a serial check, and the address on file may be wrong. Please draft a polite answer in which the patient learns
how to renew the licence, whom to ring about the certificate, and what the participant in the study has to do before
the next appointment; mention that the text should not name the physician, that no date was fixed, and that a copy
of the record goes to the guardian. The account holder can also fax or mail the signed letter.
"""
NUMBERED = TRIGGERS.replace("last year", "in 2019").replace("the study", "the 2 studies")
TEXTS = {"clean": CLEAN, "words": TRIGGERS, "words, 4 digits": NUMBERED, "dense": DENSE}
"""Words: prose of words that announce identifiers, without any."""
SIZES = (512, 2048, 8192, 65536)
ADVERSARIAL: dict[str, Callable[[int], str]] = {
    "digits": lambda n: _pseudo_random(string.digits, n),
    "digits and separators": lambda n: _pseudo_random(string.digits + "-. /()", n),
    "base64": lambda n: _pseudo_random(string.ascii_letters + string.digits + "+/", n),
    "letters and signs": lambda n: _pseudo_random(string.ascii_letters + string.digits + string.punctuation, n),
    "ab:ab:": lambda n: ("ab:" * n)[:n],
    "123-45-6789 ": lambda n: ("123-45-6789 " * n)[:n],
    "1.": lambda n: ("1." * n)[:n],
    "a.": lambda n: ("a." * n)[:n],
    "a@": lambda n: ("a@" * n)[:n],
    "ssn ": lambda n: ("ssn " * n)[:n],
    "mrn:": lambda n: ("mrn:" * n)[:n],
    "may 1 ": lambda n: ("may 1 " * n)[:n],
    "1 ": lambda n: ("1 " * n)[:n],
    "+1": lambda n: ("+1" * n)[:n],
    "name,": lambda n: ("name," * n)[:n],
    "12 A ": lambda n: ("12 A " * n)[:n],
    "https://": lambda n: ("https://" * n)[:n],
    "address: 1 ": lambda n: ("address: 1 " * n)[:n],
    "[SSN-": lambda n: ("[SSN-" * n)[:n],
    "zero width": lambda n: ("1\u200b" * n)[:n],
    "&#49;": lambda n: ("&#49;" * n)[:n],
    "spaces": lambda n: " " * n,
    "newlines": lambda n: "\n" * n,
    "中文": lambda n: ("患者于二〇二四年三月入院，" * n)[:n],
}
HOSTILE = (
    # Each made some confirmation work for nothing: 48 to 115 ms once.
    *(
        "1月",
        "令和",
        "年1月",
        "号1",
        "姓名：",
        "电话：138",
        "2341 2341 2346 ",
        "5 May 5 May ",
        "8-Nov-2013\n",
        "15 जनवरी 2020 ",
    ),
    *(
        "1\u200d2\u200d3\u200d-\u200d",
        "7\u2009Jun\u20092012 ",
        "SSN १२३-४५-६७८९ ",
        "SSN 750\u201128\u20116688,",
        "SSN 168-\n75-2674\n",
    ),
    *(
        "card ４１１１１１１１１１１１１１１１\n",
        "ann&#64;example.org ",
        "3%202030",
        "+44%2020%205473%202030 ",
        "25ноября2017г.",
    ),
    *("30:0B:91:AA:AA:86,", "::1 ", "a::", "1.1.1.1 ", "0.1.2.3]", "390.533.447-05\n", "12 03", " 0130 00", "1 A St "),
    *(
        "(mrn,",
        "mrn, mrn 1",
        "74218096 is my mrn",
        "9 (mrn) ",
        "<mrn>74218096</mrn><dob>2001-02-03</dob>",
        "a,mrn,b\n1,2,3\n",
    ),
    *(
        "40°26'46",
        "DOB: 12/15/1992,",
        "on 7/18.",
        "1/1 ",
        "90 y ",
        "ring 0044 20 7946 0958\n",
        "the account 1 ",
        "Dr A ",
    ),
    *(
        "sk-aaaa ",
        "password: ",
        ".jpg ",
        "FP-1 ",
        "rue A 1 ",
        "P.O. Box 1 ",
        "CA 94110 ",
        "SW1A 1AA ",
        "40.7127, -74.0059 ",
    ),
    *(
        "1/1/20 ",
        "May 1-May 2",
        "01.01.20\n",
        "12 12 2012 ",
        "geb. 01.01.90 ",
        "né le 1 mai 1990 ",
        "13:14:15:16:17:",
        "aa:bb:cc:dd:ee:ff ",
        "001 212 555 0142 ",
        "insurance policy ",
        "id,name\n1,2\n",
        "mrn, and the ",
        "((1",
    ),
)
ADVERSARIAL |= {repr(unit)[1:-1]: lambda n, unit=unit: unit * (n // len(unit) + 1) for unit in HOSTILE}  # type: ignore[misc]
PRESIDIO = """
import json, sys, time
from presidio_analyzer import AnalyzerEngine, RecognizerRegistry
from presidio_analyzer.nlp_engine import NlpArtifacts, NlpEngine
import spacy

class Blank(NlpEngine):
    def __init__(self): self.nlp = spacy.blank("en")
    def load(self): pass
    def is_loaded(self): return True
    def process_text(self, text, language):
        doc = self.nlp(text)
        return NlpArtifacts(entities=[], tokens=doc, tokens_indices=[t.idx for t in doc], lemmas=[t.text for t in doc],
                            nlp_engine=self, language=language, scores=[])
    def process_batch(self, texts, language, **kwargs): return ((t, self.process_text(t, language)) for t in texts)
    def is_stopword(self, word, language): return False
    def is_punct(self, word, language): return False
    def get_supported_entities(self): return []
    def get_supported_languages(self): return ["en"]

registry = RecognizerRegistry(); registry.load_predefined_recognizers(languages=["en"])
registry.recognizers = [r for r in registry.recognizers if "spacy" not in type(r).__name__.lower()]
engine = AnalyzerEngine(registry=registry, nlp_engine=Blank(), supported_languages=["en"])
out = {}
for name, text in json.load(sys.stdin).items():
    engine.analyze(text, "en"); best = 1e9
    for _ in range(3):
        t = time.process_time(); engine.analyze(text, "en"); best = min(best, time.process_time() - t)
    out[name] = best
json.dump(out, sys.stdout)
"""


def _pseudo_random(alphabet: str, n: int) -> str:
    """The same characters on every run: a linear congruential generator, good enough for noise."""
    state, chars = 1, []
    for _ in range(n):
        state = (state * 6364136223846793005 + 1442695040888963407) % 2**64
        chars.append(alphabet[(state >> 33) % len(alphabet)])
    return "".join(chars)


def sized(text: str, size: int) -> str:
    """`text` repeated up to `size` characters."""
    return (text * (size // len(text) + 1))[:size]


def cpu(run: Callable[[], object], rounds: int = 7, budget: float = 0.25) -> float:
    """Seconds of CPU for one `run`: the best round, each as many runs as fit its share of the budget."""
    started = time.process_time()
    run()
    once = max(time.process_time() - started, 1e-6)
    times = max(1, int(budget / rounds / once))
    best = float("inf")
    for _ in range(rounds):
        started = time.process_time()
        for _ in range(times):
            run()
        best = min(best, (time.process_time() - started) / times)
    return best


def presidio(texts: dict[str, str]) -> dict[str, float]:
    """Seconds per text of Presidio's pattern recognisers, in their own interpreter; empty without AEGIS_PEERS."""
    venv = os.environ.get("AEGIS_PEERS")
    if not venv:
        return {}
    python = str(Path(venv) / "bin" / "python")
    done = subprocess.run([python, "-c", PRESIDIO], input=json.dumps(texts), capture_output=True, text=True)
    if done.returncode:
        print(f"presidio did not run: {done.stderr.strip().splitlines()[-1]}", file=sys.stderr)
        return {}
    measured: dict[str, float] = json.loads(done.stdout)
    return measured


def scanning(console: Console, scanner: Scanner) -> None:
    """us/KB by size and density."""
    texts = {f"{name} {size}": sized(text, size) for name, text in TEXTS.items() for size in SIZES}
    peer = presidio({name: text for name, text in texts.items() if len(text) <= 8192})
    table = Table("text", "bytes", "found/KB", "us/KB", "presidio us/KB", "x", title="scan")
    for name, text in texts.items():
        kib = len(text) / 1024
        ours = cpu(lambda text=text: scanner.scan(text)) * 1e6 / kib  # type: ignore[misc]
        theirs = peer[name] * 1e6 / kib if name in peer else None
        table.add_row(
            name.rsplit(" ", 1)[0],
            str(len(text)),
            f"{len(scanner.scan(text)) / kib:.1f}",
            f"{ours:.1f}",
            f"{theirs:,.0f}" if theirs else "",
            f"{theirs / ours:,.0f}" if theirs else "",
        )
    console.print(table)


def attacks(console: Console, scanner: Scanner) -> None:
    """ms for 64 KB of the worst that was thought of."""
    table = Table("64 KB of", "ms", "outcome", title="adversarial")
    for name, make in ADVERSARIAL.items():
        text = make(65536).encode()[:65536].decode(errors="ignore")
        outcome = "scanned"
        try:
            scanner.scan(text)
        except CapExceededError:
            outcome = "refused"

        def run(text: str = text) -> None:
            try:
                scanner.scan(text)
            except CapExceededError:
                return

        table.add_row(name, f"{cpu(run, 3) * 1e3:.1f}", outcome)
    console.print(table)


def requests(console: Console) -> None:
    """us for whole requests: scan, tokens, edits; a chat history that is sent again with every turn."""
    policy = AirlockPolicy(AirlockConfig(), bytes(32))
    exchange = Exchange(ExchangeId("b"), "local", DialectName.OPENAI_CHAT, "m", "r", True, UnixNanos(0))
    history = [
        Segment(("messages", i, "content"), Role.USER if i % 2 else Role.ASSISTANT, sized(DENSE, 1500))
        for i in range(20)
    ]
    prompts = {
        "1 KB clean": [Segment(("messages", 0, "content"), Role.USER, sized(CLEAN, 1024))],
        "1 KB dense": [Segment(("messages", 0, "content"), Role.USER, sized(DENSE, 1024))],
        "30 KB history, 20 messages": history,
    }
    table = Table("request", "us", "us/KB", title="policy.request, span cache warm")
    for name, segments in prompts.items():
        seconds = cpu(lambda segments=segments: policy.open(exchange).request(segments, UnixNanos(0)))  # type: ignore[misc]
        kib = sum(len(s.text) for s in segments) / 1024
        table.add_row(name, f"{seconds * 1e6:.1f}", f"{seconds * 1e6 / kib:.1f}")
    console.print(table)

    run = policy.open(exchange)
    verdict = run.request(prompts["1 KB dense"], UnixNanos(0))
    if not isinstance(verdict, Forward):
        raise SystemExit("the dense prompt was refused")
    restoring(console, run, verdict.edits["messages", 0, "content"])


def restoring(console: Console, run: PolicyRun, answer: str) -> None:
    """us per piece of an answer that repeats a redacted prompt, and of one without tokens."""
    channel = Channel(ChannelKind.TEXT, 0)
    table = Table("answer", "characters a piece", "us a piece", title="response")
    for name, text in (("echo of the dense prompt", answer), ("prose", sized(CLEAN, 1024))):
        for width in (1, 4, 16, len(text)):
            pieces = [text[i : i + width] for i in range(0, len(text), width)]

            def stream(pieces: list[str] = pieces) -> None:
                run.restart()
                for piece in pieces:
                    run.response(channel, piece, UnixNanos(0), last=False)

            table.add_row(name, str(width), f"{cpu(stream) / len(pieces) * 1e6:.2f}")
    console.print(table)


def main() -> None:
    """All tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="scan and requests only")
    arguments = parser.parse_args()
    console = Console(emoji=False)
    started = time.process_time()
    scanner = Scanner()
    console.print(f"engine compiled in {time.process_time() - started:.2f} s of CPU")
    scanning(console, scanner)
    requests(console)
    if not arguments.quick:
        attacks(console, scanner)


if __name__ == "__main__":
    main()
