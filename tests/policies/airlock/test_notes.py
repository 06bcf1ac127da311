"""A clinical note is told from other text."""

import pytest

from policies.airlock.notes import is_clinical_note


@pytest.mark.parametrize(
    "text",
    [
        "HPI: chest pain since Monday.\nPMH:\nHTN",
        "**Past Medical History**\nnone\n\n## Assessment and plan\nrest",
        "Motivo de consulta: dolor\nExploración física: normal",
        "MSH|^~\\&|ADT1|GOOD HEALTH",
        '{"resourceType": "Patient", "id": "1"}',
        '<ClinicalDocument xmlns="urn:hl7-org:v3">',
    ],
)
def test_note_or_message_of_a_health_system_is_recognised(text: str) -> None:
    assert is_clinical_note(text)


@pytest.mark.parametrize(
    "text",
    [
        "My plan: go home.",
        "Plan: rest\nPlan: more rest",
        "What does HPI mean, and what belongs into the assessment?",
        '{"resourceType": "Widget"}',
        "",
    ],
)
def test_other_text_is_none(text: str) -> None:
    assert not is_clinical_note(text)
