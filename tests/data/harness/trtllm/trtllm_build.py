"""Refuses what trtllm-build 1.2 refuses, and writes what it writes."""

# ruff: noqa: T201 (a tool prints)

import argparse
import json
import sys
from pathlib import Path

HERE = Path(__file__).parent
say = json.loads(HERE.joinpath("say.json").read_text())
parser = argparse.ArgumentParser(prog="trtllm-build")
for name in ("checkpoint_dir", "output_dir", "gemm_plugin"):
    parser.add_argument("--" + name)
for name in ("max_batch_size", "max_input_len", "max_seq_len", "max_num_tokens", "workers"):
    parser.add_argument("--" + name, type=int)
given = parser.parse_args()
checkpoint = json.loads((Path(given.checkpoint_dir) / "config.json").read_text())
print("[TensorRT-LLM] TensorRT-LLM version: 1.2.1")
print("[04/29/2026-11:03:30] [TRT-LLM] [I] Compute capability: (9, 0)")
if say.get("build") == "fails":
    print("[04/29/2026-11:03:31] [TRT] [E] Error Code 1: Cuda Runtime (out of memory)")
    sys.exit(1)
output = Path(given.output_dir)
output.mkdir(parents=True)
build = {"max_seq_len": given.max_seq_len, "max_batch_size": given.max_batch_size or 2048, "plugin_config": {}}
for rank in range(say.get("ranks", 1)):
    (output / f"rank{rank}.engine").write_bytes(b"engine" * 100)
(output / "config.json").write_text(
    json.dumps({"version": say.get("version", "1.2.1"), "pretrained_config": checkpoint, "build_config": build})
)
print("[04/29/2026-11:03:51] [TRT] [I] Engine generation completed in 15.4544 seconds.")
print("[04/29/2026-11:04:07] [TRT-LLM] [I] Build phase peak memory: 10421.96 MB, children: 6296.07 MB")
if say.get("build") != "cut":
    print("[04/29/2026-11:04:09] [TRT-LLM] [I] Total time of building all engines: 00:00:47")
sys.exit(say.get("build_status", 0))
