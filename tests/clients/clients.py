"""Real clients against a real host: each function here is what one client is asked to do.

    python clients.py ADDRESS TABLE

ADDRESS is that of a host with the models `labelled`, `echo`, `income`, `novelist` and `similarity`. What came of it is
printed, and written to TABLE, in Markdown.
"""

import asyncio
import importlib.metadata
import math
import pathlib
import subprocess
import sys
import traceback

import grpc
import numpy as np
import openai
import tritonclient.grpc as triton_grpc
import tritonclient.grpc.aio as triton_grpc_aio
import tritonclient.http as triton_http
import tritonclient.http.aio as triton_http_aio
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import ProtoReflectionDescriptorDatabase
from tritonclient.utils import InferenceServerException

VALUES = np.array([1.5, -2.0, 3.0], dtype=np.float32)
HISTORY = [
    {"role": "system", "content": "They met at a ball."},
    {"role": "user", "content": "Do you dance?"},
]


def column(module, binary=True):
    given = module.InferInput("x", [3], "FP32")
    if module is triton_http:
        given.set_data_from_numpy(VALUES, binary_data=binary)
    else:
        given.set_data_from_numpy(VALUES)
    return [given]


def expect_column(answer):
    np.testing.assert_array_equal(answer.as_numpy("y"), 2 * VALUES)
    # JSON has texts, binary has bytes.
    assert {str(label, "utf-8") if isinstance(label, bytes) else label for label in answer.as_numpy("label")} == {"first"}


def expect_refused(call, words):
    try:
        call()
    except InferenceServerException as error:
        assert words in error.message(), error.message()
        return
    raise AssertionError("nothing was refused")


def every_datatype(module):
    """Inputs for the plugin that answers what it is given."""
    numbers = {
        "BOOL": np.bool_, "UINT8": np.uint8, "UINT16": np.uint16, "UINT32": np.uint32, "UINT64": np.uint64,
        "INT8": np.int8, "INT16": np.int16, "INT32": np.int32, "INT64": np.int64, "FP32": np.float32,
        "FP64": np.float64,
    }
    arrays = {name: np.array([[1, 0, 1]]).astype(kind) for name, kind in numbers.items()}
    arrays["INT64"] = np.array([[np.iinfo(np.int64).min, 2**53 + 1]])
    arrays["FP32"] = np.array([[math.nan, math.inf, -0.0]], dtype=np.float32)
    arrays["BYTES"] = np.array([["zwölf".encode(), b"\xff\x00", b""]], dtype=np.object_)
    arrays["UINT8"] = np.zeros((0, 4), dtype=np.uint8)
    inputs = []
    for name, array in arrays.items():
        given = module.InferInput(name, list(array.shape), name)
        given.set_data_from_numpy(array)
        inputs.append(given)
    scalar = module.InferInput("scalar", [], "FP64")
    scalar.set_data_from_numpy(np.array(0.1))
    return arrays, inputs + [scalar]


def expect_every_datatype(client, module):
    arrays, inputs = every_datatype(module)
    answer = client.infer("echo", inputs)
    for name, array in arrays.items():
        np.testing.assert_array_equal(answer.as_numpy(name), array)
    assert answer.as_numpy("scalar") == np.array(0.1)


def manage(client, module):
    """The calls that are the same over HTTP and gRPC."""
    assert client.is_server_live() and client.is_server_ready() and client.is_model_ready("labelled")
    get = (lambda message, field: message[field]) if module is triton_http else getattr
    assert "binary_tensor_data" in get(client.get_server_metadata(), "extensions")
    assert get(client.get_model_metadata("labelled"), "inputs")
    assert client.get_model_config("labelled")
    index = client.get_model_repository_index()
    assert "labelled" in str(index)
    client.unload_model("labelled")
    assert not client.is_model_ready("labelled")
    client.load_model("labelled")
    assert client.is_model_ready("labelled")


def counted(client):
    """How many inferences the statistics say."""
    statistics = client.get_inference_statistics("labelled")
    if isinstance(statistics, dict):
        return sum(of["inference_count"] for of in statistics["model_stats"])
    return sum(of.inference_count for of in statistics.model_stats)


def expect_counts(client, module):
    before = counted(client)
    client.infer("labelled", column(module))
    assert counted(client) > before


def tritonclient_http(address):
    client = triton_http.InferenceServerClient(address)
    manage(client, triton_http)
    for binary in (True, False):
        wanted = [triton_http.InferRequestedOutput(name, binary_data=binary) for name in ("y", "label")]
        expect_column(client.infer("labelled", column(triton_http, binary), outputs=wanted, request_id="7"))
    expect_column(client.infer("labelled", column(triton_http)))
    expect_column(client.async_infer("labelled", column(triton_http)).get_result())
    for coding in ("gzip", "deflate"):
        expect_column(
            client.infer(
                "labelled",
                column(triton_http),
                request_compression_algorithm=coding,
                response_compression_algorithm=coding,
            )
        )
    classes = triton_http.InferRequestedOutput("y", class_count=1)
    assert client.infer("labelled", column(triton_http), outputs=[classes]).as_numpy("y").size
    expect_every_datatype(client, triton_http)
    expect_counts(client, triton_http)
    client.get_log_settings()
    client.get_trace_settings()
    expect_refused(lambda: client.infer("nobody", column(triton_http)), "nobody")
    return "health, metadata, config, statistics, index, load, unload, infer (JSON, binary, gzip, deflate, async), classification, log, trace"


def tritonclient_http_async(address):
    async def run():
        client = triton_http_aio.InferenceServerClient(address)
        assert await client.is_server_live() and await client.is_model_ready("labelled")
        answers = await asyncio.gather(*[client.infer("labelled", column(triton_http)) for _ in range(8)])
        for answer in answers:
            expect_column(answer)
        await client.close()

    asyncio.run(run())
    return "health, infer, eight at once"


def tritonclient_grpc(address):
    client = triton_grpc.InferenceServerClient(address)
    manage(client, triton_grpc)
    expect_column(client.infer("labelled", column(triton_grpc), request_id="7", client_timeout=20))
    for coding in ("gzip", "deflate"):
        expect_column(client.infer("labelled", column(triton_grpc), compression_algorithm=coding))
    classes = triton_grpc.InferRequestedOutput("y", class_count=1)
    assert client.infer("labelled", column(triton_grpc), outputs=[classes]).as_numpy("y").size
    expect_every_datatype(client, triton_grpc)
    expect_counts(client, triton_grpc)
    large = triton_grpc.InferInput("x", [4 << 20], "FP32")
    large.set_data_from_numpy(np.ones(4 << 20, dtype=np.float32))
    wanted = [triton_grpc.InferRequestedOutput("y")]
    assert client.infer("large", [large], outputs=wanted).as_numpy("y")[-1] == 2
    expect_refused(lambda: client.infer("nobody", column(triton_grpc)), "nobody")
    stream(client)
    return "health, metadata, config, statistics, index, load, unload, infer (raw, gzip, deflate, 16 MiB), classification, stream"


def stream(client):
    """Several responses to one request, a failure, and one response, in this order."""
    received = []
    client.start_stream(callback=lambda result, error: received.append((result, error)))
    prompt = triton_grpc.InferInput("text_input", [1], "BYTES")
    prompt.set_data_from_numpy(np.array([b"Emma was"], dtype=np.object_))
    client.async_stream_infer("novelist", [prompt], parameters={"max_tokens": 4}, request_id="words")
    client.async_stream_infer("nobody", column(triton_grpc), request_id="wrong")
    client.async_stream_infer("labelled", column(triton_grpc), request_id="last")
    client.stop_stream()
    assert len(received) >= 4, received
    assert sum(error is not None for _, error in received) == 1
    expect_column(received[-1][0])


def tritonclient_grpc_async(address):
    async def run():
        client = triton_grpc_aio.InferenceServerClient(address)
        assert await client.is_server_live() and await client.is_model_ready("labelled")
        for answer in await asyncio.gather(*[client.infer("labelled", column(triton_grpc)) for _ in range(8)]):
            expect_column(answer)
        await client.close()

    asyncio.run(run())
    return "health, infer, eight at once"


def kserve_rest(address):
    # In a process of its own: it defines the same messages as tritonclient, which one process can have once.
    script = pathlib.Path(__file__).with_name("kserve_sdk.py")
    subprocess.run([sys.executable, script, address], check=True)
    return "health, ready, infer (JSON, binary)"


def grpc_health(address):
    stub = health_pb2_grpc.HealthStub(grpc.insecure_channel(address))
    serving = health_pb2.HealthCheckResponse.SERVING
    for service in ("", "inference.GRPCInferenceService", "labelled"):
        assert stub.Check(health_pb2.HealthCheckRequest(service=service)).status == serving
    assert next(iter(stub.Watch(health_pb2.HealthCheckRequest()))).status == serving
    return "Check, Watch"


def grpc_reflection(address):
    found = ProtoReflectionDescriptorDatabase(grpc.insecure_channel(address))
    assert {"inference.GRPCInferenceService", "grpc.health.v1.Health"} <= set(found.get_services())
    assert found.FindFileContainingSymbol("inference.ModelInferRequest").package == "inference"
    return "services, files by symbol"


def openai_sync(address):
    client = openai.OpenAI(base_url=f"http://{address}/v1", api_key="none", max_retries=0)
    assert "novelist" in [model.id for model in client.models.list()]
    once = client.completions.create(model="novelist", prompt="Emma was", max_tokens=12)
    assert once.choices[0].finish_reason == "length" and once.usage.completion_tokens == 12
    pieces = client.completions.create(model="novelist", prompt="Emma was", max_tokens=12, stream=True)
    assert "".join(piece.choices[0].text for piece in pieces if piece.choices) == once.choices[0].text
    chat = client.chat.completions.create(model="novelist", messages=HISTORY, max_completion_tokens=20, seed=1)
    assert chat.choices[0].message.content
    texts = ["My dog loves these treats", "puppy chews", "espresso"]
    vectors = [np.array(of.embedding) for of in client.embeddings.create(model="similarity", input=texts).data]
    assert vectors[0] @ vectors[1] > vectors[0] @ vectors[2]
    try:
        client.completions.create(model="nobody", prompt="x")
        raise AssertionError("nothing was refused")
    except openai.NotFoundError as error:
        assert "nobody" in str(error)
    return "models, completions, chat completions, embeddings, streaming, errors"


def openai_async(address):
    async def run():
        client = openai.AsyncOpenAI(base_url=f"http://{address}/v1", api_key="none", max_retries=0)
        calls = [client.completions.create(model="novelist", prompt="Emma", max_tokens=8) for _ in range(4)]
        assert len({answer.choices[0].text for answer in await asyncio.gather(*calls)}) == 1
        text = ""
        async for piece in await client.chat.completions.create(
            model="novelist", messages=HISTORY, max_tokens=8, stream=True
        ):
            text += piece.choices[0].delta.content or ""
        assert text

    asyncio.run(run())
    return "completions, chat completions, streaming"


def malformed_messages(address):
    """Bytes that no client sends. Each costs its own call and nothing else."""
    channel = grpc.insecure_channel(address)
    call = channel.unary_unary("/inference.GRPCInferenceService/ModelInfer")
    named = b"\x0a\x08labelled"
    cases = [
        (b"\xff\xff", "encoding is broken"),
        (named + b"\x2a\x00" * 2_000_000, "more than 1024 inputs"),
        (named + b"\x3a\x00" * 2_000_000, "more than 1024 raw_input_contents"),
        (named + b"\x22\x00" * 300, "more than 256 parameters"),
        (named + b"\x2a\x80\x80\x80\x80\x08", "encoding is broken"),
        (named + b"\x2a\x00", "datatype"),
    ]
    for message, words in cases:
        try:
            call(message)
            raise AssertionError(f"{message[:20]!r} was answered")
        except grpc.RpcError as error:
            assert error.code() == grpc.StatusCode.INVALID_ARGUMENT, error
            assert words in error.details(), error.details()
    large = channel.unary_unary("/inference.GRPCInferenceService/RepositoryIndex")
    try:
        large(b"\x0a\x80\x80\x08" + b"x" * (1 << 17))
        raise AssertionError("a large name was answered")
    except grpc.RpcError as error:
        assert "expected at most" in error.details(), error.details()


CLIENTS = [
    ("tritonclient HTTP", "tritonclient", tritonclient_http),
    ("tritonclient HTTP, asyncio", "tritonclient", tritonclient_http_async),
    ("tritonclient gRPC", "tritonclient", tritonclient_grpc),
    ("tritonclient gRPC, asyncio", "tritonclient", tritonclient_grpc_async),
    ("KServe SDK, REST", "kserve", kserve_rest),
    ("gRPC health checking", "grpcio-health-checking", grpc_health),
    ("gRPC reflection", "grpcio-reflection", grpc_reflection),
    ("OpenAI", "openai", openai_sync),
    ("OpenAI, asyncio", "openai", openai_async),
]

HEAD = """# Clients that work with modelhost

Made by `cargo xtask test --clients`, which runs each of them against a host (`tests/clients/clients.py`).

| client | version | calls | result |
| --- | --- | --- | --- |
"""


def main(address, table):
    malformed_messages(address)
    rows, failures = [], 0
    for name, package, check in CLIENTS:
        try:
            calls, result = check(address), "works"
        except Exception:
            traceback.print_exc()
            calls, result, failures = check.__name__, "FAILED", failures + 1
        rows.append(f"| {name} | {importlib.metadata.version(package)} | {calls} | {result} |")
        print(f"{name}: {result}", flush=True)
    with open(table, "w", encoding="utf-8") as file:
        file.write(HEAD + "\n".join(rows) + "\n")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
