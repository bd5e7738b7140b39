"""Where engines that ONNX Runtime's TensorRT provider made outlive a run."""

from __future__ import annotations

from pathlib import Path

from enginewatch_harness.backends.ort_gpu import Kept
from enginewatch_harness.backends.ort_options import TENSORRT_PROVIDER, OrtOptions
from enginewatch_harness.graph_precision.load import model_sha256


def kept_folders(options: OrtOptions, model: Path, cache_dir: Path | None) -> Kept | None:
    """Make the folders for a session's engines; ``None`` where its provider keeps none.

    onnxruntime names a kept engine by the names in the graph and the file, not by its weights: in one folder, a model
    with new weights would be answered by the old ones' engine. Timings are of layers, so all models may share them.

    Raises:
        BackendError: ``model_missing`` or ``model_corrupt``.
    """
    if cache_dir is None or options.provider != TENSORRT_PROVIDER:
        return None
    shared = cache_dir / "onnxruntime-tensorrt"
    kept = Kept(engines=shared / model_sha256(model), timings=shared)
    # onnxruntime makes the last folder of a path only.
    kept.engines.mkdir(parents=True, exist_ok=True)
    return kept
