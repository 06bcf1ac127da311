"""Tokens are stable where they must be, different where they must be, and say nothing."""

import re
from hashlib import blake2b

from policies.airlock.labels import PROFILES, Label, Profile
from policies.airlock.tokens import ALPHABET, LONGEST_TAG, Conversation, Tenant, Vault

KEY = bytes(range(32))


def vault(peer: str = "local", conversation: str = "", opening: str | None = "Hello", key: bytes = KEY) -> Vault:
    return Vault(Conversation(Tenant(key), peer, conversation, opening))


def token(vault: Vault, value: str = "123-45-6789", *, preamble: bool = False) -> str:
    return vault.token(Label.SSN, value, preamble=preamble)


def test_token_is_label_and_six_characters_of_crockford() -> None:
    assert re.fullmatch(
        r"\[DATE-OF-BIRTH-[0-9A-HJKMNP-TV-Z]{6}\]", vault().token(Label.DATE_OF_BIRTH, "x", preamble=False)
    )


def test_same_value_has_the_same_token_on_every_turn_and_sidecar() -> None:
    """T9."""
    assert token(vault()) == token(vault()) == token(vault(conversation=""))


def test_tokens_differ_by_value_label_conversation_caller_and_tenant() -> None:
    tokens = {
        token(vault()),
        token(vault(), "123-45-6780"),
        vault().token(Label.MRN, "123-45-6789", preamble=False),
        token(vault(opening="Good morning")),
        token(vault(conversation="c1")),
        token(vault(peer="other")),
        token(vault(opening=None)),
        token(vault(key=bytes(32))),
    }

    assert len(tokens) == 8


def test_caller_and_scope_cannot_be_moved_into_each_other() -> None:
    assert token(vault(peer="a", conversation="bc")) != token(vault(peer="ab", conversation="c"))


def test_preamble_has_the_same_tokens_in_every_conversation_of_a_caller() -> None:
    """The provider's prompt cache is keyed by the prefix of the prompt."""
    assert token(vault(opening="a"), preamble=True) == token(vault(opening="b"), preamble=True)
    assert token(vault(opening=None), preamble=True) == token(vault(opening=None))


def test_value_of_the_preamble_keeps_its_token_in_the_conversation() -> None:
    one = vault()
    first = token(one, preamble=True)

    assert one.is_preamble_only(first[1:-1])
    assert token(one) == first
    assert not one.is_preamble_only(token(one)[1:-1])


def test_tokens_are_derived_as_documented() -> None:
    """docs/adr/0024, step by step."""
    key = blake2b(KEY, person=b"aegis airlock v2", digest_size=32).digest()
    scope = b"opening\0" + (5).to_bytes(8) + b"local" + (5).to_bytes(8) + b"Hello"
    message = scope + b"SSN\x00123-45-6789"
    digest = blake2b(message, key=key, person=b"airlock token v2", digest_size=13).digest()

    assert token(vault()) == "[SSN-" + "".join(ALPHABET[byte % 32] for byte in digest[:6]) + "]"


def test_tokens_never_change() -> None:
    """Sidecars of two releases serve one conversation during an upgrade, and providers cache prompts for hours."""
    assert token(vault()) == "[SSN-H43ESA]"
    assert token(vault(conversation="c1")) == "[SSN-0YH1PC]"
    assert token(vault(), preamble=True) == "[SSN-07AEW0]"


def test_keys_of_a_crowd_of_callers_are_not_kept_for_ever() -> None:
    tenant = Tenant(KEY)
    first = tenant.caller("0").digest()

    for i in range(5000):
        tenant.caller(str(i))

    assert len(tenant._callers) <= 1024
    assert tenant.caller("0").digest() == first


def test_values_that_collide_get_longer_tags_in_document_order() -> None:
    one = vault()
    first = token(one)
    tag = first[5:-1]
    one._tokens.clear()  # as if another value had the same digest

    second, third = token(one), None
    one._tokens.clear()
    third = token(one)

    assert [len(t) for t in (first, second, third)] == [len(first), len(first) + 1, len(first) + 2]
    assert all(longer[5:-1].startswith(tag) for longer in (second, third))


def test_tags_end_growing() -> None:
    one = vault()
    tokens = []
    for _ in range(LONGEST_TAG):
        tokens.append(token(one))
        one._tokens.clear()

    assert max(len(t) for t in tokens) == len("[SSN-]") + LONGEST_TAG


def test_canonically_equal_spellings_are_one_value() -> None:
    one = vault()

    assert one.token(Label.NAME, "Zo\u00eb", preamble=False) == one.token(Label.NAME, "Zoe\u0308", preamble=False)


def test_prefixes_of_tokens_are_known() -> None:
    one = vault()
    core = token(one)[1:-1]

    assert all(one.begins(core[:i]) for i in range(len(core) + 1))
    assert not one.begins("SSM")
    assert not one.begins("ZZZ")


def test_no_representation_shows_a_value_or_a_token() -> None:
    one = vault()
    core = token(one)[1:-1]

    shown = f"{one!r} {one} {Conversation(Tenant(KEY), 'p', '', None)!r} {Tenant(KEY)!r}"

    assert "123-45" not in shown
    assert core not in shown


def test_first_eighteen_labels_never_change() -> None:
    assert " ".join(list(Label)[:18]) == (
        "ZIP_CODE DATE_OF_BIRTH PHONE FAX EMAIL SSN MRN ACCOUNT_NUMBER CREDIT_CARD CERTIFICATE_NUMBER VEHICLE_ID "
        "LICENSE_PLATE DEVICE_SERIAL URL IP_ADDRESS BIOMETRIC PHOTO_ID MEDICAL_RECORD_TEXT"
    )
    assert PROFILES[Profile.SEED18] | {Label.MEDICAL_RECORD_TEXT} == set(list(Label)[:18])


def test_profiles_hold_no_label_of_ours() -> None:
    assert all(Label.LITERAL not in labels for labels in PROFILES.values())
    assert Label.DATE not in PROFILES[Profile.GDPR]
    assert PROFILES[Profile.PCI] < PROFILES[Profile.HIPAA_SAFE_HARBOR]
