"""Keys, passwords and prompts are in nothing that a failed call leaves behind."""

import base64
import html
import json
import logging
import pickle
from urllib.parse import quote

import pytest

from modelhub import Hub
from modelhub.core.errors import CallError
from modelhub.providers.addresses import find_passwords, server_name
from modelhub.providers.redaction import PreparedSecrets, redact
from tests.tables import table

KEY = 'sk-/SEC+RET"KEY=1234567890'
SENDABLE_KEY = "sk-SECRETKEY-1234567890"
PROMPT = "My name is Alice Smith, born 1970, and my HIV test came back positive. What shall I do now?"
VENDORS = ("openai", "anthropic", "dashscope", "ollama", "gemini")
FAULTS = ("lost", "silent", "refused", "echo", "garbage", "cut", "unmakeable")


def entry(provider, url, **more):
    base_url = f"{url}/v1" if provider == "openai" else url
    retry = {"max_attempts": 1}
    return {
        "provider": provider,
        "model_name": "m",
        "api_key": SENDABLE_KEY,
        "base_url": base_url,
        "retry": retry,
    } | more


def hub_of(provider, url, **more):
    timeout = {"total": 0.1, "first_token": 0.1, "idle": 0.1}
    return Hub.from_dict(
        {"version": 1, "defaults": {"timeout": timeout}, "models": {"m": entry(provider, url, **more)}}
    )


def linked_errors(error):
    """*error* and every error that it was raised from, raised while handling, or has in it."""
    known, pending = [], [error]
    while pending:
        current = pending.pop()
        if current is not None and current not in known:
            known.append(current)
            pending += [current.__cause__, current.__context__, *getattr(current, "exceptions", ())]
    return known


def is_shown(value, marker, depth=6):
    """Whether *marker* is in what a report of local variables, such as Sentry's or rich's, shows of *value*."""
    if isinstance(value, dict) and depth:
        return any(is_shown(part, marker, depth - 1) for pair in value.items() for part in pair)
    if isinstance(value, list | tuple | set) and depth:
        return any(is_shown(part, marker, depth - 1) for part in value)
    try:
        return marker in repr(value)
    except Exception:  # an object that its constructor has left half made
        return False


def places_of(marker, error):
    """Every place of *error* in which *marker* is: messages, notes, records, pickles, local variables of modelhub's,
    of the SDKs' and of all other frames but those of this file."""
    places = []
    for linked in linked_errors(error):
        texts = [str(linked), repr(linked), *getattr(linked, "__notes__", ()), repr(getattr(linked, "attempts", ""))]
        places += [f"text of {type(linked).__name__}" for text in texts if marker in text]
        frame_entry = linked.__traceback__
        while frame_entry is not None:
            code, values = frame_entry.tb_frame.f_code, frame_entry.tb_frame.f_locals
            if code.co_filename != __file__:
                shown = [name for name, value in values.items() if is_shown(value, marker)]
                places += [f"{code.co_filename}:{code.co_name}: {name}" for name in shown]
            frame_entry = frame_entry.tb_next
    if marker.encode() in pickle.dumps(error):
        places.append("pickle")
    return places


async def fail(model, stream):
    with pytest.raises(CallError) as caught:
        await model(PROMPT, stream=stream)
    return caught.value


def prepare(loopback, fault):
    if fault == "lost":
        loopback.breaks(end="cut")
    elif fault == "silent":
        loopback.breaks(end="hang")
    elif fault == "echo":
        loopback.answers({"error": {"message": f"bad key {SENDABLE_KEY} for {PROMPT}"}}, status=401)
    elif fault == "garbage":
        loopback.answers("<html>", status=200)
    elif fault == "cut":
        loopback.streams("data: ", end="cut", content_type="text/event-stream")


@table("stream", [False, True])
@table("fault", FAULTS)
@table("provider", VENDORS)
async def test_a_failed_call_leaves_no_key_behind(loopback, caplog, provider, fault, stream):
    """The key is in no message, record, log entry, pickle or local variable of a traceback, whatever went wrong."""
    caplog.set_level(logging.DEBUG)
    prepare(loopback, fault)
    url = "http://127.0.0.1:1" if fault == "refused" else loopback.url
    more = {"client_args": {"bogus_argument": 1}} if fault == "unmakeable" else {}
    async with hub_of(provider, url, **more) as hub:
        for _ in range(3 if fault == "echo" else 1):  # a request that was written before is sent another way
            error = await fail(hub.get("m"), stream)
            assert places_of(SENDABLE_KEY, error) == []
    assert SENDABLE_KEY not in caplog.text
    assert PROMPT not in str(error)


async def test_a_leak_would_be_found():
    """What looks for a key in a traceback finds one."""

    async def leak():
        headers = {"authorization": f"Bearer {SENDABLE_KEY}"}
        raise CallError(f"no {len(headers)}")

    with pytest.raises(CallError) as caught:
        await leak()
    caught.value.__traceback__ = caught.value.__traceback__.tb_next
    namespace = {"CallError": CallError, "headers": {"a": [SENDABLE_KEY]}}
    with pytest.raises(CallError) as caught:
        exec(compile("def leak(values):\n  raise CallError('no')\nleak(headers)", "leak.py", "exec"), namespace)
    assert "leak.py:leak: values" in places_of(SENDABLE_KEY, caught.value)


@table("provider", VENDORS)
@table(
    "answer",
    [None, {"status": 404, "body": {"error": "model m not found"}}, {"status": 302, "location": "http://127.0.0.1:1/"}],
)
async def test_a_password_in_an_address_is_not_shown(loopback, caplog, provider, answer):
    """Neither in an error, nor in records of attempts, nor in logs: only the host is."""
    caplog.set_level(logging.DEBUG)
    host = loopback.url.removeprefix("http://") if answer else "127.0.0.1:1"
    if answer:
        loopback.answers(**{"body": {}, **answer})
    async with hub_of(provider, f"http://user:hunter2pw@{host}") as hub:
        error = await fail(hub.get("m"), stream=False)
    assert places_of("hunter2pw", error) == []
    assert "hunter2pw" not in caplog.text


@table("provider", VENDORS)
async def test_a_key_in_an_errors_code_is_not_shown(loopback, caplog, provider):
    """A server may put what it was sent where its codes stand, which logs, records and metrics show."""
    caplog.set_level(logging.DEBUG)
    loopback.answers({"error": {"message": "no", "code": f"bad key {SENDABLE_KEY}"}}, status=400)
    async with hub_of(provider, f"{loopback.url.replace('//', f'//user:{SENDABLE_KEY}@')}") as hub:
        error = await fail(hub.get("m"), stream=False)
    assert places_of(SENDABLE_KEY, error) == []
    assert SENDABLE_KEY not in caplog.text


@table("provider", VENDORS)
async def test_a_name_and_password_are_not_shown_as_they_are_sent(loopback, provider):
    """A proxy or server that repeats the header of a request repeats both, in base64."""
    sent = base64.b64encode(b"user:hunter2pw").decode()
    loopback.answers({"error": {"message": f"Authorization: Basic {sent} is wrong"}}, status=400)
    async with hub_of(provider, f"http://user:hunter2pw@{loopback.url.removeprefix('http://')}") as hub:
        error = await fail(hub.get("m"), stream=False)
    assert places_of(sent, error) == []


@table("provider", VENDORS)
@table("place", ["proxy", "base_url"])
async def test_a_password_that_is_not_escaped_is_not_shown(monkeypatch, provider, place):
    """A proxy or server with `#` or `/` in its password cannot be used; what says so does not quote it."""
    for password in ("s3cr3tpw/x", "s3cr3tpw#x", "s3cr3tpw?x", "s3cr3tpw@x", "s3cr3tpw"):
        address = f"http://user:{password}@127.0.0.1:1"
        url = "http://127.0.0.1:1" if place == "proxy" else address
        if place == "proxy":
            monkeypatch.setenv("HTTP_PROXY", address)
        async with hub_of(provider, url) as hub:
            assert places_of("s3cr3tpw", await fail(hub.get("m"), stream=False)) == [], password


ECHOES = {
    "in full": PROMPT,
    "cut": PROMPT[:60] + "...",
    "cut early": PROMPT[:18] + "...",
    "from the middle": PROMPT[30:70],
    "its end": PROMPT[-22:],
    "upper case": PROMPT.upper(),
    "other spaces": PROMPT.replace(" ", "\n  "),
    "JSON": json.dumps(PROMPT),
    "JSON in JSON": json.dumps(json.dumps(PROMPT)),
    "URL": quote(PROMPT),
    "HTML": html.escape(PROMPT),
}


@table("echo", ECHOES.values(), ids=ECHOES)
def test_an_echoed_prompt_is_taken_out(echo):
    """In full or in part, in another case, re-spaced or escaped."""
    text = redact(f"vendor said 400: {echo} is not allowed here", [], [PROMPT])
    assert text.startswith("vendor said 400: ")
    assert text.endswith(" is not allowed here")
    assert not any(word in text.lower() for word in ("alice", "smith", "hiv", "born", "shall"))


def test_an_echo_in_a_script_without_spaces_is_taken_out():
    """A dozen characters of Chinese say as much as a sentence."""
    prompt = "我的名字是李雷,我出生于一九七零年,请告诉我该怎么办"
    for echo in (prompt, prompt[:10], json.dumps(prompt), quote(prompt)):
        assert "<content>" in redact(f"错误: {echo}", [], [prompt])
    assert redact("错误: 请求无效", [], [prompt]) == "错误: 请求无效"


KEY_ECHOES = {
    "in full": KEY,
    "URL": quote(KEY, safe=""),
    "JSON": json.dumps(KEY),
    "HTML": html.escape(KEY),
    "base64": base64.b64encode(KEY.encode()).decode(),
    "hex": KEY.encode().hex(),
    "lower case": KEY.lower(),
    "cut": KEY[:14],
    "cut short": f"{KEY[:7]}...",
    "its end": KEY[-12:],
}


@table("echo", KEY_ECHOES.values(), ids=KEY_ECHOES)
def test_an_echoed_key_is_taken_out(echo):
    """Encoded or cut."""
    text = redact(f"bad key {echo} here", [KEY])
    assert "***" in text
    assert echo.strip('".') not in text


def test_prepared_secrets_are_not_shown():
    """They hide what they were made from, and say nothing of it themselves."""
    secrets = PreparedSecrets([KEY, "k"])
    assert redact(f"bad keys {KEY}, k and {KEY[:14]}", secrets) == "bad keys ***, *** and ***"
    assert KEY[:4] not in repr(secrets)


async def test_a_password_that_changes_is_hidden_at_once(loopback, monkeypatch):
    """What the environment says at the time of the failure counts."""
    monkeypatch.setenv("NO_PROXY", "*")
    loopback.answers({"error": {"message": "bad first-pass-1234, second-pass-5678"}}, status=401)
    async with hub_of("ollama", loopback.url) as hub:
        for password in ("first-pass-1234", "second-pass-5678"):
            monkeypatch.setenv("Https_Proxy", f"http://user:{password}@proxy.example:3128")
            assert password not in str(await fail(hub.get("m"), stream=False))


@table("key", ["k", "ab", "abc", "pa ss", "x+y/z"])
def test_a_short_key_is_taken_out_where_it_stands_alone(key):
    """And not out of other words."""
    for spelling in (key, quote(key, safe=""), json.dumps(key)):
        assert key not in redact(f"bad: {spelling}, token={spelling}.", [key]).replace("bad", "").replace("token", "")
    assert redact("unknown abcd xyk", [key]) == "unknown abcd xyk"


@table(
    "message",
    [
        "Unsupported parameter: 'max_tokens' is not supported with this model. Use 'max_completion_tokens' instead.",
        "The model `gpt-9` does not exist or you do not have access to it.",
        "Rate limit reached for gpt-9 on tokens per min. Limit: 30000, Used: 29000. Please try again in 2s.",
        "connection refused: 127.0.0.1:1",
    ],
)
def test_a_message_that_echoes_nothing_stays(message):
    """Ordinary words that a prompt also has are no echo."""
    prompts = [
        "hi",
        "temperature",
        "max tokens",
        "What is the rate limit of gpt-9, and how do I get access to the model?",
    ]
    assert redact(message, ["sk-proj-9f8e7d6c5b4a"], prompts) == message


def test_redaction_is_linear(monkeypatch):
    """What repeats itself, in a text and in a prompt of 20,000 characters, costs a bounded number of comparisons."""
    from modelhub.providers import redaction as _redact

    steps = []
    extend = _redact.Overlap.extend
    monkeypatch.setattr(_redact.Overlap, "extend", lambda *args: steps.append(1) or extend(*args))
    text = redact("ababababababababY" * 100, [], ["abababababababX " * 1_250])
    assert len(steps) <= 50_000
    assert len(text) <= 300


def test_a_server_is_named_without_its_password():
    """However badly the address is written."""
    for address in ("http://u:p@h:1/x", "http://u:p/q@h:1", "http://u:p#q@h:1/x", "h:1/x", "https://h:1?a"):
        assert server_name(address) == "h:1"
    assert set(find_passwords("http://u:p%2Fq@h")) == {"p%2Fq", "p/q"}
    assert list(find_passwords("https://api.openai.com/v1")) == []
