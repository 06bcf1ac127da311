"""Pictures of faces and bodies by their file names, embedded images, and ids of biometric templates."""

import re
from string import ascii_letters
from typing import Final

from policies.airlock.labels import Label
from policies.airlock.recognizers.recognizer import Candidate, Rank, Recognizer, touching, word_start

_EXTENSIONS: Final = "jpe?g|png|heic|heif|gif|bmp|tiff?|webp|dcm|dicom|cr2|nef|raw|avif"
_FILE_NAME: Final = re.compile(
    rf"(?<![\w.@/\\-])(?:[\w%+~-]+[.])*[\w%+~()-]{{1,80}}\.(?:{_EXTENSIONS})(?!\w)", re.IGNORECASE
)
_PERSONAL: Final = re.compile(
    # A name that says it shows somebody, or a camera's number. `logo.png` and `diagram.png` show nobody.
    r"face|photo|foto|patient|paciente|selfie|portrait|headshot|mugshot|frontal|profile|avatar|scan|img[_-]?\d|dsc[_-]?\d|pxl_|image[_-]?\d|picture|pic[_-]?\d"
    r"|xray|x-ray|mri|ct[_-]|wound|rash|lesion|skin|retina|fundus|iris|dental|passport|license|badge|id[_-]?card|\.dcm|\.dicom|\.heic|\d{4}",
    re.IGNORECASE,
)


def _file(text: str, end: int, found: list[Candidate]) -> None:
    match = touching(_FILE_NAME, text, end, end - word_start(text, end, 96), 4)
    if match and _PERSONAL.search(match.group()):
        found.append((*match.span(), Rank.SHAPE, Label.PHOTO_ID))


_DATA: Final = re.compile(r"data:image/[\w.+-]{1,40}(?:;[\w=.-]{1,40}){0,4},[A-Za-z0-9+/=_%-]*")


def _data(text: str, end: int, found: list[Candidate]) -> None:
    match = _DATA.match(text, end - 11)
    if match:
        found.append((*match.span(), Rank.ENCLOSING, Label.PHOTO_ID))


_TEMPLATE: Final = re.compile(
    r"(?<![\w-])(?:FP|IRIS|VP|VOICE|RETINA|FACE|BIO|FINGER|PALM|bio|iris|face|fp|voice|finger|retina|palm)(?:[-_](?=[A-Za-z0-9-]*\d)[A-Za-z0-9]{4,40}(?:-[A-Za-z0-9]{2,12}){0,4})(?![\w-])"
)


def _template(text: str, end: int, found: list[Candidate]) -> None:
    # The trigger ends behind the kind and its mark.
    kind = text[end - 7 if end > 7 else 0 : end - 1]
    match = _TEMPLATE.match(text, end - 1 - len(kind) + len(kind.rstrip(ascii_letters)))
    if match:
        found.append((*match.span(), Rank.SHAPE, Label.BIOMETRIC))


RECOGNIZERS: Final[tuple[Recognizer, ...]] = (
    Recognizer(
        "photo-file",
        _file,
        tuple(
            rf"\.{extension}"
            for extension in _EXTENSIONS.replace("jpe?g", "jpg|jpeg").replace("tiff?", "tif").split("|")
        ),
        caseless=True,
    ),
    Recognizer("photo-data", _data, ("data:image/",)),
    Recognizer(
        "biometric-template",
        _template,
        tuple(
            f"{kind}{mark}"
            for kind in [
                "FP",
                "IRIS",
                "VP",
                "VOICE",
                "RETINA",
                "FACE",
                "BIO",
                "FINGER",
                "PALM",
                "bio",
                "iris",
                "face",
                "fp",
                "voice",
                "finger",
                "retina",
                "palm",
            ]
            for mark in "-_"
        ),
    ),
)
