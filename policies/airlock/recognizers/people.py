"""Names of persons where a title, a form field or a phrase announces one. All other names are left to a tagger."""

import re
from typing import Final

from policies.airlock.labels import Label
from policies.airlock.recognizers.recognizer import Candidate, Rank, Recognizer, phrases, words

TITLES: Final = phrases("""
    Mr | Mrs | Ms | Miss | Mx | Dr | Prof | Professor | Sr | Sra | Srta | Dra | Doña | Dña | Herr | Frau | Mme | Mlle |
    Madame | Monsieur | Sig | Dott | Senhor | Senhora | Nurse | Sgt | Capt | Rev
""")
FIELDS: Final = phrases("""
    patient name | full name | first name | last name | given name | family name | surname | forename | middle name |
    maiden name | pt name | name | patient | nombre | apellidos | apellido | paciente | médico | nachname | vorname |
    nom | prénom | cognome | nome | sobrenome | naam | nazwisko | imię | имя | фамилия | пациент | 姓名 | 氏名 | 이름 | 성명 |
    attending | physician | provider | prescriber | referring physician | emergency contact | next of kin | guardian |
    account holder | cardholder | subscriber name
""")
PHRASES: Final = phrases("""
    my name is | my name's | name is | named | i am called | me llamo | mi nombre es | je m'appelle | ich heiße | ich
    heisse | mein name ist | mi chiamo | meu nome é
""")

_CAPITAL: Final = "A-ZÀ-ÖØ-ÞĀĂĄĆĈĊČĎĐĒĔĖĘĚĜĞĠĢĤĦĨĪĬĮİĴĶĹĻĽĿŁŃŅŇŊŌŎŐŒŔŖŘŚŜŞŠŢŤŦŨŪŬŮŰŲŴŶŸŹŻŽА-ЯЁІЇЄΑ-Ω"
_WORD: Final = rf"(?:[{_CAPITAL}][\w'’]{{0,40}}(?:-[{_CAPITAL}][\w'’]{{0,40}}){{0,3}})"
_PARTICLE: Final = r"(?:van|von|der|den|de|del|della|di|da|do|dos|das|la|le|los|las|bin|ibn|al|el|y|e|ter|zu|af|ap)"
_NAME: Final = rf"(?P<v>(?:{_WORD}|[{_CAPITAL}]\.)(?:[ ](?:{_PARTICLE}[ ]){{0,2}}(?:[{_CAPITAL}]\.|{_WORD})){{0,3}})"

_TITLED: Final = re.compile(rf"\.?[ ]{{1,2}}(?!(?:The|And|Of|In|For|Is|Was|Has|He|She|It|Who|I)\b){_NAME}")
_SENTENCE_END: Final = re.compile(rf"(?<=[a-zà-ÿ]{{3}})\.\s[{_CAPITAL}]")
_NO_NAME: Final = frozenset(
    words("""
    the a an and or of in on at to for after before is was has had who what when where how why this that these those it
    he she they we you i not no yes please with without care health medical hospital clinic center centre patient
    patients name id number date phone email address history notes note record records portal education safety data
    information info summary report discharge admission unit services service department office monday tuesday wednesday
    thursday friday saturday sunday january february march april may june july august september october november
    december doctor nurse physician test type none unknown na null true false male female dob mrn ssn age sex gender
    presents presented diagnosis treatment plan assessment
    un una el la los las se es fue presentamos presenta paciente varón mujer hombre niño niña servicio unidad apartado
    departamento der die das ein eine herr frau ist le les une est
""")
)
_AFFILIATION: Final = re.compile(
    r" (?:Servicio|Unidad|Apartado|Departamento|Sección|Hospital|Centro|Clínica|Dept|Department|Division|Office|Clinic)\b"
)


def _named(text: str, start: int, end: int, found: list[Candidate]) -> None:
    """Appends `text[start:end]` as a name, cut where the sentence ends or the affiliation begins."""
    for cut in (_SENTENCE_END, _AFFILIATION):
        match = cut.search(text, start, end)
        end = match.start() if match else end
    name = text[start:end].rstrip(" ,")
    parts = name.split()
    while parts and parts[-1].rstrip(".,").lower() in _NO_NAME:
        name = name[: -len(parts.pop())].rstrip(" ,")
    name = name.removesuffix("'s").removesuffix("’s")
    if parts and parts[0].rstrip(".,").lower() not in _NO_NAME:
        found.append((start, start + len(name), Rank.KEYED, Label.NAME))


def _titled(text: str, end: int, found: list[Candidate]) -> None:
    match = _TITLED.match(text, end)
    if match:
        _named(text, *match.span("v"), found)


_FIELD: Final = re.compile(
    rf"[\"']?\s{{0,2}}(?:\([^()\n]{{1,20}}\)\s?)?[:：=]\s{{0,4}}[\"']?(?P<v>{_WORD}\.?(?:[,]?[ ](?:{_PARTICLE}[ ]){{0,2}}(?:{_WORD}|[{_CAPITAL}]\.)){{0,4}}\.?|[\u4e00-\u9fff]{{2,4}}(?![\u4e00-\u9fff])|[가-힣]{{2,4}}(?![가-힣]))"
)


def _field(text: str, end: int, found: list[Candidate]) -> None:
    match = _FIELD.match(text, end)
    if match:
        start, stop = match.span("v")
        if text[stop - 1] == "." and stop - 2 > start and text[stop - 2].islower():
            stop -= 1
        _named(text, start, stop, found)


_PHRASE: Final = re.compile(rf"[ ,:]{{1,2}}(?:[\"“])?{_NAME}")


def _phrase(text: str, end: int, found: list[Candidate]) -> None:
    match = _PHRASE.match(text, end)
    if match:
        _named(text, *match.span("v"), found)


RECOGNIZERS: Final[tuple[Recognizer, ...]] = (
    Recognizer("name-title", _titled, tuple(title + mark for title in TITLES for mark in (r"\.", " "))),
    Recognizer("name-field", _field, words=FIELDS, apart=True),
    Recognizer("name-phrase", _phrase, words=PHRASES),
)
