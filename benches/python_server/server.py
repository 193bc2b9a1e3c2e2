#!/usr/bin/env python3
"""Serves one ONNX file over the Open Inference Protocol, the plain way: Starlette, uvicorn, ONNX Runtime.

    pip install -r requirements.txt
    python server.py MODEL.onnx [--name NAME] [--host 127.0.0.1] [--port 8000] [--workers N] [--threads N]

The benchmark's yardstick: what a Python team deploys when it has a network and an afternoon, with the settings that
are best for it. One process for each core, each with its own session and an equal share of the cores for it (two
cores: two processes, one thread of ONNX Runtime each); uvloop, httptools and orjson; arrays are written as JSON
without becoming Python objects; no access log. A process answers its requests one after another: it has one core, and
a pool of threads would only add a hand-over. `--workers 1` makes it one process, with all cores for the network.

There is nothing here for deployment, isolation, limits, batching or metrics.
"""

import argparse
import os
from pathlib import Path

import numpy as np
import onnxruntime as ort
import orjson
import uvicorn
from starlette.applications import Starlette
from starlette.responses import Response
from starlette.routing import Route

DATATYPES = {  # of ONNX Runtime -> of the protocol, of numpy
    "tensor(bool)": ("BOOL", np.bool_),
    "tensor(uint8)": ("UINT8", np.uint8),
    "tensor(uint16)": ("UINT16", np.uint16),
    "tensor(uint32)": ("UINT32", np.uint32),
    "tensor(uint64)": ("UINT64", np.uint64),
    "tensor(int8)": ("INT8", np.int8),
    "tensor(int16)": ("INT16", np.int16),
    "tensor(int32)": ("INT32", np.int32),
    "tensor(int64)": ("INT64", np.int64),
    "tensor(float16)": ("FP16", np.float16),
    "tensor(float)": ("FP32", np.float32),
    "tensor(double)": ("FP64", np.float64),
    "tensor(string)": ("BYTES", np.object_),
}


class InvalidRequest(Exception):
    """What is wrong with a request, for its sender."""


class Model:
    """A network, and the names and types of what goes in and out."""

    def __init__(self, path, name, threads):
        options = ort.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        self.name = name
        self.session = ort.InferenceSession(path, options, providers=["CPUExecutionProvider"])
        self.inputs = {each.name: DATATYPES[each.type] for each in self.session.get_inputs()}
        self.outputs = {each.name: DATATYPES[each.type] for each in self.session.get_outputs()}

    def described(self):
        def tensors(nodes):
            return [{"name": each.name, "datatype": DATATYPES[each.type][0],
                     "shape": [extent if isinstance(extent, int) else -1 for extent in each.shape]}
                    for each in nodes]
        return {"name": self.name, "platform": "onnxruntime_onnx",
                "inputs": tensors(self.session.get_inputs()), "outputs": tensors(self.session.get_outputs())}

    def infer(self, body):
        feeds = {each["name"]: self.array(each) for each in body["inputs"]}
        wanted = [each["name"] for each in body.get("outputs") or []] or list(self.outputs)
        arrays = self.session.run(wanted, feeds)
        outputs = [{"name": name, "datatype": self.outputs[name][0], "shape": array.shape,
                    "data": written(array.ravel())} for name, array in zip(wanted, arrays)]
        answer = {"model_name": self.name, "outputs": outputs}
        if "id" in body:
            answer["id"] = body["id"]
        return answer

    def array(self, tensor):
        if tensor["name"] not in self.inputs:
            raise InvalidRequest(f"the model has no input {tensor['name']!r}")
        datatype, numpy_type = self.inputs[tensor["name"]]
        if tensor["datatype"] != datatype:
            raise InvalidRequest(f"input {tensor['name']!r} is {datatype}, not {tensor['datatype']}")
        return np.array(tensor["data"], dtype=numpy_type).reshape(tensor["shape"])


def written(values):
    """As orjson takes it: it knows no array of texts or of 16-bit floats."""
    return values.tolist() if values.dtype in (np.object_, np.float16) else values


def respond(content, status=200):
    return Response(orjson.dumps(content, option=orjson.OPT_SERIALIZE_NUMPY), status, media_type="application/json")


def application():
    """Made in each process, from the settings that the first one left in the environment."""
    model = Model(os.environ["MODEL_PATH"], os.environ["MODEL_NAME"], int(os.environ["MODEL_THREADS"]))

    async def infer(request):
        if request.path_params["name"] != model.name:
            return respond({"error": "no such model"}, 404)
        try:
            return respond(model.infer(orjson.loads(await request.body())))
        except KeyError as error:
            return respond({"error": f"{error} is missing"}, 400)
        except (InvalidRequest, ValueError, TypeError) as error:
            return respond({"error": str(error)}, 400)
        except ort.capi.onnxruntime_pybind11_state.InvalidArgument as error:
            return respond({"error": str(error)}, 400)

    async def described(request):
        known = request.path_params["name"] == model.name
        return respond(model.described()) if known else respond({"error": "no such model"}, 404)

    async def ready(request):
        return respond({"ready": True})

    return Starlette(routes=[
        Route("/v2/models/{name}/infer", infer, methods=["POST"]),
        Route("/v2/models/{name}", described),
        Route("/v2/health/ready", ready),
        Route("/v2/health/live", ready),
    ])


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("model", type=Path)
    parser.add_argument("--name", help="of the model; by default the file's, without .onnx")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=8000)
    cores = len(os.sched_getaffinity(0))
    parser.add_argument("--workers", type=int, default=cores, help="processes; by default one for each core")
    parser.add_argument("--threads", type=int, help="of ONNX Runtime in each process; by default its share of the cores")
    arguments = parser.parse_args()
    os.environ["MODEL_PATH"] = str(arguments.model.resolve())
    os.environ["MODEL_NAME"] = arguments.name or arguments.model.stem
    os.environ["MODEL_THREADS"] = str(arguments.threads or max(1, cores // arguments.workers))
    uvicorn.run("server:application", factory=True, app_dir=str(Path(__file__).resolve().parent),
                host=arguments.host, port=arguments.port, workers=arguments.workers,
                loop="uvloop", http="httptools", access_log=False, log_level="warning")


if __name__ == "__main__":
    main()
