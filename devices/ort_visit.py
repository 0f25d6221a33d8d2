"""One visit to an ONNX model: load it, bind its tensors, time it or run it once."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray
from onnxruntime.capi import onnxruntime_pybind11_state as ort_errors

from devices.device import Failure, Tensor, Workload
from devices.errors import ProtocolError
from devices.fill import uniform

#: What ONNX Runtime raises for a model or for inputs that it cannot take.
MODEL_ERRORS: Final = (
    ort_errors.EPFail,
    ort_errors.Fail,
    ort_errors.InvalidArgument,
    ort_errors.InvalidGraph,
    ort_errors.InvalidProtobuf,
    ort_errors.NoModel,
    ort_errors.NoSuchFile,
    ort_errors.NotImplemented,
    ort_errors.RuntimeException,
    RuntimeError,
    ValueError,
)
_ERRORS_ONLY: Final = 3


@dataclass(frozen=True, slots=True)
class BoundModel:
    """A model with a value at each of its inputs and outputs, so that a run copies nothing.

    Attributes:
        run: Computes the outputs from the inputs.
        values: The tensors by their index in the workload.
    """

    run: Callable[[], object]
    values: Mapping[int, Any]

    def read(self, indices: Sequence[int]) -> bytes:
        """The bytes of tensors, one after the other."""
        return b"".join(np.ascontiguousarray(self.values[i].numpy()).tobytes() for i in indices)


def bind_model(
    models: Mapping[str, Path],
    workload: Workload,
    inputs: Mapping[int, NDArray[Any]],
    helper_cores: Sequence[int] = (),
) -> BoundModel | Failure:
    """Load the model that a workload calls, and bind its tensors.

    Args:
        models: Files by name.
        workload: One call: of a model, on its inputs and then its outputs, in the model's order.
        inputs: What tensors hold, by index; the others hold their fill, or zeros.
        helper_cores: A core for each thread beside the calling one.
    """
    if len(workload.calls) != 1 or workload.calls[0].kernel not in models:
        names = ", ".join(call.kernel for call in workload.calls)
        return Failure("bad_request", f"a workload must call one model of the list, got {names}")
    (call,) = workload.calls
    try:
        session = ort.InferenceSession(
            str(models[call.kernel]), _options(helper_cores), providers=["CPUExecutionProvider"]
        )
        return _bind(session, call.tensors, workload.tensors, inputs)
    except MemoryError as error:
        return Failure("out_of_memory", f"{call.kernel}: {error}")
    except ProtocolError as error:
        return Failure("bad_request", f"{call.kernel}: {error}")
    except MODEL_ERRORS as error:
        return Failure("kernel_error", f"{call.kernel}: {error}")


def _options(helper_cores: Sequence[int]) -> Any:
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1 + len(helper_cores)
    if helper_cores:  # counted from 1, for all threads but the calling one
        affinities = ";".join(str(core + 1) for core in helper_cores)
        options.add_session_config_entry("session.intra_op_thread_affinities", affinities)
    options.inter_op_num_threads = 1
    options.execution_mode = ort.ExecutionMode.ORT_SEQUENTIAL
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_ALL
    options.log_severity_level = _ERRORS_ONLY
    options.add_session_config_entry("session.set_denormal_as_zero", "1")
    return options


def _bind(
    session: Any,
    indices: Sequence[int],
    tensors: Sequence[Tensor],
    inputs: Mapping[int, NDArray[Any]],
) -> BoundModel:
    sources, results = session.get_inputs(), session.get_outputs()
    if len(indices) != len(sources) + len(results):
        raise ProtocolError(
            f"the model has {len(sources)} inputs and {len(results)} outputs, "
            f"the call {len(indices)} tensors"
        )
    binding = session.io_binding()
    values = {}
    for place, index in zip((*sources, *results), indices, strict=True):
        array = inputs.get(index)
        values[index] = ort.OrtValue.ortvalue_from_numpy(
            _contents(tensors[index]) if array is None else array
        )
        if len(values) <= len(sources):
            binding.bind_ortvalue_input(place.name, values[index])
        else:
            binding.bind_ortvalue_output(place.name, values[index])
    return BoundModel(lambda: session.run_with_iobinding(binding), values)


def _contents(tensor: Tensor) -> NDArray[Any]:
    """What a tensor holds before the first run."""
    if tensor.fill is None:
        return np.zeros(tensor.shape, tensor.dtype)
    return uniform(tensor.fill.seed, tensor.fill.scale, tensor.shape)
