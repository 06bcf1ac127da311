"""Dates more exact than a year, and ages over 89."""

import re
from string import ascii_letters, digits
from typing import Final

from policies.airlock.labels import Label
from policies.airlock.recognizers.recognizer import (
    Candidate,
    Rank,
    Recognizer,
    cased,
    digit_count,
    from_digit,
    is_version,
    phrases,
    touching,
    trie,
    words,
)

_TIME: Final = (
    r"(?:(?:T|,? (?:at )?)\d{1,2}:\d{2}(?::\d{2}(?:\.\d{1,9})?)?(?: ?[AaPp]\.?[Mm]\b\.?| ?Z\b| ?[+-]\d{2}:?\d{2}\b)?)?"
)
_NUMERIC: Final = re.compile(
    r"(?<![\w.])(?<!\d[-/,])(?:"
    r"(?P<y>(?:18|19|20|21)\d{2})(?P<s>[-/. ])(?P<m>\d{1,2})(?P=s)(?P<d>\d{1,2})"
    r"|(?P<a>\d{1,2})(?P<s2>[-/.]\s?| )(?P<b>\d{1,2})(?P=s2)(?P<y2>(?:18|19|20|21)\d{2}|\d{2})"
    r")(?!\w)(?![-/]\d|\.\d)" + _TIME,
    re.ASCII,
)

_GOES_ON: Final = frozenset(".-/")
_DATE_CHARACTERS: Final = digits + "./-"


def _numeric(text: str, end: int, found: list[Candidate]) -> None:
    if text[end : end + 1] in _GOES_ON and text[end + 1 : end + 2].isdigit():
        return  # an address, a version
    floor = end - 12 if end > 12 else 0
    match = _NUMERIC.match(text, floor + len(text[floor:end].rstrip(_DATE_CHARACTERS)), end + 40)
    if match is None or match.end() < end:
        match = from_digit(_NUMERIC, text, end, 12, 40)
        if match is None:
            return
    year, separator, month, day, first, separator2, second, year2 = match.groups()
    if year is None:
        separator, month, day = separator2, int(first), int(second)
        if len(year2) == 2 and (separator == " " or (separator == "." and len(second) == 1)):
            return  # 1 2 30 is a list, 1.2.30 a version
        if separator == "." and (day > 12 or is_version(text, match.start())):
            return  # with points, the day comes first
        if day < month:
            month, day = day, month
    else:
        month, day = int(month), int(day)
    if 1 <= month <= 12 and 1 <= day <= 31:
        found.append((*match.span(), Rank.HINT if separator == " " else Rank.SHAPE, Label.DATE))


_ISO_TIME: Final = re.compile(
    r"(?<!\d)(?:19|20)\d{2}-?(?:0[1-9]|1[0-2])-?(?:0[1-9]|[12]\d|3[01])T\d{2}:?\d{2}(?::?\d{2}(?:\.\d{1,9})?)?"
    r"(?:Z|[+-]\d{2}:?\d{2})?"
)


def _iso_time(text: str, end: int, found: list[Candidate]) -> None:
    match = touching(_ISO_TIME, text, end, 14, 24)
    if match:
        found.append((*match.span(), Rank.CHECKED, Label.DATE))


_MONTHS: Final = frozenset(
    words("""
    january february march april may june july august september october november december  jan feb mar apr jun jul aug
    sep sept oct nov dec  enero febrero marzo abril mayo junio julio agosto septiembre setiembre octubre noviembre
    diciembre ene abr ago dic  janvier février fevrier mars avril mai juin juillet août aout septembre octobre novembre
    décembre decembre janv févr avr juil déc  januar jänner februar feber märz maerz mai juni juli oktober dezember jän
    mär okt dez  gennaio febbraio marzo aprile maggio giugno luglio settembre ottobre novembre dicembre gen mag giu lug
    set ott  janeiro fevereiro março marco maio junho julho agosto setembro outubro novembro dezembro fev mai out
    januari februari maart april mei juni juli augustus oktober december mrt  stycznia lutego marca kwietnia maja
    czerwca lipca sierpnia września października listopada grudnia styczeń luty marzec kwiecień maj czerwiec lipiec
    sierpień wrzesień październik listopad grudzień  ocak şubat mart nisan mayıs haziran temmuz ağustos eylül ekim
    kasım aralık  januari februari mars maj augusti  ledna února března dubna května června července srpna září října
    listopadu prosince leden únor březen duben květen červen červenec srpen říjen prosinec  января февраля марта апреля
    мая июня июля августа сентября октября ноября декабря январь февраль март апрель май июнь июль август сентябрь
    октябрь ноябрь декабрь янв фев апр авг сен сент окт ноя дек  січня лютого березня квітня травня червня липня серпня
    вересня жовтня листопада грудня  ianuarie februarie martie aprilie iunie iulie septembrie octombrie noiembrie
    decembrie  január február március április május június július augusztus szeptember október  tammikuuta helmikuuta
    maaliskuuta huhtikuuta toukokuuta kesäkuuta heinäkuuta elokuuta syyskuuta lokakuuta marraskuuta joulukuuta  marts
    ιανουαρίου φεβρουαρίου μαρτίου απριλίου μαΐου ιουνίου ιουλίου αυγούστου σεπτεμβρίου οκτωβρίου νοεμβρίου δεκεμβρίου
    जनवरी फ़रवरी फरवरी मार्च अप्रैल मई जून जुलाई अगस्त सितंबर अक्टूबर नवंबर दिसंबर  يناير فبراير مارس أبريل مايو يونيو
    يوليو أغسطس سبتمبر أكتوبر نوفمبر ديسمبر
""")
)
_EVERYDAY: Final = frozenset(
    words("""
    may mar march set out gen mag ago sen mart mai mei maj mars dec dic dez jun juni ene lug giu ott abr sep sept apr
    aug jan
""")
)
"""Months that are everyday words or parts of them: triggered, and believed, only with a number beside them."""

_YEAR: Final = r"(?:(?:18|19|20|21)\d{2}|['’]\d{2})(?!\d|[-/]\d)"
_DAY: Final = r"(?:[12]\d|3[01]|0?[1-9])(?i:st|nd|rd|th|º|°|ª|er|\.º|\.)?(?!\w)"
_DAYS: Final = rf"{_DAY}(?:[ \n]?[-–][ \n]?{_DAY})?"
_OF: Final = (
    r"(?:[ \n.,-]{0,3}(?i:of the year|of the|of|de l'année|del año|de|del|di|do|den)[ \n]{1,2}|[ \n.,/-]{1,3}|)"
)
_DAY_BEFORE: Final = re.compile(rf"(?<![\w./:$€£])(?<!\d[-,]){_DAYS}{_OF}\Z")
_YEAR_BEHIND: Final = re.compile(
    rf"\.?(?:{_OF},?[ \n]?{_YEAR}(?: ?(?i:г\.|года|р\.))?(?i:{_TIME})|[ -]\d{{2}}(?![\w:.%]))"
)
_DAY_BEHIND: Final = re.compile(
    rf"\.?(?:[ \n.,-]{{1,3}}(?i:the )?{_DAYS}(?![:%]|[.,]\d)(?:{_OF},?[ \n]?{_YEAR}(?i:{_TIME}))?|{_OF},?[ \n]?{_YEAR})(?!\w)"
)


def _word_before(text: str, floor: int, end: int) -> tuple[int, int]:
    """Start and end of the word that ends at `end` or before it, and goes on behind it."""
    word_end = end
    while word_end > floor and not _is_letter(text[word_end - 1]):
        word_end -= 1
    start = word_end
    while start > floor and (text[start - 1].isalpha() or _is_letter(text[start - 1])):
        start -= 1
    while word_end < len(text) and word_end - start < 16 and _is_letter(text[word_end]):
        word_end += 1
    return start, word_end


_NO_LETTERS: Final = "".join(chr(code) for code in range(128) if not chr(code).isalpha())


def _plain_word_before(text: str, floor: int, end: int) -> tuple[int, int] | None:
    """The same for words in ASCII, in a tenth of the time; None: it may have other letters."""
    tail = text[floor:end].rstrip(_NO_LETTERS)
    head = tail.rstrip(ascii_letters)
    start, word_end = floor + len(head), floor + len(tail)
    if start == word_end or (head and not head[-1].isascii()) or text[word_end : word_end + 1].isalpha():
        return None
    following = text[word_end : word_end + 1]
    return (start, word_end) if following.isascii() else None


def _is_letter(char: str) -> bool:
    # The vowel signs of Indic scripts are no letters to Python.
    return char.isalpha() or "\u0900" <= char <= "\u0dff"


_HAS_DIGIT: Final = re.compile(r"\d")
_TELLING: Final = re.compile(r"\d{4}|\d(?:st|nd|rd|th)\b")


def _named(text: str, end: int, found: list[Candidate]) -> None:
    """A month by name, with a day before or behind it, or a year behind it."""
    floor = max(0, end - 32)
    start, word_end = _plain_word_before(text, floor, end) or _word_before(text, floor, end)
    if text[start:word_end].lower() not in _MONTHS:
        start, word_end = _word_before(text, floor, start)  # the trigger saw the beginning of the next word
        if text[start:word_end].lower() not in _MONTHS:
            return
    word = text[start:word_end]
    # "5 may be enough", "may 10 patients": in lower case and with nothing but a small number it says nothing.
    everyday = word in _EVERYDAY
    if everyday and not _TELLING.search(text, max(0, start - 9), word_end + 16):
        return
    first = _day_before(text, start)
    behind = (_YEAR_BEHIND if first < start else _DAY_BEHIND).match(text, word_end)
    if first == start and behind is None:
        return
    last = behind.end() if behind else word_end + (text[word_end : word_end + 1] == "." and len(word) < 5)
    if everyday and not _TELLING.search(text, first, last):
        return
    found.append((first, last, Rank.SHAPE, Label.DATE))


def _day_before(text: str, end: int) -> int:
    """Where the day begins that ends at `end`, with an article before it; `end` if there is none."""
    floor = end - 8 if end > 8 else 0
    head = text[floor:end].rstrip(" \n.,/-")
    before = head.rstrip(digits)
    run = len(head) - len(before)
    if run > 2:
        return end
    if run and before[-1:] in _DAY_FOLLOWS and before[-2:-1] not in {"-", "–"}:
        # Behind a word and nothing else: no article, no span of days. What `_DAY_BEFORE` asks, without asking it.
        start = floor + len(before)
        if end - start - run < 4 and 0 < int(head[-run:]) < 32 and text[start - 4 : start].lower() != "the ":
            return start
    if not _HAS_DIGIT.search(text, end - 9 if end > 9 else 0, end):
        return end
    digit = _HAS_DIGIT.search(text, max(0, end - 20), end)
    while digit is not None:
        start = digit.start()
        if not text[start - 1 : start].isdigit() and _DAY_BEFORE.match(text, start, end):
            article = text[start - 4 : start].lower() == "the " and text[start - 5 : start - 4] in _AROUND
            return start - 4 if article else start
        digit = _HAS_DIGIT.search(text, digit.end(), end)
    return end


_DAY_FOLLOWS: Final = frozenset(" \n;(\"'")
_AROUND: Final = frozenset(" \n\t\"'(,;-") | {""}
"""Before an article."""
_CJK: Final = re.compile(
    r"(?:(?:\d{4}|[〇零一二三四五六七八九]{4}) ?[年년] ?)?(?:\d{1,2}|[一二三四五六七八九十]{1,3}) ?[月월](?: ?(?:\d{1,2}|[一二三四五六七八九十]{1,3}) ?[日号號일])?|(?:令和|平成|昭和|民国|民國) ?(?:\d{1,3}|元) ?年(?: ?\d{1,2} ?月 ?\d{1,2} ?日)?"
)


def _cjk(text: str, end: int, found: list[Candidate]) -> None:
    match = _cjk_month(text, end) if text[end - 1] in "月월" else touching(_CJK, text, end, 12, 16)
    if match and len(match.group()) > 2:
        found.append((*match.span(), Rank.SHAPE, Label.DATE))


_CJK_NUMBER: Final = frozenset("0123456789〇零一二三四五六七八九十")


def _cjk_month(text: str, end: int) -> re.Match[str] | None:
    """The date whose month ends at `end`: with the year before it, if there is one."""
    month = end - 1 - (text[end - 2 : end - 1] == " ")
    floor = max(0, month - 3)
    while month > floor and text[month - 1] in _CJK_NUMBER:
        month -= 1
    before = text[max(0, month - 8) : month]
    if "年" in before or "년" in before:
        for start in range(month - len(before), month):
            match = _CJK.match(text, start)
            if match and match.end() >= end:
                return match
    return _CJK.match(text, month)


_MONTH_DAY: Final = re.compile(
    r"(?<![\w./-])(?P<a>\d{1,2})/(?P<b>\d{1,2})(?![\w%])(?![/.-]\d)"
    r"(?!\s?(?:mg|ml|mmhg|pm|am|tabs?|cups?|miles?|of|on|pain|scale|points?|strength|systolic)\b)",
    re.IGNORECASE | re.ASCII,
)
_CUES: Final = phrases("""
    on | since | seen | from | until | till | by | before | after | dated | date | dob | born | due | appt | appointment |
    admitted | discharged | visit | visited | started | begun | began | expires | expired | exp | issued | d.o.b. |
    closed | opened | scheduled | surgery | between | through | thru | as of | follow up | follow-up | f/u | dos | lmp |
    edd | implanted | filled | refilled | collected | drawn | performed | signed | birthday | updated | received | faxed |
    am | el | le | il | em | den | vom | dal | du | desde | depuis | seit | fecha | datum | data | d/c | adm | week of
""")
_CUE: Final = re.compile(
    rf"(?<![^\W_])(?:{trie(cased(_CUES))}|from [^.\n]{{3,16}} to)"
    r"(?: is| was|:| on| of| the| for)?[\s:=\"'(-]{1,4}(?:the )?(?:\d{1,2}/\d{1,2} ?(?:-|–|to|and|,|&) ?)?\Z"
)


def _cued(text: str, end: int, found: list[Candidate]) -> None:
    """Month and day alone: only behind a word that leads to a date; 3/4 is a fraction and 120/80 a blood pressure."""
    match = from_digit(_MONTH_DAY, text, end - 2, 5, 16)  # behind one or two characters more
    if match is None:
        return
    start = match.start()
    if text[max(0, start - 4) : start].rstrip()[-1:].isdigit():
        return  # one of many: no word leads to it
    one, other = int(match["a"]), int(match["b"])
    if 1 <= min(one, other) <= 12 and max(one, other) <= 31 and _CUE.search(text, max(0, start - 24), start):
        found.append((*match.span(), Rank.HINT, Label.DATE))


BIRTH_WORDS: Final = phrases("""
    dob | d o b | date of birth | birth date | birthdate | birthday | birth day | born | b day | bday | fecha de
    nacimiento | fecha nacimiento | nacido | nacida | nació | f nac | fnac | geboren | geb | geburtsdatum | geburtstag |
    né le | née le | né(e) le | né | née | date de naissance | naissance | nato il | nata il | nato | nata | data di
    nascita | nascido | nascida | data de nascimento | nascimento | dn | geboortedatum | urodzony | urodzona | ur | data
    urodzenia | doğum tarihi | doğum | doğumlu | född | födelsedatum | født | fødselsdato | syntynyt | narozen |
    narozena | datum narození | născut | született | 出生 | 出生日期 | 生日 | 生年月日 | 생년월일 | 출생 | дата рождения | родился |
    родилась | д р | जन्म | जन्मतिथि | जन्म तिथि | تاريخ الميلاد | ولد | γεννηθείς | ημερομηνία γέννησης | sinh ngày |
    ngày sinh
""")
DATE_WORDS: Final = phrases("""
    date of admission | admission date | date of discharge | discharge date | date of service | service date | visit date |
    date of visit | appointment date | date of death | fecha de ingreso | fecha de alta | fecha | aufnahmedatum |
    entlassungsdatum | date d'admission | date de sortie | data di ricovero | data de admissão | opnamedatum
""")
_TO_BIRTH: Final = re.compile(
    r"[\"'\s:=*_|#>(.,)/-]{0,6}(?:(?:is|was|on|in|the|am|el|día|le|il|em|op|den|w dniu|dnia|в|at|of|date|datum|ngày|dd)[\s:]{1,2}"
    r"|<[^<>\n]{1,20}>|[\"':=]){0,4}(?:\w{2,9}day,? )?",
    re.IGNORECASE,
)
_BIRTH_BEHIND: Final = re.compile(
    r"[\"')\]]{0,2}\s?(?:\((?:dob|birth ?date|date of birth)\)|\s?(?:is|was) (?:(?:my|his|her|their|the) )?"
    r"(?:dob|birthday|date of birth|birth ?date)|生まれ|出生|生|년생|doğumlu)",
    re.IGNORECASE,
)
_BIRTH_FOLLOWS: Final = frozenset("\"')] \n\t(生出생년dD")
_MANY_DIGITS: Final = digit_count(5)
BIRTH_REACH: Final = 40
"""Characters between a word for birth and its date."""


def is_birth(text: str, word_end: int, start: int, end: int) -> bool:
    """Whether the date at `text[start:end]` is somebody's date of birth, when the nearest word for that before it ended
    at `word_end`."""
    leads = 0 <= start - word_end <= BIRTH_REACH and _TO_BIRTH.fullmatch(text, word_end, start)
    return bool(leads) or (text[end : end + 1] in _BIRTH_FOLLOWS and _BIRTH_BEHIND.match(text, end) is not None)


_DIGITS_AND_SLASHES: Final = re.compile(
    r"[\"'\s:=*_|>-]{0,6}(?P<v>\d{1,5} ?[/.-]{1,2} ?\d{1,4}(?: ?[/.-]{1,2} ?\d{2,4})?)(?![\w/-])", re.ASCII
)


def _birth(text: str, end: int, found: list[Candidate]) -> None:
    # Not a finding: an empty span tells the scan where to look at dates again.
    found.append((end, end, Rank.HINT, Label.DATE_OF_BIRTH))
    # However it is misspelt: 19/05 /1981, 16/018/1961
    match = _DIGITS_AND_SLASHES.match(text, end)
    if match:
        found.append((*match.span("v"), Rank.LIKELY, Label.DATE_OF_BIRTH))


def _dated(text: str, end: int, found: list[Candidate]) -> None:
    match = _DIGITS_AND_SLASHES.match(text, end)
    if match and _MANY_DIGITS.fullmatch(match["v"]):
        found.append((*match.span("v"), Rank.LIKELY, Label.DATE))


_AGE: Final = re.compile(
    r"(?<![\w.,/-])(?:9\d|1[01]\d)(?:[ -]?(?:years?|yrs?)[ -](?:old|of age|young)|[ -]?y[/ ]?o(?![a-z])|[ -]?y\.o\.|[ -]?yr\.? ?old"
    r"|[ -]?(?:años|ans|jahre(?: alt)?|jährige[rnms]?|anni|anos|jaar|lat|yaş(?:ında)?|år|лет|letá|let|rokov|έτη|ετών|tuổi|वर्ष|साल|عاما|سنة))(?!\w)"
    r"|(?<![A-Za-z0-9.,/-])(?:9\d|1[01]\d) ?(?:岁|歳|才|세|살)",
    re.IGNORECASE,
)
_AGED: Final = re.compile(
    r"[\s:=\"']{0,4}(?:(?:is|was|of|at)\s)?(?P<v>9\d|1[01]\d)(?![\w%/])(?![.-]\d)(?!\s?(?:mg|ml|bpm|percent|months|days|weeks))",
    re.IGNORECASE,
)


def _age(text: str, end: int, found: list[Candidate]) -> None:
    match = from_digit(_AGE, text, end, 5, 16)
    if match:
        found.append((*match.span(), Rank.SHAPE, Label.AGE_OVER_89))


def _aged(text: str, end: int, found: list[Candidate]) -> None:
    match = _AGED.match(text, end)
    if match and (match.start("v") > end):
        start = end
        while start > 0 and text[start - 1].isalpha():
            start -= 1
        found.append((start, match.end("v"), Rank.SHAPE, Label.AGE_OVER_89))


def _ambiguous_triggers() -> tuple[str, ...]:
    months = sorted(_EVERYDAY)
    return (
        *(rf"[^A-Za-z]{word}[.,\n -]{{1,3}}\d" for word in months),
        *(rf"\d(?:st|nd|rd|th)?[\n ./-](?:of |de )?{word}[\x00-@\[-`{{-\x7f][^0-9]" for word in months),
    )


RECOGNIZERS: Final[tuple[Recognizer, ...]] = (
    Recognizer(
        "date-numeric",
        _numeric,
        # In one expression: as four they become an automaton that looks at every byte.
        (
            r"[^0-9A-Za-z._](?:\d{1,2}(?:[-/.]\s?\d{1,2}[-/.]\s?| \d{1,2} )(?:18|19|20|21)\d\d|\d{1,2}[-/.]\s?\d{1,2}[-/.]\s?\d\d|(?:18|19|20|21)\d\d[-/. ]\d{1,2}[-/. ]\d{1,2})\b",
        ),
        digits=True,
    ),
    Recognizer("date-iso-time", _iso_time, (r"\b(?:19|20)\d{2}-?[01]\d-?[0-3]\dT\d",), digits=True),
    Recognizer(
        "date-named",
        _named,
        _ambiguous_triggers(),
        tuple(word for word in sorted(_MONTHS) if word not in _EVERYDAY),
        caseless=True,
        near=True,
    ),
    Recognizer(
        "date-cjk",
        _cjk,
        (
            *(f"{number} ?{month}" for number in ("[0-9]", *"一二三四五六七八九十") for month in "月월"),
            *(f"{era} ?(?:[0-9]|元)" for era in ("令和", "平成", "昭和", "民国", "民國")),
        ),
    ),
    Recognizer("date-cued", _cued, (r"[^0-9A-Za-z_./-]\d{1,2}/\d{1,2}(?:[^0-9A-Za-z/.-]|[.][^0-9])",), near=True),
    Recognizer("birth", _birth, words=BIRTH_WORDS, near=True),
    Recognizer("date-field", _dated, words=DATE_WORDS, near=True),
    Recognizer(
        "age",
        _age,
        (r"\b(?:9\d|1[01]\d)[ -]?(?:y|a|j|l|å|л|έ|ε|t|r|岁|歳|才|세|살|व|स|ع|س)",),
        caseless=True,
        near=True,
    ),
    Recognizer(
        "aged",
        _aged,
        words=phrases("""
            age | aged | edad | âge | âgé de | âgée de | alter | età | idade | возраст | 年龄 | 年齢 | 나이 | उम्र
        """),
        near=True,
    ),
)
