#!/usr/bin/env python3
"""PyTorch -> ONNX with torch.onnx.export: a convolutional network for handwritten digits, with any number of rows, in
FP32 and quantised to INT8 with ONNX Runtime.

    pip install -r requirements-pytorch.txt
    python from_pytorch.py
"""

import numpy as np
import torch
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quant_pre_process, quantize_static
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from torch import nn

from finish import answers_of, finish, path

torch.manual_seed(0)
torch.set_num_threads(2)


def network():
    return nn.Sequential(
        nn.Conv2d(1, 16, 3, padding=1), nn.BatchNorm2d(16), nn.ReLU(), nn.MaxPool2d(2),
        nn.Conv2d(16, 32, 3, padding=1), nn.BatchNorm2d(32), nn.ReLU(), nn.MaxPool2d(2),
        nn.Flatten(), nn.Linear(128, 10), nn.Softmax(dim=1))


def train(model, x, y, epochs=15):
    optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
    for _ in range(epochs):
        for rows in torch.randperm(len(x)).split(64):
            optimizer.zero_grad()
            nn.functional.nll_loss(torch.log(model(x[rows]) + 1e-9), y[rows]).backward()
            optimizer.step()
    return model.eval()  # BatchNorm and Dropout are exported as they are in this mode


class Calibration(CalibrationDataReader):
    """Some rows of the training data, of which ONNX Runtime takes the ranges."""

    def __init__(self, rows):
        self.rows = iter([{"images": rows}])

    def get_next(self):
        return next(self.rows, None)


def main():
    digits = load_digits()
    images = (digits.images[:, None] / 16).astype(np.float32)
    x, held_out, y, truth = train_test_split(images, digits.target, random_state=0)
    model = train(network(), torch.from_numpy(x), torch.from_numpy(y))
    with torch.no_grad():
        expected = model(torch.from_numpy(held_out)).numpy()
    print(f"digits: accuracy {(expected.argmax(1) == truth).mean():.3f} on {len(truth)} held-out rows")

    torch.onnx.export(
        model, (torch.from_numpy(x[:2]),), path("digits"), dynamo=True, opset_version=18,
        input_names=["images"], output_names=["probabilities"],
        dynamic_shapes=({0: torch.export.Dim("batch")},),  # else two rows is all that it takes
        external_data=False)                               # else the weights go into a second file
    finish("digits", {"images": held_out}, {"probabilities": expected})

    prepared = path("digits-prepared")
    quant_pre_process(path("digits"), prepared)
    quantize_static(prepared, path("digits_int8"), Calibration(x[:200]), quant_format=QuantFormat.QDQ,
                    activation_type=QuantType.QInt8, weight_type=QuantType.QInt8, per_channel=True)
    prepared.unlink()
    found = answers_of("digits_int8", {"images": held_out}, ["probabilities"])["probabilities"]
    print(f"digits_int8: accuracy {(found.argmax(1) == truth).mean():.3f}; "
          f"{path('digits').stat().st_size} bytes became {path('digits_int8').stat().st_size}")
    # Not the framework's answers any more: what is kept are ONNX Runtime's own.
    finish("digits_int8", {"images": held_out}, {"probabilities": found}, tolerance=0.02)


if __name__ == "__main__":
    main()
