"""The official SDKs, unchanged, through the whole product: what leaves is protected, what comes back is as it was."""

import json
from collections.abc import Iterator
from typing import Any

import pytest

from tests.end_to_end.conftest import Product

pytestmark = pytest.mark.slow
openai = pytest.importorskip("openai")
anthropic = pytest.importorskip("anthropic")

EMAIL, SSN, MRN = "maria.gonzalez@example.com", "536-90-4399", "48392117"
PROMPT = f"Patient MRN {MRN}, SSN {SSN}, e-mail {EMAIL}: write a referral."
ECHO = "You said: " + PROMPT


@pytest.fixture(scope="module")
def gpt(product: Product) -> Iterator[Any]:
    with openai.OpenAI(base_url=product.openai, api_key="sk-test-key", max_retries=0) as client:
        yield client


@pytest.fixture(scope="module")
def claude(product: Product) -> Iterator[Any]:
    with anthropic.Anthropic(base_url=product.anthropic, api_key="sk-test-key", max_retries=0) as client:
        yield client


def user(text: str) -> list[dict[str, Any]]:
    return [{"role": "user", "content": text}]


def assert_protected(product: Product) -> None:
    told = product.told()
    assert not [value for value in (EMAIL, SSN, MRN) if value in told]
    assert "[EMAIL-" in told


CUTS = [
    "delta-characters=1",
    "delta-characters=3&write-bytes=1",
    "write-bytes=7",
    "framing=crlf&write-bytes=5",
    "ascii=true",
]


@pytest.mark.parametrize("cut", ["", *CUTS])
def test_a_streamed_chat_comes_back_as_it_was_however_it_is_cut(product: Product, gpt: Any, cut: str) -> None:
    stream = gpt.chat.completions.create(model=f"m?{cut}", messages=user(PROMPT), stream=True, n=2)
    texts = {0: "", 1: ""}
    for chunk in stream:
        for choice in chunk.choices:
            texts[choice.index] += choice.delta.content or ""

    assert texts == {0: ECHO, 1: ECHO}
    assert_protected(product)


@pytest.mark.parametrize("cut", ["", *CUTS])
def test_a_streamed_message_comes_back_as_it_was_however_it_is_cut(product: Product, claude: Any, cut: str) -> None:
    with claude.messages.stream(model=f"m?{cut}", max_tokens=99, messages=user(PROMPT)) as stream:
        message = stream.get_final_message()

    assert message.content[0].text == ECHO
    assert message.stop_reason == "end_turn"
    assert_protected(product)


def test_an_unstreamed_chat_comes_back_as_it_was(product: Product, gpt: Any) -> None:
    answer = gpt.chat.completions.create(model="m", messages=user(PROMPT))

    assert answer.choices[0].message.content == ECHO
    assert_protected(product)


def test_an_unstreamed_message_comes_back_as_it_was(product: Product, claude: Any) -> None:
    message = claude.messages.create(model="m", max_tokens=99, messages=user(PROMPT), system=f"SSN {SSN}")

    assert message.content[0].text == ECHO
    assert_protected(product)


@pytest.mark.parametrize("stream", [False, True])
def test_tool_arguments_are_restored_and_still_parse(product: Product, gpt: Any, stream: bool) -> None:
    request: dict[str, Any] = {"model": "m?tool-calls=2&delta-characters=1", "messages": user(PROMPT)}
    if stream:
        arguments = ["", ""]
        for chunk in gpt.chat.completions.create(**request, stream=True):
            for call in (chunk.choices[0].delta.tool_calls or []) if chunk.choices else []:
                arguments[call.index] += call.function.arguments or ""
    else:
        calls = gpt.chat.completions.create(**request).choices[0].message.tool_calls
        arguments = [call.function.arguments for call in calls]

    for number, text in enumerate(arguments):
        assert json.loads(text) == {"text": PROMPT, "quoted": f'"{PROMPT}"\\\n', "number": str(number)}
    assert_protected(product)


@pytest.mark.parametrize("stream", [False, True])
def test_tool_input_is_restored_and_signed_thinking_is_untouched(product: Product, claude: Any, stream: bool) -> None:
    from simulator.speech import signature

    request: dict[str, Any] = {
        "model": "m?tool-calls=1&thinking=true&delta-characters=2",
        "max_tokens": 99,
        "messages": user(PROMPT),
    }
    if stream:
        with claude.messages.stream(**request) as events:
            message = events.get_final_message()
    else:
        message = claude.messages.create(**request)

    thinking, text, tool = message.content
    assert thinking.signature == signature(thinking.thinking)
    assert text.text == ECHO
    assert tool.input == {"text": PROMPT, "quoted": f'"{PROMPT}"\\\n', "number": "0"}
    assert_protected(product)


def test_two_people_in_two_messages_keep_their_own_values(product: Product, gpt: Any) -> None:
    messages = [
        *user("The first is ann.lee@example.com, SSN 536-90-4399."),
        {"role": "assistant", "content": "Noted."},
        *user("The second is bob.lee@example.com, SSN 219-09-9998; the first was ann.lee@example.com."),
    ]

    answer = gpt.chat.completions.create(model="m?reply=echo-all", messages=messages)

    assert answer.choices[0].message.content == "You said: " + "\n".join(m["content"] for m in messages)
    told = json.loads(product.told())["messages"]
    assert "example.com" not in product.told()
    first, second = (message["content"] for message in (told[0], told[2]))
    ann = first.split("The first is ")[1].split(",")[0]
    assert ann in second
    assert second.count("[EMAIL-") == 2
    assert len(set(second.split("[EMAIL-")[1:])) == 2


def test_what_looks_like_a_token_stays_what_it_was(product: Product, gpt: Any) -> None:
    prompt = f"Literally [EMAIL-7K2Q9F] and {EMAIL}"

    answer = gpt.chat.completions.create(model="m", messages=user(prompt))

    assert answer.choices[0].message.content == "You said: " + prompt
    assert "[EMAIL-7K2Q9F]" not in product.told()


def test_embeddings_never_see_the_values_and_equal_inputs_stay_equal(product: Product, gpt: Any) -> None:
    one = gpt.embeddings.create(model="e", input=[PROMPT, PROMPT])

    assert one.data[0].embedding == one.data[1].embedding
    assert_protected(product)


def test_a_429_reaches_the_application_with_its_headers(gpt: Any, claude: Any) -> None:
    with pytest.raises(openai.RateLimitError) as limited:
        gpt.chat.completions.create(model="m?status=429&retry-after=7", messages=user("hello"))
    with pytest.raises(anthropic.RateLimitError) as limited_too:
        claude.messages.create(model="m?status=429&retry-after=7", max_tokens=9, messages=user("hello"))

    for error in (limited.value, limited_too.value):
        assert error.response.headers["retry-after"] == "7"
        assert error.request_id.startswith("req_sim")


@pytest.mark.parametrize("how", ["error-after=4", "die-after=4"])
def test_a_stream_that_fails_in_the_middle_is_an_error_not_an_end(gpt: Any, claude: Any, how: str) -> None:
    with pytest.raises(openai.APIError):
        for _ in gpt.chat.completions.create(model=f"m?{how}", messages=user(PROMPT), stream=True):
            pass
    with (
        pytest.raises(anthropic.APIError),
        claude.messages.stream(model=f"m?{how}", max_tokens=9, messages=user(PROMPT)) as stream,
    ):
        stream.get_final_message()


def test_a_client_that_leaves_ends_the_models_answer(product: Product, gpt: Any) -> None:
    stream = gpt.chat.completions.create(model="m?stall-after=3", messages=user("leaving"), stream=True)
    next(iter(stream))

    stream.close()

    deadline = 100
    while product.seen()[-1]["outcome"] == "answering" and deadline:
        deadline -= 1
    assert product.seen()[-1]["outcome"] == "client gone"


def test_the_models_list_passes(gpt: Any) -> None:
    assert [model.id for model in gpt.models.list()] == ["simulated"]
