"""The server against the Open Inference Protocol's REST schema: serve_contract.py URL MODEL.

SCHEMA says, for each path, what its answers must have: name -> type, a list of one schema for lists of it, a trailing "?"
for what may be absent."""
import json
import sys
import urllib.error
import urllib.request

url, model = sys.argv[1:]
TENSOR_ABOUT = {"name": str, "datatype": str, "shape": [int]}
TENSOR = {"name": str, "shape": [int], "datatype": str, "parameters?": dict, "data": list}
SCHEMA = [
    ("GET", "/v2", None, 200, {"name": str, "version": str, "extensions": [str]}),
    ("GET", "/v2/health/live", None, 200, {"live": bool}),
    ("GET", "/v2/health/ready", None, 200, {"ready": bool}),
    ("GET", "/v2/models/{m}", None, 200, {"name": str, "versions?": [str], "platform": str, "inputs": [TENSOR_ABOUT], "outputs": [TENSOR_ABOUT]}),
    ("GET", "/v2/models/{m}/versions/1", None, 200, {"name": str, "versions?": [str], "platform": str, "inputs": [TENSOR_ABOUT], "outputs": [TENSOR_ABOUT]}),
    ("GET", "/v2/models/{m}/ready", None, 200, {"name": str, "ready": bool}),
    ("GET", "/v2/models/{m}/versions/1/ready", None, 200, {"name": str, "ready": bool}),
    ("POST", "/v2/models/{m}/infer", "good", 200, {"model_name": str, "model_version?": str, "id?": str, "parameters?": dict, "outputs": [TENSOR]}),
    ("POST", "/v2/models/{m}/versions/1/infer", "good", 200, {"model_name": str, "model_version?": str, "id?": str, "parameters?": dict, "outputs": [TENSOR]}),
    ("POST", "/v2/models/{m}/infer", "bad", 400, {"error": str}),
    ("GET", "/v2/models/nowhere", None, 404, {"error": str}),
    ("GET", "/v2/models/nowhere/ready", None, 404, {"error": str}),
    ("POST", "/v2/models/nowhere/infer", "good", 404, {"error": str}),
]
TYPES = {"BOOL", "UINT8", "UINT16", "UINT32", "UINT64", "INT8", "INT16", "INT32", "INT64", "FP16", "FP32", "FP64", "BYTES"}


def check(where, value, schema):
    if isinstance(schema, list):
        assert isinstance(value, list), f"{where}: a list, not {value!r}"
        for i, v in enumerate(value):
            check(f"{where}[{i}]", v, schema[0])
    elif isinstance(schema, dict):
        assert isinstance(value, dict), f"{where}: an object, not {value!r}"
        for key, inner in schema.items():
            if key.rstrip("?") in value:
                check(f"{where}.{key.rstrip('?')}", value[key.rstrip("?")], inner)
            else:
                assert key.endswith("?"), f"{where}: no {key}"
    else:
        assert isinstance(value, schema) and (schema is bool or not isinstance(value, bool)), f"{where}: {schema.__name__}, not {value!r}"
        assert not where.endswith(".datatype") or value in TYPES, f"{where}: {value}"


def ask(method, path, body):
    request = urllib.request.Request(url + path, body, method=method)
    try:
        with urllib.request.urlopen(request, timeout=60) as r:
            return r.status, r.headers, json.loads(r.read())
    except urllib.error.HTTPError as e:
        return e.code, e.headers, json.loads(e.read())


about = ask("GET", f"/v2/models/{model}", None)[2]["inputs"][0]
shape = [1 if d < 0 else d for d in about["shape"]]
n = 1
for d in shape:
    n *= d
good = {"id": "one", "parameters": {}, "inputs": [{"name": about["name"], "shape": shape, "datatype": about["datatype"], "parameters": {}, "data": [0.5] * n}], "unknown": [1]}
bodies = {None: None, "good": json.dumps(good).encode(), "bad": json.dumps({**good, "inputs": []}).encode()}
for method, path, body, code, schema in SCHEMA:
    where = f"{method} {path}"
    got, headers, answer = ask(method, path.format(m=model), bodies[body])
    assert got == code, f"{where}: {got}, want {code}: {answer}"
    assert headers["Content-Type"].startswith("application/json"), f"{where}: {headers['Content-Type']}"
    check(where, answer, schema)
    if code == 200 and body:
        assert answer.get("id") == "one", where
        for o in answer["outputs"]:
            elements = 1
            for d in o["shape"]:
                elements *= d
            assert len(o["data"]) == elements, f"{where}: {len(o['data'])} elements of {o['shape']}"
print(f"{len(SCHEMA)} answers fit the protocol's schema")
