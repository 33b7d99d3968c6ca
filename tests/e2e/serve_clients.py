"""What clients of others, unmodified, make of the server: serve_clients.py URL MODEL."""
import sys

import numpy as np
import tritonclient.http as triton

url, model = sys.argv[1].removeprefix("http://"), sys.argv[2]
client = triton.InferenceServerClient(url, concurrency=4)
assert client.is_server_live() and client.is_server_ready() and client.is_model_ready(model)
assert "binary_tensor_data" in client.get_server_metadata()["extensions"]
about, config = client.get_model_metadata(model), client.get_model_config(model)
(entry,), (out, *_) = about["inputs"], about["outputs"]
assert entry["datatype"] == "FP32" and config["input"][0]["data_type"] == "TYPE_FP32"
assert [r["name"] for r in client.get_model_repository_index()] == [model]

rng = np.random.default_rng(1)
x = rng.random((3, *entry["shape"][1:]), dtype=np.float32)


def ask(x, binary_in, binary_out, **more):
    i = triton.InferInput(entry["name"], list(x.shape), "FP32")
    i.set_data_from_numpy(x, binary_data=binary_in)
    asked = [triton.InferRequestedOutput(out["name"], binary_data=binary_out)]
    return client.infer(model, [i], outputs=asked, request_id="7", **more)


plain = ask(x, False, False)
y = plain.as_numpy(out["name"])
assert y.shape[0] == 3 and y.dtype == np.float32 and plain.get_response()["id"] == "7"
for binary_in in (False, True):
    for binary_out in (False, True):
        for packed in (None, "gzip", "deflate"):
            got = ask(x, binary_in, binary_out, request_compression_algorithm=packed, response_compression_algorithm=packed, priority=1, timeout=60000000)
            assert np.array_equal(got.as_numpy(out["name"]), y), (binary_in, binary_out, packed)

i = triton.InferInput(entry["name"], list(x.shape), "FP32")
i.set_data_from_numpy(x)
for answer in [client.async_infer(model, [i]) for _ in range(40)]:
    assert np.array_equal(answer.get_result().as_numpy(out["name"]), y)

classes = [triton.InferRequestedOutput(out["name"], binary_data=b, class_count=2) for b in (True, False)]
named = [client.infer(model, [i], outputs=[c]).as_numpy(out["name"]) for c in classes]
assert named[0].shape == named[1].shape == (3, 2), named
for r in range(3):
    for k in range(2):
        value, place = named[0][r, k].decode().split(":")[:2]
        assert int(place) == np.argsort(-y[r], kind="stable")[k] and abs(float(value) - y[r, int(place)]) < 1e-5, named
        assert named[0][r, k] == (named[1][r, k].encode() if isinstance(named[1][r, k], str) else named[1][r, k])

stats = client.get_inference_statistics(model)["model_stats"][0]
assert int(stats["inference_stats"]["success"]["count"]) == 55 and int(stats["inference_count"]) == 165, stats
for wrong in (lambda: ask(x.reshape(-1), True, True), lambda: client.get_model_metadata("none"), lambda: client.load_model(model)):
    try:
        wrong()
    except triton.InferenceServerException as e:
        assert e.message(), e
    else:
        raise AssertionError("accepted")
print("tritonclient: 55 inferences, all of one answer")

try:
    import asyncio

    from kserve import InferenceRESTClient, InferInput, InferRequest, RESTConfig
except ImportError:
    print("kserve: not here, skipped")
    sys.exit()


async def kserve():
    rest = InferenceRESTClient(RESTConfig(protocol="v2", retries=0))
    assert await rest.is_server_live(f"http://{url}") and await rest.is_server_ready(f"http://{url}")
    assert await rest.is_model_ready(f"http://{url}", model)
    for binary in (False, True):
        i = InferInput(entry["name"], list(x.shape), "FP32")
        i.set_data_from_numpy(x, binary_data=binary)
        got = await rest.infer(f"http://{url}", InferRequest(model, [i]), model_name=model)
        assert np.array_equal(got.outputs[0].as_numpy().reshape(y.shape), y), binary


asyncio.run(kserve())
print("kserve: the same answer as JSON and binary")
