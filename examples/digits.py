"""A perceptron for handwritten digits, 64-32-10, as `siligrad compile` reads it.

    siligrad compile examples/digits.py -o step.sgp --explain
    siligrad compile examples/digits.py --function predict -o predict.sgp
    siligrad run step.sgp --device verilator --steps 200

Run by itself it writes digits.npz, batches for `siligrad run --input digits.npz`.
"""

import numpy

import siligrad as sg
import siligrad.numpy as np
from siligrad import datasets, losses, nn

RATE = 2.0**-5


def predict(params, x):
    for W, b in params[:-1]:
        x = np.maximum(x @ W + b, 0)
    W, b = params[-1]
    return x @ W + b


def loss(params, x, y):  # squared hinge; y is +1 / -1
    margin = np.maximum(1 - y * predict(params, x), 0)
    return np.mean(np.sum(margin**2, axis=1))


def step(params, x, y):
    grads = sg.grad(loss)(params, x, y)
    return [(W - RATE * dW, b - RATE * db) for (W, b), (dW, db) in zip(params, grads)]


# What `siligrad compile` asks for.

donate = {"step": "params"}  # the new parameters take the place of the old ones
resident = {"predict": "params"}  # they stay in the device

digits = datasets.optdigits()
images, targets = digits.train_images, losses.one_vs_rest(digits.train_labels, digits.classes)


def arguments(batch=16):
    params = nn.perceptron(numpy.random.default_rng(0), [64, 32, 10])
    return {"params": params, "x": images[:batch], "y": targets[:batch]}


if __name__ == "__main__":
    runs, batch = 200, 16
    size = runs * batch
    numpy.savez(
        "digits.npz",
        x=images[:size].reshape(runs, batch, -1),
        y=targets[:size].reshape(runs, batch, -1),
    )
