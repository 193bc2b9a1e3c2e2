#!/usr/bin/env python3
"""Makes the networks that are compared: small ones of each kind, FP32 and INT8, and those that packages ship.

    pip install -r requirements.txt
    python networks.py FOLDER

Weights are random: they are here for their speed. The INT8 forms are ONNX Runtime's: `dynamic` (MatMulInteger), and
`qdq` (QuantizeLinear and DequantizeLinear around each operator, as after calibration).
"""

import importlib.util
import shutil
import sys
from pathlib import Path

import torch
from onnxruntime.quantization import (CalibrationDataReader, QuantFormat, QuantType, quant_pre_process,
                                      quantize_dynamic, quantize_static)
from torch import nn

torch.manual_seed(0)
PACKAGED = {  # name -> package, file in it
    "magika": ("magika", "models/standard_v3_3/model.onnx"),
    "silero": ("silero_vad", "data/silero_vad_openvino_16k.onnx"),
    "ocr_detection": ("rapidocr_onnxruntime", "models/ch_PP-OCRv4_det_infer.onnx"),
    "light_squeezenet": ("onnx", "backend/test/data/light/light_squeezenet.onnx"),
    "light_resnet50": ("onnx", "backend/test/data/light/light_resnet50.onnx"),
}


class Encoder(nn.Module):
    """Four layers of a small sentence encoder."""

    def __init__(self, width=384, heads=6, layers=4, words=2000):
        super().__init__()
        self.embedding = nn.Embedding(words, width)
        layer = nn.TransformerEncoderLayer(width, heads, 4 * width, activation="gelu", batch_first=True)
        self.encoder = nn.TransformerEncoder(layer, layers, enable_nested_tensor=False)

    def forward(self, tokens):
        return self.encoder(self.embedding(tokens)).mean(1)


def convolutions():
    """Some 20 million multiplications and additions for an image of 32 × 32."""
    return nn.Sequential(
        nn.Conv2d(3, 32, 3, padding=1), nn.ReLU(), nn.Conv2d(32, 32, 3, padding=1, stride=2), nn.ReLU(),
        nn.Conv2d(32, 64, 3, padding=1), nn.ReLU(), nn.Conv2d(64, 64, 3, padding=1, stride=2), nn.ReLU(),
        nn.Conv2d(64, 64, 3, padding=1), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(64, 10))


def perceptron(*widths):
    layers = [layer for a, b in zip(widths, widths[1:]) for layer in (nn.Linear(a, b), nn.ReLU())]
    return nn.Sequential(*layers[:-1])


NETWORKS = {
    "linear": (nn.Linear(4, 3), torch.randn(1, 4)),
    "perceptron": (perceptron(64, 1024, 896, 10), torch.randn(1, 64)),
    "convolutions": (convolutions(), torch.randn(1, 3, 32, 32)),
    "encoder": (Encoder(), torch.randint(0, 2000, (1, 32))),
}


class Calibration(CalibrationDataReader):
    def __init__(self, sample):
        self.rows = iter([{"x": sample.numpy()}])

    def get_next(self):
        return next(self.rows, None)


def export(folder, name, model, sample):
    path = folder / f"{name}.onnx"
    torch.onnx.export(model.eval(), (sample,), path, dynamo=True, opset_version=18, input_names=["x"],
                      output_names=["y"], external_data=False)
    return path


def quantise(folder, name, path, sample):
    prepared = folder / f"{name}.prepared"
    quant_pre_process(path, prepared)
    quantize_dynamic(prepared, folder / f"{name}_int8_dynamic.onnx", weight_type=QuantType.QInt8)
    quantize_static(prepared, folder / f"{name}_int8_qdq.onnx", Calibration(sample), quant_format=QuantFormat.QDQ,
                    activation_type=QuantType.QUInt8, weight_type=QuantType.QInt8)
    prepared.unlink()


def main():
    folder = Path(sys.argv[1])
    folder.mkdir(parents=True, exist_ok=True)
    for name, (model, sample) in NETWORKS.items():
        path = export(folder, name, model, sample)
        if name != "linear":
            quantise(folder, name, path, sample)
    for name, (package, member) in PACKAGED.items():
        found = importlib.util.find_spec(package)
        if found is None:
            print(f"{package} is not installed: {name} is left out")
            continue
        shutil.copy(Path(found.submodule_search_locations[0]) / member, folder / f"{name}.onnx")


if __name__ == "__main__":
    main()
