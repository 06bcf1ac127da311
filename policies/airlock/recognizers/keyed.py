"""Numbers that only a keyword tells apart: record, plan, account, licence, serial and other personal numbers.

The trigger is the keyword; the confirmation skips a bounded filler ("number is: #") and takes the value behind it, or
the one before it ("12345678 is my MRN"). A check digit is never asked for: real prompts are full of invented numbers.
"""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

from policies.airlock.labels import Label
from policies.airlock.recognizers.recognizer import (
    Candidate,
    Confirm,
    Rank,
    Recognizer,
    cased,
    phrases,
    trie,
    words,
)

# What may stand between a keyword and its value: quotes and separators of prose, JSON, XML, YAML and SQL, and words
# that say "here it comes". Possessive: never taken back, so the whole match is linear.
_FILLER_WORDS: Final = words("""
    is was are read reads equals being as no nos num nr nbr number numbers code value of for the my his her its their
    your our a an and to on file id ids identifier identification card cards record full new old current primary
    secondary patient patients ending in with under following listed given assigned s es está fue el la de del di da do
    n nº n° núm número numero numéro nummer lautet ist est e é è du des le номер 号码 号 番号 번호 नंबर है संख्या رقم 是 为 は
""")
_FILLER: Final = (
    r"(?:[^\W\d_A-Za-z]{1,4})?+"  # the ending of an inflected word: номер телефона
    r"(?:[^\S\n]|[:=#\"'`*_|>~({\[,;\\“”‘’«»：（＝、-]|\.(?!\d)|\)(?=\s?[:#])|\n(?=[^\S\n]{0,8}[\"'#]?[A-Za-z]{0,4}[-#]?\d)|"
    r"of (?:(?:the|my|his|her|their|our|this|that) )?[a-z]{2,16}(?:'s)?(?= is\b| was\b|:)|"
    rf"(?=[^\W\d_])(?:{trie(cased(_FILLER_WORDS))})(?![A-Za-z0-9])|"
    r"[№º°]|</?[^<>\n]{0,40}>){0,14}+"
)

_FILLERS: Final = frozenset(_FILLER_WORDS)
_PROSE: Final = re.compile(r",? ([a-wyz][a-z]*)[ ,.]")
"""A word behind the keyword that is no value and, unless it is one of `_FILLERS`, leads to none. Masks begin with x."""
_IDENTIFIER: Final = r"(?P<v>(?=[A-Za-z]{0,8}+[-_/. ]?+[A-Za-z]{0,4}+[-_/.]?+\d)[A-Za-z0-9](?:[A-Za-z0-9]|[-_/.](?=[A-Za-z0-9])){1,39}+%s)(?![A-Za-z0-9@])"
_SPACED_DIGITS: Final = r"(?:(?<=\d) (?=\d{1,12}(?![\w./-]\w|%|:))\d{2,12}){0,4}+"

_NO_IDENTIFIER: Final = re.compile(
    r"(?=\d)(?:(?:19|20)\d\d[-/.]\d{1,2}[-/.]\d{1,2}|\d{1,2}[-/.]\d{1,2}[-/.](?:19|20)?\d\d"
    r"|\d+(?:st|nd|rd|th|mg|ml|mcg|kg|cm|mm|yo|bpm|am|pm|k|m|x)"
    r"|\d{1,3}-(?:year|day|week|month|hour|digit|character|bit).*|\d{1,4}\.\d{1,2})|v\d[\d.]*",
    re.IGNORECASE,
)
"""Dates, ordinals, measures and versions that a filler may lead to."""


def at_least(digits: int) -> Callable[[str], re.Match[str] | None]:
    """Asks whether a value has that many digits."""
    return re.compile(rf"(?:\D*+\d){{{digits}}}").match


_DIGIT: Final = re.compile("[0-9]")
_BEHIND_VALUE: Final = re.compile(
    r"(?:^|(?<=[\s\0\"'#(,:;]))(?P<v>(?=[A-Za-z-]{0,8}\d)[A-Za-z0-9](?:[A-Za-z0-9]|[-_/.](?=[A-Za-z0-9])){3,39})[\"')]?"
    r"(?:\s?\(|\s(?:is|was|ist|es|est|é|è)\s(?:(?:the|my|his|her|their|your|our|a|mi|su|meine|mon|son|ma)\s)?(?:\w+\s)?|,?\s(?:as\s)?(?:the|my|his|her|their|your|our)\s)\Z",
    re.IGNORECASE,
)
"""A value just before its keyword: `12345678 (MRN)`, `12345678 is my MRN`."""


@dataclass(frozen=True, slots=True)
class Keyed:
    """One label, its keywords and what its values look like."""

    label: Label
    words: Sequence[str]
    value: str = _IDENTIFIER % _SPACED_DIGITS
    """Expression with a group `v`."""
    fewest_digits: int = 3
    exact: bool = False
    """Whether whatever `value` matches is believed."""
    leading: tuple[str, ...] = ()
    """Words with which `value` may begin."""
    backwards: bool = True
    """Whether a value may stand before the keyword."""
    shapes: tuple[str, ...] = ()
    rank: int = Rank.KEYED

    def recognizer(self) -> Recognizer:
        """The recogniser that this describes."""
        return Recognizer(
            f"keyed-{self.label.lower()}",
            _confirmation(self),
            self.shapes,
            tuple(self.words),
            near=self.fewest_digits > 0,
        )


def _confirmation(kind: Keyed) -> Confirm:
    ahead, prose = re.compile(_FILLER + kind.value).match, _PROSE.match
    label, rank, fewest = kind.label, kind.rank, kind.fewest_digits
    enough, excluded = at_least(fewest), _NO_IDENTIFIER.fullmatch
    exact = kind.exact
    backwards, fillers = kind.backwards, _FILLERS.union(kind.leading)
    enough_behind = at_least(max(fewest, 4))

    def confirm(text: str, end: int, found: list[Candidate]) -> None:
        word = prose(text, end) if text[end + 1 : end + 2].islower() or text[end : end + 1] == "," else None
        match = ahead(text, end) if word is None or word[1] in fillers else None
        if match:
            value = match[1]
            start, stop = match.span(1)
            # Right behind the keyword, a letter only makes it a longer word; so does a digit in lower case: sn00ki.
            if start == end and (value[0].isalpha() or text[end - 1].islower()):
                believed: object = False
            elif exact:
                believed = True
            elif value.isdecimal():
                believed = stop - start >= fewest
            else:
                # What is excluded begins with a digit, or is a version.
                believed = enough(value) and ((value[0].isalpha() and value[0] not in "vV") or not excluded(value))
            if believed:
                found.append((start, stop, rank, label))
                return
        if backwards:
            # The keyword's last word, and what leads to it from a value before it: `12345678 (MRN)`, `... is my MRN`.
            floor = end - 24 if end > 24 else 0
            space = text.rfind(" ", floor, end)
            owned = space >= floor and text[space - 2 : space] in _OWNERS_ENDS and text.endswith(_OWNERS, 0, space + 1)
            start = space + 1
            if not owned:
                start = text.rfind("(", max(space, floor), end) + 1
                if not start:
                    return
            floor = start - 60 if start > 60 else 0
            before = _BEHIND_VALUE.search(text, floor, start) if _DIGIT.search(text, floor, start) else None
            if before and enough_behind(before[1]) and not excluded(before[1]):
                found.append((*before.span(1), rank, label))

    return confirm


_OWNERS: Final = tuple(f" {word} " for word in words("is was my the his her their your our ist est es"))
"""What stands before a keyword that explains the value before it."""
_OWNERS_ENDS: Final = frozenset(owner[-3:-1] for owner in _OWNERS)

_PLATE: Final = r"(?P<v>(?=[A-ZÄÖÜ -]{0,6}\d)(?=(?:[A-ZÄÖÜ0-9][ -]?){4})[A-ZÄÖÜ0-9]{1,8}(?:[ -][A-Z0-9]{1,5}(?![A-Za-z0-9])){0,2}+)(?![A-Za-z0-9])"
_SERIAL: Final = (
    r"(?P<v>\(01\)\d{14}(?:\(\d{2,3}\)[A-Za-z0-9]{1,20}){0,4}|(?:[0-9A-Fa-f]{2}[:-]){5,7}[0-9A-Fa-f]{2}"
    r"|(?=[A-Za-z]{0,8}[-_/.]?[A-Za-z]{0,8}[-_/.]?\d)[A-Za-z0-9](?:[A-Za-z0-9]|[-_/.](?=[A-Za-z0-9])){2,39}+"
    r"|[A-Z0-9]{10,24})(?![A-Za-z0-9@])"
)
_SSN_VALUE: Final = (
    r"(?P<v>\d{3}[-. \n]{0,2}\d{2}[-. \n]{0,2}\d{4}|(?:[xX*•#]{3}[- ]?[xX*•#]{2}[- ]?)\d{4})(?![A-Za-z0-9@])(?!-\d)"
)
_DIGITS = r"(?P<v>\d(?:[ .-]?\n?\d){%s})(?![A-Za-z0-9@])(?!-\d)"
_VIN: Final = r"(?P<v>(?=[A-Za-z]*\d)[A-HJ-NPR-Za-hj-npr-z0-9]{11,17})(?![A-Za-z0-9])"
_ZIP: Final = r"(?P<v>\d{5}(?:-\d{4})?|[A-Z]{1,2}\d[A-Z\d]? ?\d[A-Z]{2}|[A-Z]\d[A-Z][ -]?\d[A-Z]\d|\d{3}[- ]\d{2,4}|\d{4} ?[A-Z]{2}|\d{2}-\d{3}|\d{5}-\d{3}|\d{4,7}|[A-Z]{1,2}-\d{4,5})(?![A-Za-z0-9])(?!-\d)"
_SPACED_GROUPS: Final = r"(?P<v>\d{2,12}(?:[ -]\d{1,10}){0,4}+)(?![\w@])"

_OF_TEMPLATES: Final = words(
    "scan template hash sample signature profile data file ref reference print match matches identifier image"
)

KEYED: Final = (
    Keyed(
        Label.MRN,
        phrases("""
            mrn | mr number | mr no | mr # | medical record | medical records number | medical rec | med rec | health
            record | patient number | patient no | hospital number | hospital no | hospital id | chart number | chart no
            | chart id | chart # | record number | record no | record id | record # | patient id | patient identifier |
            pat id | pid | patientid | unit number | case number | case no | encounter number | encounter id | visit
            number | visit id | admission number | admission no | episode number | file number | nhc | cipa | historia clínica
            | historia clinica | nº historia | número de historia | expediente | aktenzeichen | fallnummer |
            patientennummer | patienten nr | patienten id | ipp | nda | numéro de dossier | dossier | n° dossier |
            cartella clinica | prontuário | prontuario | patiëntnummer | numer pacjenta | dosya no | protokol no | 病历号 |
            病案号 | 住院号 | 门诊号 | カルテ番号 | 患者番号 | 患者ID | 등록번호 | 환자번호 | номер карты | история болезни | медкарта |
            амбулаторная карта | मरीज आईडी | रोगी संख्या
        """),
    ),
    Keyed(
        Label.HEALTH_PLAN_ID,
        phrases("""
            member id | member number | member no | member # | memberid | mbr id | membership number | membership id |
            subscriber id | subscriber number | subscriber no | subscriber # | subscriber | beneficiary id | beneficiary
            number | beneficiary | health plan | plan id | plan number | plan # | policy number | policy no | policy id
            | policy # | policy | group number | group no | group id | group # | insurance id | insurance number |
            insurance no | insurance policy | insurance # | insurance card | insurance member | insurance | insured id |
            payer id | medicare | medicaid | medi-cal | mbi | hicn | tricare | coverage id | enrollee id | enrollment id
            | hmo | ppo | claim number | claim no | claim id | claim # | health card | ohip | nass | nuss | afiliación |
            afiliado | póliza | seguridad social | tarjeta sanitaria | cip | versichertennummer | versicherungsnummer |
            krankenkasse | kvnr | policennummer | mutuelle | numéro d'adhérent | adhérent | tessera sanitaria |
            carteirinha | plano de saúde | verzekeringsnummer | polisnummer | 医保号 | 医保卡 | 保单号 | 保険証番号 | 被保険者番号 | 보험번호 |
            полис | снилс | омс | बीमा
        """),
    ),
    Keyed(
        Label.ACCOUNT_NUMBER,
        phrases("""
            account number | account no | account num | account id | account # | account | accounts | acct | acct number
            | acct no | acc no | acc # | a/c | bank account | checking account | savings account | routing number |
            routing no | routing # | routing | aba | sort code | billing id | billing number | invoice account | loan
            number | loan no | customer number | customer no | customer id | customer # | client number | client id |
            bsb | swift | guarantor | ledger | cuenta | número de cuenta | kontonummer | konto | kundennummer | compte |
            numéro de compte | numéro client | conto | conta | rekeningnummer | klantnummer | numer konta | hesap no |
            hesap | 账号 | 账户 | 银行卡 | 口座番号 | 계좌번호 | номер счета | счет | расчетный счет | खाता | खाता संख्या
        """),
    ),
    Keyed(
        Label.CERTIFICATE_NUMBER,
        phrases("""
            npi | dea | dea number | license | licence | license number | licence number | license no | driver's license
            | drivers license | driver license | driving licence | driving license | dl number | dl # | medical
            license | nursing license | rn license | state license | board certification | certificate | certificate
            number | certificate no | certificate # | certification | certification number | cert | cert no | cert # |
            credential | credential number | registration | registration number | registration no | gmc | gmc number |
            nmc | ahpra | upin | clia | permit | permit number | lanr | bsnr | colegiado | nºcol | nº col | n° col | num
            col | número de colegiado | carnet de conducir | carné | licencia | licencia de conducir | matrícula
            profesional | führerschein | führerscheinnummer | approbation | arztnummer | rpps | adeli | permis de
            conduire | permis | patente | albo | crm | carteira de motorista | cnh | rijbewijs | big nummer | prawo
            jazdy | ehliyet | 驾照 | 驾驶证 | 执业证 | 证书编号 | 運転免許 | 免許証番号 | 면허번호 | водительское удостоверение | права |
            лицензия | ड्राइविंग लाइसेंस | लाइसेंस
        """),
        shapes=(r"[^A-Za-z0-9/]DL\b",),
        backwards=False,
    ),
    Keyed(
        Label.LICENSE_PLATE,
        phrases("""
            license plate | licence plate | number plate | plate | plates | plate number | plate no | tag number |
            license tag | vehicle registration | car registration | registration plate | reg no | vrm | vehicle tag |
            matrícula | matricula | placa | placas | kennzeichen | nummernschild | kfz kennzeichen | immatriculation |
            plaque | plaque d'immatriculation | targa | kenteken | tablica rejestracyjna | numer rejestracyjny | plaka |
            registreringsnummer | 车牌 | 车牌号 | ナンバープレート | 차량번호 | 번호판 | госномер | номер машины | номерной знак | गाड़ी
            नंबर
        """),
        _PLATE,
        fewest_digits=1,
        backwards=False,
    ),
    Keyed(
        Label.DEVICE_SERIAL,
        phrases("""
            serial | serial number | serial no | serial # | serialnumber | sn | device id | device identifier |
            device number | device serial | device | imei | meid | udi | lot | lot number | implant | implant id |
            pacemaker | defibrillator | insulin pump | pump | model serial | mac address | mac | hardware id | asset tag
            | equipment id | machine id | número de serie | nº de serie | n° de serie | seriennummer | serien nr |
            gerätenummer | geräte id | numéro de série | n° de série | numero di serie | matricola | número de série |
            serienummer | numer seryjny | seri no | seri numarası | výrobní číslo | 序列号 | 设备号 | シリアル番号 | 製造番号 | 시리얼번호 |
            일련번호 | серийный номер | серийный № | सीरियल नंबर
        """),
        _SERIAL,
        fewest_digits=0,
        shapes=(r"[^A-Za-z0-9]S/N\b",),
        backwards=False,
    ),
    Keyed(
        Label.BIOMETRIC,
        phrases("""
            fingerprint | finger print | thumbprint | thumb print | palm print | palmprint | voice print | voiceprint |
            voice id | retina | retinal scan | iris | iris scan | iris code | iris id | face id | faceprint | face print
            | face template | facial recognition | facial scan | facial id | biometric | biometrics | biometric id |
            biometric template | minutiae | gait signature | gait id | hand geometry | vein pattern | dna profile | dna
            sample | dna id | genetic id | huella | huella dactilar | huella digital | biométrico | biometrisch |
            fingerabdruck | empreinte | empreinte digitale | biométrique | impronta | impressão digital | vingerafdruk |
            odcisk palca | parmak izi | 指纹 | 虹膜 | 人脸 | 声纹 | 指紋 | 虹彩 | 声紋 | 지문 | 홍채 | отпечаток | отпечаток пальца |
            биометрия | фингербиометрия | फिंगरप्रिंट
        """),
        f"(?:(?:{'|'.join(_OF_TEMPLATES)})"
        r"[\s:=#\"']{0,3}){0,3}(?P<v>(?=[A-Za-z]{0,8}[-_]?[A-Za-z]{0,8}\d|[0-9a-f]{16}|[A-Z]{2,5}-[A-Z0-9]{4})[A-Za-z0-9](?:[A-Za-z0-9]|[-_:.](?=[A-Za-z0-9])){3,127}+={0,2})(?![A-Za-z0-9@])",
        leading=_OF_TEMPLATES,
        fewest_digits=0,
        backwards=False,
    ),
    Keyed(
        Label.UNIQUE_ID,
        phrases("""
            episodio | episode no | passport | passport number | passport no | passport # | employee id | employee number | employee no |
            employee # | emp id | badge | badge number | badge id | staff id | staff number | personnel number | payroll
            number | student id | student number | student no | student # | matriculation | user id | userid | study id
            | study number | study participant | trial id | site id | participant id | participant number | participant
            | subject id | subject number | subject no | subject | enrolment id | specimen id | specimen number |
            specimen | sample id | sample number | accession number | accession no | accession | barcode | reference
            number | order id | prescription number | prescription no | rx number | rx # | unique
            id | id
            card | national id | identity card | identity number | military id | dod id | service number | inmate number
            | inmate id | alien number | a number | uscis | visa number | voter id | donor id | tax id | taxpayer id |
            itin | ein | tin | pasaporte | nº de pasaporte | número de empleado | empleado | legajo | identificación |
            cédula | cedula | documento | dni | nie | nif | curp | rfc | rut | cuil | cuit | reisepass | reisepassnummer
            | passnummer | personalausweis | ausweisnummer | ausweis | personalnummer | matrikelnummer | steuer id |
            steuernummer | passeport | carte d'identité | matricule | numéro d'étudiant | nir | passaporto | carta
            d'identità | codice fiscale | passaporte | cpf | rg | identidade | paspoort | paspoortnummer | bsn |
            studentnummer | personeelsnummer | paszport | pesel | dowód osobisty | nip | pasaport | kimlik no | kimlik |
            tckn | personnummer | rodné číslo | fødselsnummer | cpr | hetu | 护照 | 护照号 | 身份证 | 身份证号 | 学号 | 工号 | パスポート |
            旅券番号 | マイナンバー | 社員番号 | 学籍番号 | 여권번호 | 주민등록번호 | 학번 | 사번 | паспорт | инн | табельный номер | удостоверение |
            पासपोर्ट | पैन | जाति | جواز السفر | رقم الهوية | CMND | CCCD
        """),
    ),
    Keyed(
        Label.UNIQUE_ID,
        phrases("""
            unique identifier | identifier | identification number | identification | id number | id no | id # |
            reference number | ref number | ref no | unique id
        """),
        rank=Rank.LIKELY,
    ),
    Keyed(Label.HEALTH_PLAN_ID, ("group", "plan", "health id"), fewest_digits=5, rank=Rank.LIKELY),
    Keyed(Label.UNIQUE_ID, (), fewest_digits=4, backwards=False, shapes=(r"[^A-Za-z0-9]ID\b",), rank=Rank.LIKELY),
    Keyed(
        Label.SSN,
        phrases("""
            ssn | social | social security | social security number | soc sec | ss# | ss # | ss number | ss no | ssa
            number | last four of social
        """),
        _SSN_VALUE,
        fewest_digits=4,
        exact=True,
        backwards=False,
    ),
    Keyed(
        Label.NHS_NUMBER,
        ("nhs", "nhs number", "nhs no", "chi number"),
        _DIGITS % "9",
        fewest_digits=10,
        exact=True,
        backwards=False,
    ),
    Keyed(
        Label.AADHAAR,
        phrases("""
            aadhaar | aadhar | adhar | adhaar | uidai | uid | आधार | ஆதார் | ఆధార్ | আধার | આધાર | ಆಧಾರ್ | ആധാർ | ਆਧਾਰ
        """),
        _DIGITS % "11",
        fewest_digits=12,
        exact=True,
        backwards=False,
    ),
    Keyed(
        Label.CREDIT_CARD,
        phrases("""
            credit card | debit card | card number | card no | card # | card | visa | mastercard | amex | american
            express | discover | cc | pan | tarjeta | kreditkarte | kartennummer | carte bancaire | carte bleue | carta
            di credito | cartão | creditcard | karta | kredi kartı | 信用卡 | 银行卡 | 卡号 | クレジットカード | 카드번호 | карта | क्रेडिट
            कार्ड
        """),
        _DIGITS % "12,18",
        fewest_digits=13,
        exact=True,
        backwards=False,
    ),
    Keyed(
        Label.VEHICLE_ID,
        phrases("""
            vin | vin number | vin # | vehicle id | vehicle identification | vehicle identification number | chassis |
            chassis number | frame number | bastidor | fahrgestellnummer | fin | numéro de châssis | telaio | chassi |
            chassisnummer | şasi | 车架号 | 車台番号 | 차대번호 | вин
        """),
        _VIN,
        backwards=False,
    ),
    Keyed(
        Label.ZIP_CODE,
        phrases("""
            zip | zip code | zipcode | zip+4 | postal code | postcode | post code | postal | código postal | codigo
            postal | cp | c.p. | plz | postleitzahl | code postal | cep | kod pocztowy | posta kodu | pin code |
            pincode | psč | postnummer | 邮编 | 邮政编码 | 郵便番号 | 〒 | 우편번호 | почтовый индекс | индекс | पिन कोड
        """),
        _ZIP,
        fewest_digits=2,
        backwards=False,
    ),
)

RECOGNIZERS: Final[tuple[Recognizer, ...]] = tuple(kind.recognizer() for kind in KEYED)
