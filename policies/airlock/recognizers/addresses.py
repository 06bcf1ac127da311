"""Postal addresses by the grammar of a dozen languages, or behind a form field. Bare names of towns need a tagger."""

import re
from typing import Final

from policies.airlock.labels import Label
from policies.airlock.recognizers.codes import STATES
from policies.airlock.recognizers.recognizer import (
    Candidate,
    Confirm,
    Rank,
    Recognizer,
    phrases,
    touching,
    trie,
    words,
)

_HAS_DIGIT: Final = re.compile(r"\d")

# --- English: number, name, suffix ---

# USPS Publication 28, appendix C1: primary suffix names and the abbreviations that people write.
_SUFFIXES: Final = words("""
    Alley Annex Arcade Avenue Ave Av Bayou Beach Bend Bluff Bluffs Bottom Boulevard Blvd Branch Bridge Brook Brooks Burg
    Burgs Bypass Camp Canyon Cape Causeway Center Centers Circle Cir Circles Cliff Cliffs Close Club Common Commons
    Corner Corners Course Court Ct Courts Cove Coves Creek Crescent Cres Crest Crossing Crossroad Crossroads Curve Dale
    Dam Divide Drive Dr Drives Estate Estates Expressway Expy Extension Extensions Fall Falls Ferry Field Fields Flat
    Flats Ford Fords Forest Forge Forges Fork Forks Fort Freeway Garden Gardens Gateway Glen Glens Green Greens Grove
    Groves Harbor Harbors Haven Heights Highway Hwy Hill Hills Hollow Inlet Island Islands Isle Junction Junctions Key
    Keys Knoll Knolls Lake Lakes Land Landing Lane Ln Light Lights Loaf Lock Locks Lodge Loop Mall Manor Manors Meadow
    Meadows Mews Mill Mills Mission Motorway Mount Mountain Mountains Neck Orchard Oval Overpass Park Parks Parkway Pkwy
    Parkways Pass Passage Path Pike Pine Pines Place Pl Plain Plains Plaza Point Points Port Ports Prairie Radial Ramp
    Ranch Rapid Rapids Rest Ridge Ridges River Road Rd Roads Route Row Rue Run Shoal Shoals Shore Shores Skyway Spring
    Springs Spur Spurs Square Sq Squares Station Stravenue Stream Street St Streets Summit Terrace Ter Throughway Trace
    Track Trafficway Trail Trailer Tunnel Turnpike Underpass Union Unions Valley Valleys Via Viaduct View Views Village
    Villages Ville Vista Walk Walks Wall Way Ways Well Wells
""")
_STREETS: Final = frozenset(
    words("""
    Alley Avenue Ave Boulevard Blvd Circle Cir Court Ct Crescent Cres Drive Dr Expressway Expy Highway Hwy Lane Ln Mews
    Motorway Parkway Pkwy Pike Place Pl Plaza Road Rd Route Square Sq Street St Streets Terrace Ter Trail Turnpike Way
""")
)
"""Suffixes that little else has. `2007 Bowling Green` is a team, `Friday Night Lights` a film."""
_SUFFIX: Final = "|".join(_SUFFIXES)
_PLAIN_SUFFIX: Final = "street|avenue|ave|road|rd|boulevard|blvd|lane|ln|highway|hwy|parkway|pkwy"
_NUMBER: Final = r"(?<![\w.,/$€£-])\d{1,6}(?:-\d{1,5})?[A-Za-z]?"
_STREET: Final = re.compile(
    rf"{_NUMBER},? (?:(?:[NSEW]|[NS][EW])\.? )?"
    r"(?P<name>(?:[A-Z][\w'’.-]*|\d{1,3}(?:st|nd|rd|th)) (?:(?:[A-Z][\w'’.-]*|\d{1,3}(?:st|nd|rd|th)|of|the|de|la) ){0,3})"
    rf"(?P<suffix>{trie(_SUFFIXES)})(?![A-Za-z'’])"
    r"(?: (?:[NSEW]|[NS][EW])(?![A-Za-z]))?"
)
_FLAT: Final = re.compile(r"(?<!\w)(?:Flat|Studio|Apartment|Unit|Suite) \Z")
_PLAIN_STREET: Final = re.compile(rf"{_NUMBER} (?:[a-z][a-z'-]{{1,20}} ){{1,3}}(?:{_PLAIN_SUFFIX})(?![a-z'])")
_TAIL: Final = re.compile(
    r"\.?(?:,?[ \n](?:Apt|Apartment|Suite|Ste|Unit|Floor|Fl|Bldg|Building|Room|Rm|Flat|Lot|Box|#)\.? ?#? ?[A-Za-z0-9-]{1,6}"
    r"|,? ?#\d{1,5})?"
    r"(?:,[ \n][A-Z][\w'’-]{0,40}\.?(?: [A-Z][\w'’-]{0,40}){0,3})?"
    rf"(?:,?[ \n]{{1,2}}(?:{STATES})(?![A-Za-z]))?"
    r"(?:,?[ \n]{1,2}(?:\d{5}(?:-\d{4})?|[A-Z]{1,2}\d[A-Z\d]? \d[A-Z]{2}|[A-Z]\d[A-Z] ?\d[A-Z]\d)(?![\w-]))?"
)
"""Unit, town, state and code behind a street."""


def _is_something_else(street: re.Match[str]) -> bool:
    """Whether a number, words and a suffix that is an everyday word are hardly a street."""
    if street["suffix"] in _STREETS:
        return False
    return street["name"].count(" ") > 2 or _YEAR.match(street.group()) is not None


_YEAR: Final = re.compile(r"(?:19|20)\d\d ")
_HOUSE: Final = re.compile(r"[0-9]\d{0,5}(?:-\d{1,5})?[A-Za-z]?,? (?=[A-Z\d])")
_PLAIN_HOUSE: Final = re.compile(r"[0-9]\d{0,5}(?:-\d{1,5})?[A-Za-z]? (?=[a-z])")
"""The numbers with which a street may begin. They are found faster than what may not stand before them."""


def _from_house(
    house: re.Pattern[str], expression: re.Pattern[str], text: str, floor: int, end: int
) -> re.Match[str] | None:
    """The first match that begins with a house number behind `floor` and does not end before `end`."""
    number = house.search(text, floor, end)
    while number is not None:
        start = number.start()
        if not text[start - 1 : start].isdigit():
            match = expression.match(text, start, end + 8)
            if match is not None and match.end() >= end:
                return match
        number = house.search(text, start + 1, end)
    return None


def _street(text: str, end: int, found: list[Candidate]) -> None:
    # Not before the address that was found last: a list of streets would be read again for every one of them.
    floor = found[-1][1] if found and found[-1][2:] == (Rank.ENCLOSING, Label.ADDRESS) else 0
    floor = max(floor if floor < end else 0, end - 90)
    match = _from_house(_HOUSE, _STREET, text, floor, end)
    if match is not None:
        if _is_something_else(match):
            return
    else:
        match = _from_house(_PLAIN_HOUSE, _PLAIN_STREET, text, floor, end)
    if match:
        start = match.start()
        flat = _FLAT.search(text, max(0, start - 10), start)
        tail = _TAIL.match(text, match.end())
        end = tail.end() if tail else match.end()
        found.append((flat.start() if flat else start, end, Rank.ENCLOSING, Label.ADDRESS))


_BOX: Final = re.compile(r"(?:P\.? ?O\.?|Post(?:al)? ?Office|Postal|PSC \d{1,5},?|Unit \d{1,5})\s?Box\Z", re.IGNORECASE)
_BOX_NUMBER: Final = re.compile(r"\.? ?#?\d{1,7}")


def _box(text: str, end: int, found: list[Candidate]) -> None:
    number = _BOX_NUMBER.match(text, end)
    box = _BOX.search(text, max(0, end - 20), end) if number else None
    if number and box:
        tail = _TAIL.match(text, number.end())
        found.append((box.start(), tail.end() if tail else number.end(), Rank.ENCLOSING, Label.ADDRESS))


# --- other languages ---

_CODE_AND_TOWN: Final = (
    r"(?:,?[ \n]{1,2}(?:[A-Z]{1,2}-)?\d{4,5}(?:-\d{3})?[ \n][A-ZÀ-Þ][\w'’-]{1,40}"
    r"(?:[ -](?:[A-ZÀ-Þ][\w'’-]{1,40}|am|im|an|der|a|do|da|de|la|le|les|sur|sous|en|lès)){0,4}(?: ?/ ?[A-Z]{2})?)?"
)
_GERMAN: Final = words("""
    straße strasse str. weg platz allee gasse ring damm ufer chaussee straat laan gracht plein gatan vägen vej gade
""")
"""Last syllables of street names in German, Dutch and the Scandinavian languages: Hauptstraße 5."""
_GERMAN_ALONE: Final = frozenset(_GERMAN)
_WORD_BEFORE: Final = re.compile(r"[A-ZÄÖÜ][\w.-]{1,28} \Z")
_SPRING: Final = re.compile(r"[A-Z]?[a-z]*ring (?:19|20)\d\d(?!\d)")
_GERMAN_NUMBER: Final = re.compile(r"\d{1,5}(?: ?[a-z](?!\w))?(?:[-/]\d{1,4})?" + _CODE_AND_TOWN)


def _german(text: str, end: int, found: list[Candidate]) -> None:
    # The trigger ends behind the first digit of the house number, a space behind the street's last syllable.
    start = end - 2
    while start > 0 and end - start < 60 and (text[start - 1].isalpha() or text[start - 1] in "-."):
        start -= 1
    if text[start : end - 2].lower() in _GERMAN_ALONE:
        # Berliner Straße 5: the word before it belongs to the name.
        before = _WORD_BEFORE.search(text, max(0, start - 30), start)
        start = before.start() if before else start
    number = _GERMAN_NUMBER.match(text, end - 1)
    if number and text[start].isupper() and not _SPRING.match(text, start):
        found.append((start, number.end(), Rank.ENCLOSING, Label.ADDRESS))


_ROMANCE: Final = phrases("""
    rue | avenue | av. | boulevard | bd | chemin | impasse | quai | cours | allée | calle | c/ | avenida | avda |
    avda. | paseo | plaza | pza. | camino | carretera | ctra. | ronda | alameda | rambla | pasaje | pasadizo | acceso |
    glorieta | cuesta | travesía | callejón | cañada | vial | urbanización | via | viale | piazza | corso | vicolo |
    strada | contrada | borgo | rotonda | rua | travessa | praça | estrada | rodovia | sítio | viela | ulica | ul. | aleja
""")
"""First words of street names in French, Spanish, Italian, Portuguese and Polish: Calle Mayor 5, 12 rue Payet."""
_NUMBER_FIRST: Final = re.compile(r"(?<![\w.])\d{1,5}(?: ?(?:bis|ter))?,? \Z")
_PARTICLE: Final = r"(?:d'|l'|(?:de|del|della|des|du|dei|di|do|da|dos|das|la|el|los|las|le|les|al|van|von|y|e)[ ])"
_ROMANCE_NAME: Final = re.compile(
    rf" ?{_PARTICLE}{{0,3}}[A-ZÀ-ÞŁŚŻ][\w'’´.-]{{0,40}}(?:[ -]{_PARTICLE}{{0,3}}[A-ZÀ-ÞŁŚŻ][\w'’´.-]{{0,40}}){{0,5}}"
    r"(?P<number>,? (?:n[ºo°.]{1,2} ?)?\d{1,5}(?:[-/]\d{1,5})?(?: ?[A-Za-z](?!\w))?|,? s/n|,? km \d[\d,.]*)?"
    r"(?:,? (?i:piso|puerta|apt|esc|bajo|interno|appartamento|planta|\d{1,2}[ºª°o])\.? ?[\w.ºª]{0,6})?"
    r"(?: ?, [A-ZÀ-Þ][\w'’-]{1,40}(?: [A-ZÀ-Þ][\w'’-]{1,40}){0,2}, ?\d{5}(?!\d))?" + _CODE_AND_TOWN
)


def _romance(text: str, end: int, found: list[Candidate]) -> None:
    start = end
    while start > 0 and end - start < 14 and (text[start - 1].isalpha() or text[start - 1] in "./"):
        start -= 1
    name = _ROMANCE_NAME.match(text, end)
    if name is None:
        return
    first = _NUMBER_FIRST.search(text, max(0, start - 12), start)
    if first or _HAS_DIGIT.search(text, name.start(), name.end()):
        found.append((first.start() if first else start, name.end(), Rank.ENCLOSING, Label.ADDRESS))


_RUSSIAN: Final = re.compile(
    r"(?:(?:г|с|д|п|пос|клх|ст|к|х)\.? [А-ЯЁ][\w-]+(?: [А-ЯЁ][\w-]+)?, )?"
    r"(?:ул|улица|пр|просп|проспект|пер|переулок|наб|бул|бульвар|алл|ш|шоссе|пл|площадь)\.? [А-ЯЁ0-9][\w .-]{1,40}, ?"
    r"(?:д|дом)\.? ?\d{1,4}[\w/]{0,5}(?: ?(?:стр|к|корп|кв)\.? ?\d{1,4}(?:/\d{1,4})?)*(?:, \d{6})?"
)
_CHINESE: Final = re.compile(
    # Chinese and Japanese: from the province or prefecture down to the house.
    r"[\u4e00-\u9fff]{2,12}(?:省|自治区|市|都|道|府|県|特别行政区)[\u4e00-\u9fff\u3040-\u30ff0-9A-Za-z-]{1,40}?"
    r"(?:\d+(?:丁目|番地?|号|號|座|室|楼|弄|栋|の\d+|-\d+)+|[A-Za-z]座)(?:[\u3040-\u30ff]{0,12}\d{0,4})? ?(?:\d{6})?"
)
_KOREAN: Final = re.compile(
    r"[가-힣]{2,8}(?:특별시|광역시|도|시)(?: [가-힣]{1,8}(?:시|군|구|읍|면|동)){0,3} [가-힣0-9]{1,12}(?:로|길)"
    r"(?: ?\d{1,5}(?:-\d{1,5})?(?:번길)?(?: ?\d{1,5})?)?(?: \([가-힣0-9]{1,20}\))?"
)


_REGIONS: Final = frozenset("省区市都道府県")
"""Last characters of provinces, cities and prefectures: without one there is no address before a house number."""


def _chinese(text: str, end: int, found: list[Candidate]) -> None:
    if not _REGIONS.isdisjoint(text[max(0, end - 48) : end]):
        _chinese_by_grammar(text, end, found)


def _by_grammar(expression: re.Pattern[str], before: int) -> Confirm:
    def confirm(text: str, end: int, found: list[Candidate]) -> None:
        match = touching(expression, text, end, before, 100)
        if match:
            found.append((*match.span(), Rank.ENCLOSING, Label.ADDRESS))

    return confirm


_chinese_by_grammar: Final = _by_grammar(_CHINESE, 48)

# --- form fields ---

FIELDS: Final = phrases("""
    address | addr | home address | domicilio | dirección | direccion | adresse | anschrift | wohnhaft | indirizzo |
    residenza | endereço | morada | adres | adress | osoite | адрес | 地址 | 住址 | 住所 | 주소 | पता | العنوان
""")
_FIELD: Final = re.compile(
    r"[\"']?\s?(?:[:：=]|\b(?:is|es|est|lautet)\b|是|は)\s{0,4}[\"']?(?P<v>[^\s\0\"'\n;:,.][^\n\0\";|]{4,120})"
)
_FIELD_END: Final = re.compile(
    r"[.,;\s](?:(?<=[\w)]{3}\.)(?:\s|$)|(?<=\s)\s|\s{0,2}(?i:phone|tel|email|e-mail|dob|teléfono|zip|mrn|ssn|iban)\b)"
)
_NOT_POSTAL: Final = re.compile(
    r"(?:e-?mail|ip|mac|web|internet|http|wallet|btc|memory|network|host)[\s_.-]{0,2}\w{0,10}\Z", re.IGNORECASE
)


def _field(text: str, end: int, found: list[Candidate]) -> None:
    match = _FIELD.match(text, end)
    if match is None or _NOT_POSTAL.search(text, max(0, end - 28), end):
        return
    start, stop = match.span("v")
    cut = _FIELD_END.search(text, start, stop)
    value = text[start : cut.start() if cut else stop].rstrip(" .,。")
    if _HAS_DIGIT.search(value) and "@" not in value and "://" not in value:
        # The lowest rank: whatever else is found in the field ends the address there.
        found.append((start, start + len(value), Rank.HINT, Label.ADDRESS))


RECOGNIZERS: Final[tuple[Recognizer, ...]] = (
    Recognizer(
        "street", _street, (rf"\b\d{{1,6}}[A-Za-z]?,? (?:[A-Za-z0-9][\w'.-]* ){{1,5}}(?:{_SUFFIX}|{_PLAIN_SUFFIX})\b",)
    ),
    Recognizer("po-box", _box, words=("box",), near=True),
    Recognizer("street-german", _german, tuple(rf"{re.escape(last)} \d" for last in _GERMAN), caseless=True),
    Recognizer("street-romance", _romance, words=_ROMANCE, near=True),
    Recognizer("street-russian", _by_grammar(_RUSSIAN, 80), (r", д\.", ", дом ")),
    Recognizer(
        "street-chinese",
        _chinese,
        tuple(f"[0-9A-Za-z]{mark}" for mark in ("号", "號", "座", "番", "丁目", "室", "楼")),
    ),
    Recognizer("street-korean", _by_grammar(_KOREAN, 48), ("로 ?[0-9]", "길 ?[0-9]")),
    Recognizer("address-field", _field, words=FIELDS, near=True),
)
