"""Over TLS, with a certificate authority of the test's own."""

import asyncio
import datetime as dt
import json
import ssl

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from modelhub import AnthropicChatModel, ConnectFailed, OllamaChatModel, OpenAIChatModel
from tests.tables import table

PLAIN = {
    "id": "c1",
    "object": "chat.completion",
    "model": "m",
    "choices": [{"index": 0, "message": {"role": "assistant", "content": "secure"}, "finish_reason": "stop"}],
    "usage": {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2},
}


def certificate(folder):
    """A key and a self-signed certificate for this machine, as files."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")])
    now = dt.datetime.now(dt.UTC)
    names = [x509.DNSName("localhost")]
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - dt.timedelta(days=1))
        .not_valid_after(now + dt.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName(names), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    (folder / "cert.pem").write_bytes(made.public_bytes(serialization.Encoding.PEM))
    private = serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    (folder / "key.pem").write_bytes(key.private_bytes(serialization.Encoding.PEM, *private))
    return folder / "cert.pem", folder / "key.pem"


@pytest.fixture(name="secure")
async def _secure(tmp_path):
    """A server that speaks TLS: its port, its certificate, and how many connections it has seen."""
    cert, key = certificate(tmp_path)
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(cert, key)
    seen = []

    async def serve(reader, writer):
        seen.append(writer)
        while head := await reader.readuntil(b"\r\n\r\n"):
            size = next(int(line[15:]) for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:"))
            stream = json.loads(await reader.readexactly(size)).get("stream")
            writer.write(streamed() if stream else answered())
            await writer.drain()

    async def guarded(reader, writer):
        try:
            await serve(reader, writer)
        except (asyncio.IncompleteReadError, ConnectionError):
            writer.close()

    server = await asyncio.start_server(guarded, "127.0.0.1", 0, ssl=context)
    yield server.sockets[0].getsockname()[1], cert, seen
    server.close()
    for writer in seen:
        writer.close()


def answered():
    body = json.dumps(PLAIN).encode()
    return b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n%s" % (len(body), body)


def streamed():
    def event(delta, finish=None):
        return f"data: {json.dumps({'choices': [{'index': 0, 'delta': delta, 'finish_reason': finish}]})}\n\n".encode()

    body = event({"content": "sec"}) + event({"content": "ure"}) + event({}, "stop") + b"data: [DONE]\n\n"
    head = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
    return head + b"%x\r\n%s\r\n0\r\n\r\n" % (len(body), body)


@pytest.fixture(name="trusted")
def _trusted(secure, monkeypatch):
    """The server's certificate is one that this process trusts."""
    monkeypatch.setenv("SSL_CERT_FILE", str(secure[1]))
    return secure


async def test_answers_come_over_tls_and_one_connection(trusted):
    """Plain and streamed, several times: the connection is used again."""
    port, _, seen = trusted
    async with OpenAIChatModel("m", "key", base_url=f"https://localhost:{port}/v1") as model:
        for _ in range(4):
            assert (await model("hi", stream=False)).text == "secure"
            assert (await (await model("hi", stream=True)).final()).text == "secure"
    assert len(seen) == 1


@table("cls", [OpenAIChatModel, AnthropicChatModel, OllamaChatModel])
async def test_a_certificate_that_nobody_trusts_is_refused(secure, cls):
    """The name and the chain are checked; the error says where, and that it is TLS."""
    port, _, _ = secure
    address = {"host" if cls is OllamaChatModel else "base_url": f"https://127.0.0.1:{port}"}
    async with cls("m", **({} if cls is OllamaChatModel else {"api_key": "key"}), **address) as model:
        with pytest.raises(ConnectFailed) as caught:
            await model("hi", stream=False)
    assert "127.0.0.1" in str(caught.value)


async def test_a_certificate_for_another_name_is_refused(trusted):
    """A trusted certificate is good for its own names only."""
    port, _, _ = trusted
    async with OpenAIChatModel("m", "key", base_url=f"https://127.0.0.1:{port}/v1") as model:
        with pytest.raises(ConnectFailed) as caught:
            await model("hi", stream=False)
    assert "certificate" in str(caught.value.__cause__.__cause__)
