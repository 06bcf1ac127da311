"""Postal addresses by their grammar, postal codes and coordinates. Bare names of towns are left to a tagger."""

import re
from typing import Final

from policies.airlock.labels import Label
from policies.airlock.recognizers.recognizer import Candidate, Confirm, Rank, Recognizer, phrases

STATES: Final = (
    "AL|AK|AZ|AR|CA|CO|CT|DC|DE|FL|GA|HI|IA|ID|IL|IN|KS|KY|LA|MA|MD|ME|MI|MN|MO|MS|MT|NC|ND|NE|NH|NJ|NM|NV|NY|OH|OK|OR|PA|RI|SC|SD|TN|TX|"
    "UT|VA|VT|WA|WI|WV|WY|PR|VI|GU|AS|MP|FM|MH|PW|AA|AE|AP"
)
_STATE_ZIP: Final = re.compile(rf"(?<![A-Za-z])(?:{STATES})[ ,]{{1,2}}(?P<v>\d{{5}}(?:-\d{{4}})?)(?![\w-])")
_ZIP_PLUS_4: Final = re.compile(r"(?<![\w.])(?<!\w[-/])\d{5}-\d{4}(?![\w-])(?!\.\d)")
_LETTERED: Final = re.compile(
    # United Kingdom (with its space: without it, half of all part numbers match), Canada
    r"(?<![A-Za-z0-9])(?:(?:[A-PR-UWYZ](?:\d{1,2}|[A-HK-Y]\d|[A-HK-Y]\d\d|\d[A-HJKPS-UW]|[A-HK-Y]\d[A-Z])|GIR) \d[A-Z]{2}|[ABCEGHJ-NPRSTVXY]\d[ABCEGHJ-NPRSTV-Z][ -]?\d[ABCEGHJ-NPRSTV-Z]\d)(?![A-Za-z0-9])"
)


def _fixed(expression: re.Pattern[str], reach: int, group: str | int = 0) -> Confirm:
    def confirm(text: str, end: int, found: list[Candidate]) -> None:
        match = expression.search(text, max(0, end - reach))
        if match and match.start() < end:
            found.append((*match.span(group), Rank.SHAPE, Label.ZIP_CODE))

    return confirm


_DECIMAL_PAIR: Final = re.compile(
    r"(?<![\w.])[-+]?(?P<lat>\d{1,2}\.\d{3,12})°?\s?[NS]?\s?[,;/ ]\s?(?:\"?\w{2,9}\"?\s?[:=]\s?)?[-+]?(?P<lon>1?\d{1,2}\.\d{3,12})°?\s?[EWO]?(?![\w.]\w)"
)
_SEXAGESIMAL: Final = re.compile(
    r"\d{1,3}\s?°\s?\d{1,2}\s?['′’]\s?(?:\d{1,2}(?:\.\d+)?\s?(?:\"|″|”|'')\s?)?[NSEWO](?:[ ,/]{0,3}\d{1,3}\s?°\s?\d{1,2}\s?['′’]\s?(?:\d{1,2}(?:\.\d+)?\s?(?:\"|″|”|'')\s?)?[NSEWO])?"
)


def _coordinates(text: str, end: int, found: list[Candidate]) -> None:
    match = _DECIMAL_PAIR.search(text, max(0, end - 36))
    if match and match.start() < end and float(match["lat"]) <= 90 and float(match["lon"]) <= 180:
        found.append((*match.span(), Rank.SHAPE, Label.GEO_COORD))


def _sexagesimal(text: str, end: int, found: list[Candidate]) -> None:
    match = _SEXAGESIMAL.search(text, max(0, end - 24))
    if match and match.start() < end:
        found.append((*match.span(), Rank.SHAPE, Label.GEO_COORD))


# USPS Publication 28, appendix C1: primary suffix names and the abbreviations that people write.
_SUFFIXES: Final = (
    "Alley|Annex|Arcade|Avenue|Ave|Av|Bayou|Beach|Bend|Bluff|Bluffs|Bottom|Boulevard|Blvd|Branch|Bridge|Brook|Brooks|Burg|Burgs|Bypass|Camp|Canyon|"
    "Cape|Causeway|Center|Centers|Circle|Cir|Circles|Cliff|Cliffs|Close|Club|Common|Commons|Corner|Corners|Course|Court|Ct|Courts|Cove|Coves|Creek|Crescent|"
    "Cres|Crest|Crossing|Crossroad|Crossroads|Curve|Dale|Dam|Divide|Drive|Dr|Drives|Estate|Estates|Expressway|Expy|Extension|Extensions|Fall|Falls|Ferry|"
    "Field|Fields|Flat|Flats|Ford|Fords|Forest|Forge|Forges|Fork|Forks|Fort|Freeway|Garden|Gardens|Gateway|Glen|Glens|Green|Greens|Grove|Groves|"
    "Harbor|Harbors|Haven|Heights|Highway|Hwy|Hill|Hills|Hollow|Inlet|Island|Islands|Isle|Junction|Junctions|Key|Keys|Knoll|Knolls|Lake|Lakes|"
    "Land|Landing|Lane|Ln|Light|Lights|Loaf|Lock|Locks|Lodge|Loop|Mall|Manor|Manors|Meadow|Meadows|Mews|Mill|Mills|Mission|Motorway|Mount|Mountain|"
    "Mountains|Neck|Orchard|Oval|Overpass|Park|Parks|Parkway|Pkwy|Parkways|Pass|Passage|Path|Pike|Pine|Pines|Place|Pl|Plain|Plains|Plaza|Point|Points|"
    "Port|Ports|Prairie|Radial|Ramp|Ranch|Rapid|Rapids|Rest|Ridge|Ridges|River|Road|Rd|Roads|Route|Row|Rue|Run|Shoal|Shoals|Shore|Shores|Skyway|"
    "Spring|Springs|Spur|Spurs|Square|Sq|Squares|Station|Stravenue|Stream|Street|St|Streets|Summit|Terrace|Ter|Throughway|Trace|Track|Trafficway|"
    "Trail|Trailer|Tunnel|Turnpike|Underpass|Union|Unions|Valley|Valleys|Via|Viaduct|View|Views|Village|Villages|Ville|Vista|Walk|Walks|Wall|Way|Ways|Well|Wells"
)
_UNIT: Final = r"(?:,?[ \n](?:Apt|Apartment|Suite|Ste|Unit|Floor|Fl|Bldg|Building|Room|Rm|Flat|Lot|Box|#)\.? ?#? ?[A-Za-z0-9-]{1,6}|,? ?#\d{1,5})?"
_TOWN: Final = rf"(?:,?[ \n](?:[A-Z][\w'’.-]*)(?: [A-Z][\w'’.-]*){{0,3}})?(?:,?[ \n]{{1,2}}(?:{STATES})(?![A-Za-z]))?(?:,?[ \n]{{1,2}}\d{{5}}(?:-\d{{4}})?(?![\w-]))?"
_AFTER_STREET: Final = re.compile(
    rf"{_UNIT}(?:,[ \n](?:[A-Z][\w'’-]*\.?)(?: [A-Z][\w'’-]*){{0,3}})?(?:,?[ \n]{{1,2}}(?:{STATES})(?![A-Za-z]))?(?:,?[ \n]{{1,2}}(?:\d{{5}}(?:-\d{{4}})?|[A-Z]{{1,2}}\d[A-Z\d]? \d[A-Z]{{2}}|[A-Z]\d[A-Z] ?\d[A-Z]\d)(?![\w-]))?"
)
_STREET: Final = re.compile(
    rf"(?<![\w.,/$€£-])(?P<n>\d{{1,6}}(?:-\d{{1,5}})?[A-Za-z]?)[ ](?:(?:[NSEW]|[NS][EW])\.? )?(?:(?:[A-Z][\w'’.-]*|\d{{1,3}}(?:st|nd|rd|th)|of|the|de|la) ){{1,4}}?(?:{_SUFFIXES})(?![A-Za-z'’])\.?(?: (?:[NSEW]|[NS][EW])(?![A-Za-z]))?"
)
_PLAIN_STREET: Final = re.compile(
    r"(?<![\w.,/$€£-])\d{1,6}[a-z]? (?:[a-z][a-z'-]{1,20} ){1,3}(?:street|avenue|ave|road|rd|boulevard|blvd|lane|ln|highway|hwy|parkway|pkwy)(?![a-z'])\.?"
)


def _street(text: str, end: int, found: list[Candidate]) -> None:
    for expression in (_STREET, _PLAIN_STREET):
        match = expression.search(text, max(0, end - 90))
        if match and match.start() < end <= match.end() + 1:
            tail = _AFTER_STREET.match(text, match.end())
            found.append((match.start(), tail.end() if tail else match.end(), Rank.ENCLOSING, Label.ADDRESS))
            return


_PO_BOX: Final = re.compile(r"\.? ?#?\d{1,7}")


def _po_box(text: str, end: int, found: list[Candidate]) -> None:
    match = _PO_BOX.match(text, end)
    start = max(text.rfind("P", max(0, end - 18), end), text.rfind("p", max(0, end - 18), end))
    first = re.compile(
        r"(?:P\.? ?O\.?|Post(?:al)? ?Office|Postal|PSC \d{1,5},?|Unit \d{1,5})\s?Box\Z", re.IGNORECASE
    ).search(text, max(0, end - 20), end)
    if match and first and start >= 0:
        tail = _AFTER_STREET.match(text, match.end())
        found.append((first.start(), tail.end() if tail else match.end(), Rank.ENCLOSING, Label.ADDRESS))


_WORDS: Final = r"[\w'’´.ºª-]+(?:[ ][\w'’´.ºª/-]+){0,6}"
_CODE_AND_TOWN: Final = r"(?:,?[ \n]{1,2}(?:[A-Z]{1,2}-)?\d{4,5}(?:-\d{3})?[ \n][A-ZÀ-Þ][\w'’-]+(?:[ -](?:[A-ZÀ-Þ][\w'’-]+|am|im|an|der|a|do|da|de|la|le|les|sur|sous|en|lès)){0,4}(?: ?/ ?[A-Z]{2})?)?"
_FOREIGN: Final = (
    # German, Dutch, Scandinavian: Hauptstraße 5, 85133 Grevenbroich
    re.compile(
        r"(?<![\w-])(?:[A-ZÄÖÜ][\w.-]{0,30}[ -]){0,3}[A-ZÄÖÜ]?[\w.-]{0,40}(?:straße|strasse|str\.|weg|platz|allee|gasse|ring|damm|ufer|chaussee|straat|laan|gracht|plein|gatan|vägen|vej|gade)[ ]\d{1,5}(?:[ ]?[a-z](?!\w))?(?:[-/]\d{1,4})?"
        + _CODE_AND_TOWN,
        re.IGNORECASE,
    ),
    # Spanish, Italian, Portuguese, French, Polish: Calle Mayor 5, rue Payet, 93190 Chevallier
    re.compile(
        r"(?<![\w-])(?:(?:\d{1,5}(?: ?(?:bis|ter|quater))?,? )?(?:rue|avenue|av\.|boulevard|bd|chemin|impasse|allée|quai|cours|place|passage)|calle|c/|avenida|avda\.?|avd\.?|av\.|paseo|p[oº]\.?|plaza|pza\.?|pl\.|camino|carretera|ctra\.?|ronda|travesía|alameda|rambla|pasaje|glorieta|cuesta|cañada|callejón|vial|urbanización|urb\.|"
        r"via|viale|v\.le|piazza|corso|vicolo|largo|strada|contrada|borgo|rotonda|stretto|incrocio|canale|rua|travessa|praça|estrada|rodovia|alameda|viela|vila|sítio|quadra|setor|ulica|ul\.|aleja|al\.|plac|os\.)"
        r"(?:[ ]|(?<=/))(?:(?:de|del|de la|de los|de las|des|du|d'|della|dei|di|do|da|dos|das|la|el|los|las|le|l'|al|van|von)[ ]?){0,2}[A-ZÀ-ÞŁŚŻ][\w'’´.-]*(?:[ ][\w'’´.ºª-]+){0,5}(?:,? (?:n[ºo°.]{1,2} ?|nº ?)?\d{1,5}(?:[-/]\d{1,5})?(?:[ ]?[A-Za-z](?![\w]))?|,? s/n)?"
        r"(?:,? (?:piso|puerta|apt\.?|esc\.?|bajo|interno|appartamento|\d{1,2}[ºª°o]) ?[\w.]{0,8})?" + _CODE_AND_TOWN,
        re.IGNORECASE,
    ),
    # Russian: ул. Элеваторная, д. 2/2 стр. 7, 685639
    re.compile(
        r"(?:(?:г|с|д|п|пос|клх|ст|к|х)\.? [А-ЯЁ][\w-]+(?: [А-ЯЁ][\w-]+)?, )?(?:ул|улица|пр|просп|проспект|пер|переулок|наб|бул|бульвар|алл|ш|шоссе|пл|площадь)\.? [А-ЯЁ0-9][\w .-]{1,40}, ?(?:д|дом)\.? ?\d{1,4}[\w/]{0,5}(?: ?(?:стр|к|корп|кв)\.? ?\d{1,4})*(?:, \d{6})?"
    ),
    # Chinese and Japanese: from the province or prefecture down to the house
    re.compile(
        r"[\u4e00-\u9fff]{2,12}(?:省|自治区|市|都|道|府|県|特别行政区)[\u4e00-\u9fff\u3040-\u30ff0-9０-９A-Za-z-]{1,40}?(?:\d+(?:丁目|番地?|号|號|座|室|楼|弄|栋|の\d+|-\d+)+|[A-Za-z]座)(?:[\u3040-\u30ff]{0,12}\d{0,4})? ?(?:\d{6})?"
    ),
    # Korean: 서울특별시 강남구 테헤란로 123
    re.compile(
        r"[가-힣]{2,8}(?:특별시|광역시|도|시)(?: [가-힣]{1,8}(?:시|군|구|읍|면|동)){0,3} [가-힣0-9]{1,12}(?:로|길)(?: ?\d{1,5}(?:-\d{1,5})?(?:번길)?(?: ?\d{1,5})?)?(?: \([가-힣0-9]{1,20}\))?"
    ),
)


def _foreign(expression: re.Pattern[str], reach: int) -> Confirm:
    def confirm(text: str, end: int, found: list[Candidate]) -> None:
        match = expression.search(text, max(0, end - reach), end + 160)
        if match and match.start() < end and any(char.isdecimal() for char in match.group()):
            found.append((*match.span(), Rank.ENCLOSING, Label.ADDRESS))

    return confirm


_FIELD: Final = re.compile(
    r"[\"']?\s?(?:[:：=]|\bis\b|\bes\b|\best\b|\blautet\b|是|は)\s{0,4}[\"']?(?P<v>(?=[^\n\";]{0,120}\d)[^\s\0\"'\n;:,.][^\n\0\";|]{4,120})"
)
_FIELD_END: Final = re.compile(
    r"(?<=[\w)]{3})\.(?:\s|$)|\s{2,}|[,.;]?\s?(?:phone|tel|email|e-mail|dob|teléfono|telefon|zip|mrn|ssn)\b",
    re.IGNORECASE,
)
_NO_POSTAL: Final = re.compile(
    r"(?:e-?mail|ip|mac|web|internet|http|wallet|btc|memory|network|host)[\s_.-]{0,2}\w{0,10}\Z", re.IGNORECASE
)


def _field(text: str, end: int, found: list[Candidate]) -> None:
    if end < len(text) and text[end].isalpha() and text[end].isascii():
        return
    match = _FIELD.match(text, end)
    if match is None or _NO_POSTAL.search(text, max(0, end - 28), end):
        return
    start, stop = match.span("v")
    cut = _FIELD_END.search(text, start, stop)
    stop = cut.start() if cut else stop
    value = text[start:stop].rstrip(" .,。")
    if any(char.isdecimal() for char in value) and "@" not in value and "://" not in value:
        found.append((start, start + len(value), Rank.KEYED, Label.ADDRESS))


RECOGNIZERS: Final = (
    Recognizer("zip-state", _fixed(_STATE_ZIP, 14, "v"), (r"[A-Z]{2},? \d{5}\b",)),
    Recognizer("zip-plus-4", _fixed(_ZIP_PLUS_4, 10), (r"\b\d{5}-\d{4}\b",), digits=True),
    Recognizer("zip-letters", _fixed(_LETTERED, 8), (r"[A-Z]\d[A-Z\d]?[ -]?\d[A-Z][A-Z\d]\b",)),
    Recognizer(
        "geo-decimal",
        _coordinates,
        (r"\d{1,2}\.\d{3,12}(?:°)?\s?[NS]?\s?[,;/ ]\s?(?:\"?\w{2,9}\"?\s?[:=]\s?)?[-+]?1?\d{1,2}\.\d{3}",),
        digits=True,
    ),
    Recognizer("geo-sexagesimal", _sexagesimal, (r"\d°\s?\d{1,2}\s?(?:'|′|’)",)),
    Recognizer(
        "street",
        _street,
        (
            rf"\b\d{{1,6}}[A-Za-z]? (?:[A-Za-z0-9][\w'.-]* ){{1,5}}(?:{_SUFFIXES}|street|avenue|ave|road|rd|boulevard|blvd|lane|ln|highway|hwy|parkway|pkwy)\b",
        ),
    ),
    Recognizer(
        "po-box", _po_box, words=("po box", "p.o. box", "p. o. box", "p.o box", "post office box", "postal box", "box")
    ),
    Recognizer(
        "street-german",
        _foreign(_FOREIGN[0], 80),
        tuple(
            f"{suffix} \\d"
            for suffix in [
                "straße",
                "strasse",
                "str\\.",
                "weg",
                "platz",
                "allee",
                "gasse",
                "ring",
                "damm",
                "ufer",
                "chaussee",
                "straat",
                "laan",
                "gracht",
                "plein",
                "gatan",
                "vägen",
                "vej",
                "gade",
            ]
        ),
        caseless=True,
    ),
    Recognizer(
        "street-romance",
        _foreign(_FOREIGN[1], 24),
        words=phrases("""
            rue | avenue | av. | boulevard | bd | chemin | impasse | quai | cours | calle | c/ | avenida | avda | avda.
            | paseo | plaza | pza. | camino | carretera | ctra. | ronda | alameda | rambla | pasaje | glorieta | cuesta
            | via | viale | piazza | corso | vicolo | strada | contrada | borgo | rua | travessa | estrada | rodovia |
            ulica | ul. | aleja | allée | travesía | callejón | cañada | urbanización | praça | sítio
        """),
    ),
    Recognizer("street-russian", _foreign(_FOREIGN[2], 80), (", д. ", ", д.", ", дом ")),
    Recognizer(
        "street-chinese",
        _foreign(_FOREIGN[3], 48),
        tuple(f"[0-9A-Za-z]{mark}" for mark in ("号", "號", "座", "番", "丁目", "室", "楼")),
    ),
    Recognizer("street-korean", _foreign(_FOREIGN[4], 48), ("로 ?[0-9]", "길 ?[0-9]")),
    Recognizer(
        "address-field",
        _field,
        words=phrases("""
            address | addr | home address | domicilio | dirección | direccion | adresse | anschrift | wohnhaft |
            indirizzo | residenza | endereço | morada | adres | adress | osoite | адрес | 地址 | 住址 | 住所 | 주소 | पता |
            العنوان
        """),
    ),
)
