"""Dates more exact than a year, and ages over 89."""

import re
from typing import Final

from policies.airlock.labels import Label
from policies.airlock.recognizers.recognizer import Candidate, Rank, Recognizer, either, phrases

_TIME: Final = (
    r"(?:(?:T|,? (?:at )?)\d{1,2}:\d{2}(?::\d{2}(?:\.\d{1,9})?)?(?: ?[AaPp]\.?[Mm]\b\.?| ?Z\b| ?[+-]\d{2}:?\d{2}\b)?)?"
)
_NUMERIC: Final = re.compile(
    r"(?<![\w.,])(?<!\d[-/])(?:"
    r"(?P<y>(?:18|19|20|21)\d{2})(?P<s>[-/. ])(?P<m>\d{1,2})(?P=s)(?P<d>\d{1,2})"
    r"|(?P<a>\d{1,2})(?P<s2>[-/.]\s?| )(?P<b>\d{1,2})(?P=s2)(?P<y2>(?:18|19|20|21)\d{2}|\d{2})"
    r")(?!\w)(?![-/]\d|\.\d)" + _TIME
)


def _numeric(text: str, end: int, found: list[Candidate]) -> None:
    match = _NUMERIC.search(text, max(0, end - 12))
    if match is None or match.start() >= end:
        return
    if match["y"]:
        plausible = 1 <= int(match["m"]) <= 12 and 1 <= int(match["d"]) <= 31
    else:
        first, second = sorted((int(match["a"]), int(match["b"])))
        plausible = 1 <= first <= 12 and 1 <= second <= 31
        if match["s2"] == "." and len(match["y2"]) == 2 and len(match["b"]) < 2:
            plausible = False  # 1.2.30 is a version
        if match["s2"] == " " and len(match["y2"]) == 2:
            plausible = False
    if plausible:
        rank = Rank.SHAPE if (match["s"] or match["s2"]) != " " else Rank.HINT
        found.append((*match.span(), rank, Label.DATE))


_ISO_TIME: Final = re.compile(
    r"(?<!\d)(?:19|20)\d{2}-?(?:0[1-9]|1[0-2])-?(?:0[1-9]|[12]\d|3[01])T\d{2}:?\d{2}(?::?\d{2}(?:\.\d{1,9})?)?(?:Z|[+-]\d{2}:?\d{2})?"
)


def _iso_time(text: str, end: int, found: list[Candidate]) -> None:
    match = _ISO_TIME.search(text, max(0, end - 14))
    if match and match.start() < end:
        found.append((*match.span(), Rank.CHECKED, Label.DATE))


MONTHS: Final = phrases("""
    january february march april may june july august september october november december | jan feb mar apr jun jul aug
    sep sept oct nov dec | enero febrero marzo abril mayo junio julio agosto septiembre setiembre octubre noviembre
    diciembre ene abr ago dic | janvier février fevrier mars avril mai juin juillet août aout septembre octobre novembre
    décembre decembre janv févr avr juil déc | januar jänner februar feber märz maerz mai juni juli oktober dezember jän
    mär okt dez | gennaio febbraio marzo aprile maggio giugno luglio settembre ottobre novembre dicembre gen mag giu lug
    set ott | janeiro fevereiro março marco maio junho julho agosto setembro outubro novembro dezembro fev mai out |
    januari februari maart april mei juni juli augustus oktober december mrt | stycznia lutego marca kwietnia maja
    czerwca lipca sierpnia września października listopada grudnia styczeń luty marzec kwiecień maj czerwiec lipiec
    sierpień wrzesień październik listopad grudzień | ocak şubat mart nisan mayıs haziran temmuz ağustos eylül ekim
    kasım aralık | januari februari mars maj augusti | ledna února března dubna května června července srpna září října
    listopadu prosince leden únor březen duben květen červen červenec srpen říjen prosinec | января февраля марта апреля
    мая июня июля августа сентября октября ноября декабря январь февраль март апрель май июнь июль август сентябрь
    октябрь ноябрь декабрь янв фев апр авг сен сент окт ноя дек | січня лютого березня квітня травня червня липня серпня
    вересня жовтня листопада грудня | ianuarie februarie martie aprilie iunie iulie septembrie octombrie noiembrie
    decembrie | január február március április május június július augusztus szeptember október | tammikuuta helmikuuta
    maaliskuuta huhtikuuta toukokuuta kesäkuuta heinäkuuta elokuuta syyskuuta lokakuuta marraskuuta joulukuuta | marts |
    ιανουαρίου φεβρουαρίου μαρτίου απριλίου μαΐου ιουνίου ιουλίου αυγούστου σεπτεμβρίου οκτωβρίου νοεμβρίου δεκεμβρίου |
    जनवरी फ़रवरी फरवरी मार्च अप्रैल मई जून जुलाई अगस्त सितंबर अक्टूबर नवंबर दिसंबर | يناير فبراير مارس أبريل مايو يونيو
    يوليو أغسطس سبتمبر أكتوبر نوفمبر ديسمبر
""")
_MONTH_WORDS: Final = sorted({word for line in MONTHS for word in line.split()}, key=len, reverse=True)
_MONTH: Final = "(?:" + "|".join(map(re.escape, _MONTH_WORDS)) + r")(?![^\W\d_])\.?"
_YEAR: Final = r"(?:(?:18|19|20|21)\d{2}|['’]\d{2})(?!\d|[-/]\d)"
_DAY: Final = r"(?:[12]\d|3[01]|0?[1-9])(?:st|nd|rd|th|º|°|ª|er|\.º|\.)?"
_OF: Final = r"(?:[ \n.,-]{0,3}(?:of|de|del|di|do|den|of the)[ \n]{1,2}|[ \n.,/-]{1,3}|)"
_MONTH_FIRST: Final = re.compile(
    rf"(?<![^\W\d_])(?P<month>{_MONTH})(?:"
    rf"[ \n.,-]{{1,3}}(?:the )?{_DAY}(?:[ \n]?[-–][ \n]?{_DAY})?(?![\d:%]|\.\d)(?:{_OF},?[ \n]?{_YEAR}(?:{_TIME}))?"
    rf"|{_OF},?[ \n]?{_YEAR})(?!\w)",
    re.IGNORECASE,
)
_DAY_FIRST: Final = re.compile(
    rf"(?<![\w.,/:$€£])(?<!\d-)(?:the )?{_DAY}(?:[ \n]?[-–][ \n]?{_DAY})?{_OF}(?P<month>{_MONTH})(?:{_OF},?[ \n]?{_YEAR}(?: ?(?:г\.|года|р\.))?|[ -]\d{{2}}(?![\d:.%]))?(?!\w)",
    re.IGNORECASE,
)
_EVERYDAY: Final = frozenset(
    [
        "may",
        "mar",
        "march",
        "set",
        "out",
        "gen",
        "mag",
        "ago",
        "sen",
        "mart",
        "mai",
        "mei",
        "maj",
        "mars",
        "dec",
        "dic",
        "dez",
        "jun",
        "juni",
        "ene",
        "lug",
        "giu",
        "ott",
        "abr",
        "sep",
        "sept",
        "apr",
        "aug",
        "jan",
    ]
)
# Words that are months only next to a number which must be a day: "may 5 patients", "mar 3".
_AMBIGUOUS: Final = frozenset(
    {
        "may",
        "mar",
        "march",
        "set",
        "mart",
        "mai",
        "mei",
        "out",
        "gen",
        "mag",
        "dic",
        "sen",
        "marco",
        "ago",
        "dez",
        "dec",
        "jun",
        "jan",
        "ene",
        "maj",
        "mars",
    }
)


def _named(text: str, end: int, found: list[Candidate]) -> None:
    window = max(0, end - 32)
    for expression in (_DAY_FIRST, _MONTH_FIRST):
        match = expression.search(text, window, min(len(text), end + 40))
        if match and match.start() < end:
            word = match["month"].rstrip(".").lower()
            # "5 may be enough", "may 10 patients": lower case and nothing but one number says nothing
            if (
                word in _AMBIGUOUS
                and match["month"][0].islower()
                and not re.search(r"\d{4}|\d(?:st|nd|rd|th)\b", match.group())
            ):
                continue
            found.append((*match.span(), Rank.SHAPE, Label.DATE))
            return


_CJK: Final = re.compile(
    r"(?:(?:\d{4}|[〇零一二三四五六七八九]{4}) ?[年년] ?)?(?:\d{1,2}|[一二三四五六七八九十]{1,3}) ?[月월](?: ?(?:\d{1,2}|[一二三四五六七八九十]{1,3}) ?[日号號일])?|(?:令和|平成|昭和|民国|民國) ?(?:\d{1,3}|元) ?年(?: ?\d{1,2} ?月 ?\d{1,2} ?日)?"
)


def _cjk(text: str, end: int, found: list[Candidate]) -> None:
    match = _CJK.search(text, max(0, end - 12))
    if match and match.start() < end and len(match.group()) > 2:
        found.append((*match.span(), Rank.SHAPE, Label.DATE))


_MONTH_DAY: Final = re.compile(
    r"(?<![\w./-])(?P<a>\d{1,2})/(?P<b>\d{1,2})(?![\w%])(?![/.-]\d)(?!\s?(?:mg|ml|mmhg|pm|am|tabs?|cups?|miles?|of|on|pain|scale|points?|strength|systolic)\b)",
    re.IGNORECASE,
)
_CUE: Final = re.compile(
    r"(?<![^\W_])(?:on|since|seen|from|until|till|by|before|after|dated|date|dob|born|due|appt|appointment|admitted|discharged|visit|visited|started|begun|began|"
    r"expires|expired|exp|closed|opened|scheduled|surgery|between|through|thru|as of|follow[ -]?up|f/u|dos|lmp|edd|implanted|filled|refilled|collected|drawn|"
    r"performed|signed|birthday|updated|received|faxed|am|el|le|il|em|den|vom|dal|du|desde|depuis|seit|fecha|datum|data|d/c|adm|week of)"
    r"(?: is| was|:| on| of| the| for)?[\s:=\"'(-]{1,4}(?:the )?(?:\d{1,2}/\d{1,2} ?(?:-|–|to|and|,|&) ?)?\Z",
    re.IGNORECASE,
)


def _cued(text: str, end: int, found: list[Candidate]) -> None:
    """Month and day alone: only behind a word that leads to a date; 3/4 is a fraction and 120/80 a blood pressure."""
    match = _MONTH_DAY.search(text, max(0, end - 5))
    if match is None or match.start() >= end:
        return
    first, second = sorted((int(match["a"]), int(match["b"])))
    if 1 <= first <= 12 and 1 <= second <= 31 and _CUE.search(text, max(0, match.start() - 24), match.start()):
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
_BIRTH: Final = re.compile(
    either(*BIRTH_WORDS)
    + r"(?![a-z])[\"'\s:=*_|#>(.,)-]{0,6}(?:(?:is|was|on|in|the|am|el|día|le|il|em|op|den|w dniu|dnia|в|at|of|date|datum|/|ngày)\s{1,2}|<[^<>\n]{1,20}>|[\"':=]){0,4}(?:\w{2,9}day,? )?\Z",
    re.IGNORECASE,
)
_BIRTH_BEHIND: Final = re.compile(
    r"[\"')\]]{0,2}\s?(?:\((?:dob|birth ?date|date of birth)\)|\s?(?:is|was) (?:(?:my|his|her|their|the) )?(?:dob|birthday|date of birth|birth ?date)|生まれ|出生|生|년생|doğumlu|रोज जन्म)",
    re.IGNORECASE,
)


def is_birth(text: str, start: int, end: int) -> bool:
    """Whether the date at `text[start:end]` is somebody's date of birth."""
    before = _BIRTH.search(text, max(0, start - 48), start)
    if before and (before.start() == 0 or not text[before.start() - 1].isalnum() or not text[before.start()].isascii()):
        return True
    return _BIRTH_BEHIND.match(text, end) is not None


def _birth(_text: str, end: int, found: list[Candidate]) -> None:
    # Not a finding: an empty span tells the scan that dates must be looked at again.
    found.append((end, end, Rank.HINT, Label.DATE_OF_BIRTH))


_AGE: Final = re.compile(
    r"(?<![\w.,/-])(?:9\d|1[01]\d)(?:[ -]?(?:years?|yrs?)(?:[ -](?:old|of age|young))?|[ -]?y[/ ]?o(?![a-z])|[ -]?y\.o\.|[ -]?yr\.? ?old"
    r"|[ -]?(?:años|ans|jahre(?: alt)?|jährige[rnms]?|anni|anos|jaar|lat|yaş(?:ında)?|år|лет|letá|let|rokov|έτη|ετών|tuổi|वर्ष|साल|عاما|سنة))(?!\w)"
    r"|(?<![\w.,/-])(?:9\d|1[01]\d) ?(?:岁|歳|才|세|살)",
    re.IGNORECASE,
)
_AGED: Final = re.compile(
    r"[\s:=\"']{0,4}(?:(?:is|was|of|at)\s)?(?P<v>9\d|1[01]\d)(?![\w%/])(?![.-]\d)(?!\s?(?:mg|ml|bpm|percent|months|days|weeks))",
    re.IGNORECASE,
)


def _age(text: str, end: int, found: list[Candidate]) -> None:
    match = _AGE.search(text, max(0, end - 10))
    if match and match.start() < end:
        found.append((*match.span(), Rank.SHAPE, Label.AGE_OVER_89))


def _aged(text: str, end: int, found: list[Candidate]) -> None:
    match = _AGED.match(text, end)
    if match and (match.start("v") > end):
        start = end
        while start > 0 and text[start - 1].isalpha():
            start -= 1
        found.append((start, match.end("v"), Rank.SHAPE, Label.AGE_OVER_89))


def _ambiguous_triggers() -> tuple[str, ...]:
    """Months that are everyday words or parts of them: only with a digit beside them."""
    return tuple(rf"[^A-Za-z]{word}\.?,? \d" for word in sorted(_EVERYDAY)) + tuple(
        rf"\d(?:st|nd|rd|th)?[ ./-](?:of |de )?{word}[^a-z]" for word in sorted(_EVERYDAY)
    )


RECOGNIZERS: Final = (
    Recognizer(
        "date-numeric", _numeric, (r"\b\d{1,4}(?:[-/.]\s?| )\d{1,2}(?:[-/.]\s?| )(?:\d{4}|\d{1,2})\b",), digits=True
    ),
    Recognizer("date-iso-time", _iso_time, (r"\b(?:19|20)\d{2}-?[01]\d-?[0-3]\dT\d",), digits=True),
    Recognizer(
        "date-named",
        _named,
        _ambiguous_triggers(),
        tuple(word for word in _MONTH_WORDS if word not in _EVERYDAY),
        caseless=True,
    ),
    Recognizer(
        "date-cjk",
        _cjk,
        (
            *(f"{number} ?{month}" for number in ("[0-9]", *"一二三四五六七八九十") for month in "月월"),
            "令和",
            "平成",
            "昭和",
            "民国",
            "民國",
        ),
    ),
    Recognizer("date-cued", _cued, (r"\b\d{1,2}/\d{1,2}\b",)),
    Recognizer("birth", _birth, words=BIRTH_WORDS),
    Recognizer("age", _age, (r"\b(?:9\d|1[01]\d)[ -]?(?:y|a|j|l|å|л|έ|ε|t|r|岁|歳|才|세|살|व|स|ع|س)",), caseless=True),
    Recognizer(
        "aged",
        _aged,
        words=phrases("""
            age | aged | edad | âge | âgé de | âgée de | alter | età | idade | возраст | 年龄 | 年齢 | 나이 | उम्र
        """),
    ),
)
