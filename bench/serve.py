"""The server beside the bare engine, in alternating rounds: serve.py DTRAIN MODEL.onnx [ROUNDS].

Prints rows a second at 32 rows of two clients over loopback (binary tensors) in parts of the engine's at 32 rows, and what
HTTP adds to the median of one client with one row."""
import http.client
import json
import re
import statistics
import subprocess
import sys
import threading
import time

dtrain, model, rounds = sys.argv[1], sys.argv[2], int(sys.argv[3]) if len(sys.argv) > 3 else 5
BATCH, REQUESTS, SINGLE = 32, 6, 60


def engine(rows, runs):
    """Seconds of a run at level basic."""
    text = subprocess.run([dtrain, "optimize", model, "--rows", str(rows), "--runs", str(runs)], check=True, capture_output=True, text=True).stdout
    return float(re.search(r"^basic +([0-9.]+)", text, re.M)[1]) / 1000


class Client:
    def __init__(self, host, about, rows):
        shape = [rows if i == 0 else d for i, d in enumerate(about["inputs"][0]["shape"])]
        n = 4
        for d in shape:
            n *= d
        head = json.dumps({"inputs": [{"name": about["inputs"][0]["name"], "shape": shape, "datatype": "FP32", "parameters": {"binary_data_size": n}}], "parameters": {"binary_data_output": True}}).encode()
        self.body = head + bytes(n)
        self.headers = {"Inference-Header-Content-Length": str(len(head))}
        self.connection = http.client.HTTPConnection(host)

    def ask(self):
        begin = time.perf_counter()
        self.connection.request("POST", "/v2/models/m/infer", self.body, self.headers)
        r = self.connection.getresponse()
        r.read()
        assert r.status == 200, r.status
        compute = float(re.search(r"compute;dur=([0-9.]+)", r.headers["Server-Timing"])[1]) / 1000
        return time.perf_counter() - begin, compute


server = subprocess.Popen([dtrain, "serve", "--model", f"m={model}", "--port", "0"], stdout=subprocess.PIPE, text=True)
try:
    host = next(m for m in (re.match(r"ready at http://(\S+)", line) for line in server.stdout) if m)[1]
    c = http.client.HTTPConnection(host)
    c.request("GET", "/v2/models/m")
    about = json.loads(c.getresponse().read())
    ratios, added = [], []
    one, two = Client(host, about, 1), [Client(host, about, BATCH) for _ in range(2)]
    for _ in range(rounds):
        bare = engine(BATCH, REQUESTS)
        for client in (one, *two):
            client.connection.close()  # the server may have, as it was silent; it is opened anew
        for client in two:
            client.ask()
        begin = time.perf_counter()
        threads = [threading.Thread(target=lambda client=client: [client.ask() for _ in range(REQUESTS)]) for client in two]
        for t in threads:
            t.start()
        for t in threads:
            t.join()
        ratios.append(bare * 2 * REQUESTS / (time.perf_counter() - begin))
        took = [one.ask() for _ in range(SINGLE)]
        added.append(statistics.median(a - b for a, b in took))
    print(f"{BATCH} rows, two clients: {statistics.median(ratios):.3f} of the bare engine ({min(ratios):.3f} to {max(ratios):.3f})")
    print(f"one row, one client: {1000 * statistics.median(added):.3f} ms more than the run ({1000 * min(added):.3f} to {1000 * max(added):.3f})")
finally:
    server.terminate()
    server.wait()
