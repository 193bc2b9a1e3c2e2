#!/usr/bin/env python3
"""TensorFlow/Keras -> ONNX with Keras' own export (which uses tf2onnx): a convolutional network for handwritten digits.

    pip install -r requirements-keras.txt
    python from_keras.py
"""

import numpy as np
import keras
import onnx
from keras import layers
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

from finish import finish, path

keras.utils.set_random_seed(0)


def name_output(file, name):
    """The export calls the only output `Identity:0`, whatever the layer is called: clients would have to know that."""
    model = onnx.load(file)
    old = model.graph.output[0].name
    model.graph.output[0].name = name
    for node in model.graph.node:
        node.input[:] = [name if each == old else each for each in node.input]
        node.output[:] = [name if each == old else each for each in node.output]
    onnx.save(model, file)


def main():
    digits = load_digits()
    images = (digits.images[..., None] / 16).astype(np.float32)
    x, held_out, y, truth = train_test_split(images, digits.target, random_state=0)
    model = keras.Sequential([
        keras.Input((8, 8, 1), name="images"),
        layers.Conv2D(16, 3, padding="same", activation="relu"), layers.MaxPooling2D(),
        layers.Conv2D(32, 3, padding="same", activation="relu"), layers.MaxPooling2D(),
        layers.Flatten(), layers.Dense(10, activation="softmax", name="probabilities")])
    model.compile("adam", "sparse_categorical_crossentropy")
    model.fit(x, y, batch_size=64, epochs=15, verbose=0)
    expected = model.predict(held_out, verbose=0)
    print(f"digits_keras: accuracy {(expected.argmax(1) == truth).mean():.3f} on {len(truth)} held-out rows")

    signature = [keras.InputSpec(shape=(None, 8, 8, 1), dtype="float32", name="images")]  # None: any number of rows
    model.export(path("digits_keras"), format="onnx", input_signature=signature, opset_version=17, verbose=False)
    name_output(path("digits_keras"), "probabilities")
    finish("digits_keras", {"images": held_out}, {"probabilities": expected})


if __name__ == "__main__":
    main()
