"""A server for tests: it is ready, or late, or dies, and says about itself what it was told to.

    python fake_server.py PORT BEHAVIOUR

Not a model: only what happens before, beside and after a load.
"""

import http.server
import json
import os
import signal
import subprocess
import sys
import threading

PORT, BEHAVIOUR = int(sys.argv[1]), sys.argv[2]
ITERATIONS = []
SCRAPES = [0]
LATE = threading.Event()


def iteration(number):
    return {
        "iter": number,
        "iterLatencyMS": 10.0,
        "timestamp": f"11-20-2026 22:10:{number * 10 // 1000:02d}.{number * 10 % 1000:03d}000",
        "numActiveRequests": 4,
        "numQueuedRequests": number % 2,
        "numNewActiveRequests": 1,
        "numCompletedRequests": 1,
        "newActiveRequestsQueueLatencyMS": 3.0,
        "kvCacheStats": {
            "usedNumBlocks": 25,
            "maxNumBlocks": 100,
            "reusedBlocks": number,
            "missedBlocks": 3 * number,
            "tokensPerBlock": 32,
        },
        "inflightBatchingStats": {"numScheduledRequests": 3},
    }


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *args):
        pass

    def answer(self, status, body, kind="application/json"):
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def do_GET(self):
        if self.path == "/health":
            return self.answer(200 if LATE.is_set() or BEHAVIOUR != "never" else 503, {})
        if BEHAVIOUR == "key" and self.headers.get("Authorization") != "Bearer s3cret":
            return self.answer(401, {"error": "no key"})
        if self.path == "/v1/models":
            owner = {"drain": "tensorrt_llm", "plain": "someone"}.get(BEHAVIOUR, "vllm")
            names = ["a", "b"] if BEHAVIOUR == "two" else ["m7b"]
            return self.answer(200, {"data": [{"id": name, "owned_by": owner, "max_model_len": 64} for name in names]})
        if self.path == "/version" and BEHAVIOUR != "plain":
            return self.answer(200, {"version": "0.20.0"})
        if self.path == "/metrics" and BEHAVIOUR == "drain":
            SCRAPES[0] += 1
            first = len(ITERATIONS)
            ITERATIONS.extend(iteration(number) for number in range(first, first + 5))
            return self.answer(200, ITERATIONS[first:])
        if self.path == "/metrics" and BEHAVIOUR != "plain":
            SCRAPES[0] += 1
            text = f'vllm:num_requests_running{{engine="0"}} 2.0\nvllm:prompt_tokens_total{{engine="0"}} {SCRAPES[0]}\n'
            return self.answer(200, text.encode(), "text/plain")
        return self.answer(404, {"detail": "Not Found"})


if BEHAVIOUR == "dies":
    sys.exit("RuntimeError: something that no table knows")
if BEHAVIOUR == "oom":
    sys.stderr.write("torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 20.00 GiB.\n")
    sys.exit(1)
if BEHAVIOUR == "flag":
    sys.exit("vllm: error: unrecognized arguments: --frob")
if BEHAVIOUR == "deaf":
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
if BEHAVIOUR == "escapes":
    # A worker in a session of its own, as some launchers start them.
    code = "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); signal.pause()"
    subprocess.Popen([sys.executable, "-c", code], start_new_session=True)
if BEHAVIOUR == "children":
    subprocess.Popen([sys.executable, "-c", "import signal; signal.pause()"])
sys.stderr.write(
    f"INFO engine config: dtype=torch.bfloat16, max_seq_len=64, quantization=fp8, env={os.environ.get('FAKE')}\n"
)
sys.stderr.flush()
http.server.ThreadingHTTPServer(("127.0.0.1", PORT), Handler).serve_forever()
