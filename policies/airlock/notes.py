"""Tells a clinical note from other text: a policy may refuse one whole, or keep it for a local model."""

import re
from typing import Final

from policies.airlock.recognizers.recognizer import either, phrases

SECTIONS: Final = phrases("""
    history of present illness | HPI | past medical history | PMH | past surgical history | PSH | chief complaint |
    review of systems | ROS | physical exam | physical examination | assessment | assessment and plan | A/P |
    impression | hospital course | discharge summary | discharge diagnosis | discharge diagnoses | discharge
    medications | discharge instructions | admission diagnosis | admission diagnoses | medications on admission |
    allergies | family history | social history | laboratory data | vital signs | operative note | operative report
    | procedure note | progress note | subjective | objective | plan | motivo de consulta | antecedentes |
    exploración física | evolución | juicio clínico | diagnóstico | anamnese | befund | epikrise | motif
    d'hospitalisation | antécédents | examen clinique
""")
"""Section headers of the notes that hospitals write."""
_SECTION: Final = re.compile(
    # At the beginning of a line, and alone on it or before a colon.
    rf"^[ \t#*>_-]{{0,8}}(?P<name>{either(*SECTIONS)})[ \t*_]{{0,4}}(?::|$)",
    re.IGNORECASE | re.MULTILINE,
)
_PAYLOAD: Final = re.compile(
    r"^MSH\|\^~\\&\||<ClinicalDocument[\s>]|urn:hl7-org:v3"
    r"|\"resourceType\"\s{0,4}:\s{0,4}\"(?:Patient|Observation|Bundle|Encounter|Condition|DiagnosticReport|MedicationRequest)\"",
    re.MULTILINE,
)
"""HL7 version 2, CDA and FHIR."""
_ENOUGH: Final = 2


def is_clinical_note(text: str) -> bool:
    """Whether `text` has two different section headers of a clinical note, or is a message of a health system."""
    names = set()
    for section in _SECTION.finditer(text):
        names.add(section["name"].lower())
        if len(names) == _ENOUGH:
            return True
    return _PAYLOAD.search(text) is not None
