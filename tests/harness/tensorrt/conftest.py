"""Fakes of TensorRT's Python module and of the CUDA runtime, with the names that each version really has.

``tests/data/harness/tensorrt_names.json.gz`` lists classes, members and enum values of four versions, as the
libraries' own listings have them. What a version lacks raises ``AttributeError`` here too, to read and to set. Engines
"run" in ONNX Runtime, so that outputs are right; GPU time is made up.
"""

from __future__ import annotations

import ctypes
import gzip
import importlib.util
import json
import math
import sys
import time
from pathlib import Path
from types import ModuleType

import numpy as np
import onnx
import onnxruntime
import pytest

from enginewatch_harness.backends.base import Context, Job
from enginewatch_harness.models import write_model

NAMES = json.loads(gzip.decompress((Path(__file__).parents[2] / "data/harness/tensorrt_names.json.gz").read_bytes()))
_SPEC = importlib.util.spec_from_file_location("fake_cuda", Path(__file__).with_name("fake_cuda.py"))
_FAKE_CUDA = importlib.util.module_from_spec(_SPEC)
_SPEC.loader.exec_module(_FAKE_CUDA)
FakeCuda, PyEnum, State, DTYPES = _FAKE_CUDA.FakeCuda, _FAKE_CUDA.PyEnum, _FAKE_CUDA.State, _FAKE_CUDA.DTYPES


def make_module(version: str, cuda: FakeCuda) -> ModuleType:
    """Return a module with the names of ``version``."""
    names = NAMES[version]
    module = ModuleType(names["module"])
    module.__version__ = version
    state = module.fake = State(cuda)
    for name, members in names["enums"].items():
        setattr(module, name, PyEnum(name, members))
    severities = ("INTERNAL_ERROR", "ERROR", "WARNING", "INFO", "VERBOSE")
    severity = PyEnum("Severity", {name: number for number, name in enumerate(severities)})

    def say(name, text):
        state.logger.log(severity[name], text)

    def member(name, kinds):
        if not isinstance(name, getattr(module, kinds)):
            raise TypeError(f"{name!r} is no {kinds}")
        return name.name

    class Guarded:
        def __setattr__(self, name, value):
            if not name.startswith("_") and name not in names["classes"][type(self).__name__]:
                raise AttributeError(f"{type(self).__name__} of {version} has no {name}")
            object.__setattr__(self, name, value)

    def define(name, **members):
        """Make a class of those members that this version lists; ``_`` and what begins with it is the fake's own."""
        if name in names["classes"]:
            listed = {key: made for key, made in members.items() if key[0] == "_" or key in names["classes"][name]}
            setattr(module, name, type(name, (Guarded,), listed))
            return getattr(module, name)
        return None

    def base(name):
        def init(self):
            object.__setattr__(self, "_ready", True)

        setattr(module, name, type(name, (), {"__init__": init, "_ready": False}))

    for name in ("ILogger", "IProfiler", "IProgressMonitor"):
        base(name)

    def with_logger(self, logger):
        if not isinstance(logger, module.ILogger) or not logger._ready:
            raise TypeError("ILogger.__init__ was not called")
        state.logger = logger

    # --- building
    def create_network(self, flags=0):
        strong = 1 << int(module.NetworkDefinitionCreationFlag.STRONGLY_TYPED)
        known = sum(1 << int(flag) for flag in module.NetworkDefinitionCreationFlag)
        if flags & ~known:
            say("ERROR", "unknown network creation flag")
            return None
        network = module.INetworkDefinition()
        network._strong, network._inputs, network._path = bool(flags & strong), [], None
        return network

    def build_serialized_network(self, network, config):
        state.seen = {
            "strong": network._strong,
            "flags": sorted(config._flags),
            "level": getattr(config, "builder_optimization_level", None),
            "verbosity": member(config.profiling_verbosity, "ProfilingVerbosity"),
            "hardware": getattr(getattr(config, "hardware_compatibility_level", None), "name", None),
            "pools": config._pools,
            "profile": config._profile,
            "capabilities": config._capabilities,
            "max_num_tactics": getattr(config, "max_num_tactics", None),
        }
        monitor = config.progress_monitor
        assert monitor._ready
        monitor.phase_start("Building engine", None, 3)
        for step in range(3):
            state.step()
            if not monitor.step_complete("Building engine", step):
                monitor.phase_finish("Building engine")
                say("ERROR", "IBuilder::buildSerializedNetwork: Error Code 7: BuildCanceled (Build canceled by user)")
                return None
        monitor.phase_finish("Building engine")
        if config._cache is not None:
            config._cache._keys |= {"tactic-a", "tactic-b"}
        if state.build_error:
            say("ERROR", state.build_error)
            return None
        say("INFO", "[MemUsageStats] Peak memory usage of TRT CPU/GPU memory allocators: CPU 3 MiB, GPU 12 MiB")
        plan = {"version": version, "path": str(network._path), "profile": config._profile}
        return json.dumps(plan).encode()

    define(
        "Builder",
        __init__=with_logger,
        create_network=create_network,
        create_builder_config=lambda self: module.IBuilderConfig(),
        create_optimization_profile=lambda self: module.IOptimizationProfile(),
        build_serialized_network=build_serialized_network,
    )
    define(
        "INetworkDefinition",
        num_inputs=property(lambda self: len(self._inputs)),
        get_input=lambda self, index: self._inputs[index],
    )

    def tensor(value):
        made = module.ITensor()
        made.name, made.dtype = value.name, module.DataType[DTYPES[value.type.tensor_type.elem_type]]
        made.shape = tuple(d.dim_value if d.HasField("dim_value") else -1 for d in value.type.tensor_type.shape.dim)
        return made

    define("ITensor", is_shape_tensor=False)

    def parse_from_file(self, path):
        try:
            model = onnx.load(path)
            onnx.checker.check_model(model)
        except Exception:  # noqa: BLE001 (whatever it is, the parser says one thing)
            say("ERROR", "MODEL_DESERIALIZE_FAILED: Failed to parse the ONNX model.")
            return False
        weights = {item.name for item in model.graph.initializer}
        self._network._inputs = [tensor(item) for item in model.graph.input if item.name not in weights]
        self._network._path = path
        return True

    def parser_init(self, network, logger):
        with_logger(self, logger)
        self._network = network

    define("OnnxParser", __init__=parser_init, parse_from_file=parse_from_file)

    def config_init(self):
        self._flags, self._pools, self._profile, self._cache, self._capabilities = {"TF32"}, {}, None, None, []

    def create_timing_cache(self, blob):
        cache = module.ITimingCache()
        cache._keys = set(json.loads(bytes(blob) or b"[]"))
        return cache

    def set_timing_cache(self, cache, ignore_mismatch):
        self._cache = cache
        return "other GPU" not in cache._keys

    def add_optimization_profile(self, profile):
        bad = any(not (low <= best <= high) for low, best, high in profile._shapes.values())
        if bad:
            say("ERROR", "Invalid optimization profiles for input tensors input")
            return -1
        self._profile = profile._shapes
        return 0

    def set_pool(self, pool, size):
        self._pools[member(pool, "MemoryPoolType")] = size

    define(
        "IBuilderConfig",
        __init__=config_init,
        set_flag=lambda self, flag: self._flags.add(member(flag, "BuilderFlag")),
        clear_flag=lambda self, flag: self._flags.discard(member(flag, "BuilderFlag")),
        get_flag=lambda self, flag: member(flag, "BuilderFlag") in self._flags,
        set_memory_pool_limit=set_pool,
        add_optimization_profile=add_optimization_profile,
        create_timing_cache=create_timing_cache,
        set_timing_cache=set_timing_cache,
        max_num_tactics=-1,
        max_aux_streams=-1,
        set_compute_capability=lambda self, found, index: (
            self._capabilities.append(member(found, "ComputeCapability")) or True
        ),
    )
    define(
        "IOptimizationProfile",
        __init__=lambda self: object.__setattr__(self, "_shapes", {}),
        set_shape=lambda self, name, low, best, high: self._shapes.__setitem__(name, (low, best, high)),
    )
    define(
        "ITimingCache",
        serialize=lambda self: json.dumps(sorted(self._keys)).encode(),
        combine=lambda self, other, ignore_mismatch: self._keys.update(other._keys) or True,
        queryKeys=lambda self: sorted(self._keys),
    )

    # --- running
    def deserialize(self, blob):
        try:
            plan = json.loads(bytes(blob))
        except ValueError:
            say("ERROR", "Error Code 1: Serialization (Serialization assertion plan.header.size == blobSize failed.)")
            return None
        if plan["version"] != version:
            say("ERROR", "Error Code 1: Serialization (Version tag does not match. Note: Current Version: 240)")
            return None
        engine = module.ICudaEngine()
        engine._plan, engine._session = plan, onnxruntime.InferenceSession(plan["path"])
        model = onnx.load(plan["path"], load_external_data=False)
        weights = {item.name for item in model.graph.initializer}
        engine._inputs = {item.name: tensor(item) for item in model.graph.input if item.name not in weights}
        engine._outputs = {item.name: tensor(item) for item in model.graph.output}
        return engine

    define(
        "Runtime",
        __init__=with_logger,
        deserialize_cuda_engine=deserialize,
        get_engine_validity=lambda self, blob: (module.EngineValidity[state.validity[0]], state.validity[1]),
    )

    def create_execution_context(self, config=None):
        context = module.IExecutionContext()
        context._engine, context._config, context._shapes, context._at = self, config, {}, {}
        state.context = context
        return context

    def inspector(self):
        made = module.EngineInspector()
        made._engine = self
        return made

    def told(self, kind):
        assert member(kind, "LayerInformationFormat") == "JSON"
        side = [{"Name": "x", "Dimensions": [1, 8], "Format/Datatype": "Row major linear FP16 format"}]
        layer = {"Name": "conv", "LayerType": "gemm", "Inputs": side, "Outputs": side, "TacticName": "sm89_gemm"}
        return json.dumps({"Layers": [layer]})

    define("EngineInspector", get_engine_information=told)
    define(
        "ICudaEngine",
        num_io_tensors=property(lambda self: len(self._inputs) + len(self._outputs)),
        get_tensor_name=lambda self, index: [*self._inputs, *self._outputs][index],
        get_tensor_mode=lambda self, name: module.TensorIOMode["INPUT" if name in self._inputs else "OUTPUT"],
        get_tensor_dtype=lambda self, name: (self._inputs | self._outputs)[name].dtype,
        get_tensor_shape=lambda self, name: (self._inputs | self._outputs)[name].shape,
        get_tensor_location=lambda self, name: module.TensorLocation.DEVICE,
        device_memory_size=2 << 20,
        device_memory_size_v2=2 << 20,
        create_runtime_config=lambda self: module.IRuntimeConfig(),
        create_execution_context=create_execution_context,
        create_engine_inspector=inspector,
    )

    def set_input_shape(self, name, shape):
        profile = self._engine._plan["profile"]
        low, _, high = profile[name] if profile else (shape, None, shape)
        if not all(a <= b <= c for a, b, c in zip(low, shape, high, strict=True)):
            say(
                "ERROR",
                f"Error Code 3: API Usage Error (Set dimension {shape} for tensor {name} "
                "does not satisfy any optimization profiles.)",
            )
            return False
        self._shapes[name] = tuple(shape)
        return True

    def feeds(self):
        return {
            name: np.frombuffer((ctypes.c_uint8 * (math.prod(shape) * 4)).from_address(self._at[name]), np.float32)
            .reshape(shape)
            .copy()
            for name, shape in self._shapes.items()
        }

    def output_shape(self, name):
        if name in self._shapes:
            return self._shapes[name]
        zeros = {key: np.zeros(shape, np.float32) for key, shape in self._shapes.items()}
        return dict(zip(self._engine._outputs, self._engine._session.run(None, zeros), strict=True))[name].shape

    def set_address(self, name, address):
        self._at[name] = address
        return True

    def execute(self, stream):
        assert isinstance(stream, int)
        assert stream, "the default stream synchronises the whole device"
        if state.enqueue_error:
            say("ERROR", state.enqueue_error)
            return False
        profiler = getattr(self, "profiler", None)
        assert profiler is None or cuda.captured is None

        def work():
            found = self._engine._session.run(None, feeds(self))
            for name, values in zip(self._engine._outputs, found, strict=True):
                ctypes.memmove(self._at[name], values.ctypes.data, values.nbytes)

        cuda.kernel(work)
        return True

    def report(self):
        if state.layer_times:
            for name, ms in (("conv", 0.5), ("reformat", 0.0)):
                self.profiler.report_layer_time(name, ms)
        return True

    define(
        "IExecutionContext",
        set_input_shape=set_input_shape,
        infer_shapes=lambda self: [name for name in self._engine._inputs if name not in self._shapes],
        get_tensor_shape=output_shape,
        set_tensor_address=set_address,
        execute_async_v3=execute,
        report_to_profiler=report,
        is_stream_capturable=lambda self, stream: state.capturable,
    )

    def runtime_cache(self):
        made = module.IRuntimeCache()
        made._blob = b""
        return made

    define("IRuntimeConfig", create_runtime_cache=runtime_cache, set_runtime_cache=lambda self, cache: True)
    define("IRuntimeCache", serialize=lambda self: b"kernels", deserialize=lambda self, blob: blob == b"kernels")
    return module


@pytest.fixture
def cuda(monkeypatch) -> FakeCuda:
    """A CUDA runtime with one GPU."""
    fake = FakeCuda()
    monkeypatch.setitem(sys.modules, "cuda.bindings.runtime", fake)
    return fake


@pytest.fixture
def fake_tensorrt(monkeypatch, cuda):
    """Put the fake of a version where its module is imported from."""

    def put(version: str) -> ModuleType:
        module = make_module(version, cuda)
        monkeypatch.setitem(sys.modules, module.__name__, module)
        return module

    return put


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory) -> Path:
    """A small convolutional network with a dynamic batch."""
    path = tmp_path_factory.mktemp("model") / "convnet.onnx"
    write_model("convnet_tiny", path, seed=1)
    return path


@pytest.fixture
def job(tiny_model):
    """Make a job for it."""

    def make(precision="fp32", batch=2, **options) -> Job:
        return Job(
            case_key=f"net/{precision}/b{batch}",
            workload="net",
            model_path=tiny_model,
            model_name="net",
            precision=precision,
            warmup_s=0.005,
            duration_s=0.02,
            seed=3,
            shapes={"input": (batch, 3, 32, 32)},
            options=options,
        )

    return make


@pytest.fixture
def context(tmp_path) -> Context:
    """A context whose phases and progress nobody reads."""
    return Context(
        work_dir=tmp_path / "work",
        t0_ns=time.monotonic_ns(),
        enter=lambda phase: None,
        progress=lambda n, median_ms: None,
        cache_dir=tmp_path / "cache",
    )
