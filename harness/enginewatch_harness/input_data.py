"""A user's own inputs: arrays by input name, in one ``.npz`` or in a folder of ``.npz`` and ``.npy``.

Each array has an input's shape, or whole multiples of its batch: then it is cut into samples.
"""

from __future__ import annotations

import hashlib
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from enginewatch_db.errors import BackendError, PlanError
from enginewatch_db.model import Json
from enginewatch_harness.backends.option_values import integer
from enginewatch_harness.backends.ort_inputs import InputSpec, numpy_type
from enginewatch_harness.engine_cache import file_sha256

Arrays = dict[str, NDArray[Any]]

CALIBRATION = "calibration_data"
ACCURACY = "accuracy_data"
OPTIONS = (CALIBRATION, ACCURACY)
"""Options of a plan that name such data."""


def resolve_data(options: Json, folder: Path) -> Json:
    """Return options with the paths of ``OPTIONS`` made absolute.

    Args:
        options: Options of a case, as the plan spells them.
        folder: The plan's folder, to which paths are relative.

    Raises:
        PlanError: A path is no string, nothing lies there, or the number of batches is none.
    """
    integer(options, "accuracy_batches", 1, low=1)
    found = {name: options[name] for name in OPTIONS if name in options}
    for name, value in found.items():
        if not isinstance(value, str) or not value:
            raise PlanError(f"option {name} = {value!r} must be a path", remedy="correct options in the plan")
        data_files((folder / value).absolute(), name)
    return {**options, **{name: str((folder / value).absolute()) for name, value in found.items()}}


def data_files(path: Path, option: str) -> list[Path]:
    """Return the files of a data set: the ``.npz`` itself, or what lies in the folder, by name.

    Raises:
        PlanError: There is no such file or folder, or nothing in it.
    """
    if path.is_dir():
        found = sorted(item for item in path.iterdir() if item.suffix in (".npz", ".npy"))
        if not found:
            raise PlanError(f"{option} = {str(path)!r} holds no .npz or .npy file", remedy="save arrays with numpy")
        return found
    if not path.is_file():
        raise PlanError(
            f"{option} = {str(path)!r} does not exist", remedy="correct the path (it is relative to the plan file)"
        )
    if path.suffix != ".npz":
        raise PlanError(
            f"{option} = {str(path)!r} is no .npz file", remedy="save it with numpy.savez(file, input_name=array)"
        )
    return [path]


def data_sha256(path: Path, option: str) -> str:
    """Return the hash of a data set: names and contents of its files.

    Raises:
        PlanError: As in ``data_files``.
    """
    files = data_files(path, option)
    if not path.is_dir():
        return file_sha256(path)
    text = "\n".join(f"{item.name}:{file_sha256(item)}" for item in files)
    return hashlib.sha256(text.encode()).hexdigest()


def read_samples(
    path: Path, specs: list[InputSpec], shapes: dict[str, tuple[int, ...]], option: str
) -> Iterator[Arrays]:
    """Yield the samples of a data set, each with exactly ``shapes``.

    Args:
        path: An ``.npz``, or a folder: each ``.npz`` in it brings samples of all inputs; ``.npy`` files are named
            after an input, and each brings all samples of that input.
        specs: The model's inputs.
        shapes: A complete shape for each.
        option: The option that names the file, for messages.

    Raises:
        PlanError: Nothing is there.
        BackendError: ``shape_outside_profile``: an input is missing, too many are there, or a shape, type or number
            of samples does not fit; ``model_corrupt``: a file cannot be read.
    """
    for source, arrays in _groups(data_files(path, option)):
        _check_names(arrays, specs, source, option)
        cut = {
            spec.name: _cut(arrays[spec.name], spec, shapes[spec.name], f"{source}, array {spec.name!r}", option)
            for spec in specs
        }
        counts = {name: len(samples) for name, samples in cut.items()}
        if len(set(counts.values())) > 1:
            told = ", ".join(f"{name}: {count}" for name, count in counts.items())
            raise _unfit(option, f"{source} holds different numbers of samples ({told})")
        for index in range(next(iter(counts.values()))):
            yield {name: samples[index] for name, samples in cut.items()}


def _groups(files: list[Path]) -> Iterator[tuple[str, Arrays]]:
    single = {item.stem: _read(item)[item.stem] for item in files if item.suffix == ".npy"}
    if single:
        yield str(files[0].parent), single
    for item in files:
        if item.suffix == ".npz":
            yield str(item), _read(item)


def _read(path: Path) -> Arrays:
    try:
        # numpy leaves a damaged file open that it opened itself.
        with path.open("rb") as stream:
            loaded = np.load(stream, allow_pickle=False)
            if isinstance(loaded, np.ndarray):
                return {path.stem: loaded}
            with loaded:
                return {name: loaded[name] for name in loaded.files}
    except (OSError, ValueError, EOFError, zipfile.BadZipFile) as error:
        raise BackendError(
            f"{path} cannot be read as numpy arrays: {error}",
            code="model_corrupt",
            remedy="save it again with numpy.savez, without objects in it",
        ) from error


def _check_names(arrays: Arrays, specs: list[InputSpec], source: str, option: str) -> None:
    wanted = [spec.name for spec in specs]
    missing = [name for name in wanted if name not in arrays]
    surplus = sorted(set(arrays) - set(wanted))
    if missing:
        raise _unfit(option, f"{source} lacks the input {missing[0]!r}; it holds {', '.join(sorted(arrays)) or 'none'}")
    if surplus:
        raise _unfit(option, f"{source} holds {surplus[0]!r}, which is no input; inputs: {', '.join(wanted)}")


def _cut(values: NDArray[Any], spec: InputSpec, shape: tuple[int, ...], where: str, option: str) -> list[NDArray[Any]]:
    kind = numpy_type(spec)
    if kind is None or values.dtype.kind != kind.kind:
        raise _unfit(option, f"{where} has type {values.dtype}, the input takes {spec.kind}")
    if not np.isfinite(values).all():
        raise _unfit(option, f"{where} holds NaN or infinity")
    batch = shape[0] if shape else 1
    whole = values.ndim == len(shape) and values.shape[1:] == shape[1:]
    if not whole or (values.shape != shape and (values.shape[0] == 0 or values.shape[0] % batch)):
        told, wanted = ("x".join(map(str, dims)) for dims in (values.shape, shape))
        raise _unfit(option, f"{where} has shape {told}, the case takes {wanted} or whole multiples of its batch")
    typed = np.ascontiguousarray(values, kind)
    if kind.kind != "f" and not (typed == values).all():
        raise _unfit(option, f"{where} holds values that {kind} cannot")
    return [typed] if values.shape == shape else list(typed.reshape(-1, *shape))


def _unfit(option: str, message: str) -> BackendError:
    return BackendError(message, code="shape_outside_profile", remedy=f"correct the file that {option} names")
