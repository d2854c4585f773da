"""``siligrad train``: train a perceptron on the host, so that it can be killed and go on.

A run lives in a folder: ``run.json`` says what was asked for, ``checkpoint.npz`` is written after
every epoch, ``params.npz`` and ``result.json`` at the end. Every file is written beside its name
and renamed, so that whoever kills the run finds it as it was after some epoch, and ``--resume``
ends with the bits that it would have ended with anyway.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import shlex
import sys
from collections.abc import Callable
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from siligrad import checkpoint, datasets, losses, metrics, nn, optim
from siligrad.errors import DataError, SiligradError
from siligrad.files import replacing
from siligrad.train import Epoch, fit
from siligrad_cli.options import natural, positive

__all__ = [
    "LOSSES",
    "Settings",
    "Split",
    "TrainedRun",
    "add_parser",
    "load_data",
    "load_run",
    "run_training",
    "split",
]

Params = list[tuple[NDArray[Any], NDArray[Any]]]

LOSSES: dict[str, tuple[Callable[[Any, Any], Any], Callable[..., NDArray[Any]]]] = {
    "squared_hinge": (losses.squared_hinge, losses.one_vs_rest),
    "mse": (losses.mean_squared_error, losses.one_hot),
    "cross_entropy": (losses.softmax_cross_entropy, losses.one_hot),
}
"""Each loss, and how it wants labels written."""

OPTIMIZERS = ("sgd", "momentum", "nesterov", "adam")

RATES = {
    ("sgd", "squared_hinge"): 2.0**-5,
    ("sgd", "mse"): 2.0**-1,
    ("sgd", "cross_entropy"): 2.0**-3,
    ("adam", "squared_hinge"): 2.0**-10,
    ("adam", "mse"): 2.0**-10,
    ("adam", "cross_entropy"): 2.0**-10,
}
"""Rates where nobody says otherwise; those of a momentum are those of sgd, an eighth of them."""

SETTINGS_FILE = "run.json"
CHECKPOINT_FILE = "checkpoint.npz"
PARAMS_FILE = "params.npz"
RESULT_FILE = "result.json"


@dataclass(frozen=True, slots=True)
class Settings:
    """Everything that a run depends on: the same settings give the same parameters.

    Parameters
    ----------
    data : :class:`str`
        ``optdigits``, or the path of a folder or file.
    layers : :class:`tuple` of :class:`int`
        Sizes of the layers, inputs first; empty for one hidden layer of 128.
    epochs, batch : :class:`int`
        Passes over the training images, and images in a step.
    rate : :class:`float`
        Learning rate at the start; 0 for one that suits optimizer and loss.
    halve : :class:`int`
        Epochs after which the rate is halved, again and again; 0 for never.
    optimizer, loss : :class:`str`
        Of :data:`OPTIMIZERS` and :data:`LOSSES`.
    seed : :class:`int`
        Of initial weights, split and order.
    validation : :class:`float`
        Fraction of the training images that is not trained on but validated with.
    patience : :class:`int`
        Stop after so many epochs without a better validation; 0 for never.
    """

    data: str = "optdigits"
    layers: tuple[int, ...] = ()
    epochs: int = 15
    batch: int = 32
    rate: float = 0.0
    halve: int = 4
    optimizer: str = "sgd"
    loss: str = "squared_hinge"
    seed: int = 0
    validation: float = 0.05
    patience: int = 0


@dataclass(frozen=True, eq=False, slots=True)
class Split:
    """The training images of a run, and those it is validated with."""

    images: NDArray[Any]
    labels: NDArray[np.int64]
    validation_images: NDArray[Any]
    validation_labels: NDArray[np.int64]


@dataclass(frozen=True, eq=False, slots=True)
class TrainedRun:
    """A run as it is found in its folder."""

    settings: Settings
    data: datasets.Dataset
    params: Params
    history: tuple[Epoch, ...]


def add_parser(commands: Any) -> None:
    """Add the command to the parser."""
    default = Settings()
    parser = commands.add_parser(
        "train",
        help="train a perceptron on the host: checkpoints, exact resume",
        description="Train a perceptron of rectified linear units on labelled images. Interrupted "
        "in any way, it goes on with --resume and ends with the same bits.",
    )
    parser.add_argument(
        "--data",
        metavar="DATA",
        help="optdigits, which is bundled; a folder of IDX files as MNIST has them; a folder with "
        "train.csv and test.csv, the class in the last column; or an .npz file with train_images, "
        "train_labels, test_images and test_labels",
    )
    parser.add_argument(
        "--layers",
        type=_layers,
        metavar="N-...-N",
        help="sizes of the layers, such as 784-128-10 (default: one hidden layer of 128)",
    )
    for name, check, meaning in (
        ("epochs", positive, "passes over the training images, in all"),
        ("batch", positive, "images in a step"),
        ("halve", natural, "halve the rate after every so many epochs, 0 for never"),
        ("seed", natural, "of weights, validation split and order"),
        ("validation", _fraction, "fraction of the training images to validate with"),
        ("patience", natural, "stop after so many epochs without a better validation, 0: never"),
    ):
        parser.add_argument(
            f"--{name}",
            type=check,
            metavar=name[0].upper(),
            help=f"{meaning} (default {getattr(default, name)})",
        )
    parser.add_argument(
        "--rate",
        type=_rate,
        metavar="R",
        help="learning rate (default: one that suits optimizer and loss, a power of two)",
    )
    parser.add_argument("--optimizer", choices=OPTIMIZERS, help=f"(default {default.optimizer})")
    parser.add_argument("--loss", choices=list(LOSSES), help=f"(default {default.loss})")
    parser.add_argument(
        "--output",
        type=Path,
        metavar="DIR",
        help="folder of the run (default build/train/ and the name of the data)",
    )
    parser.add_argument(
        "--resume",
        action="store_true",
        help="go on with the run in the folder; what is not said again is as it was",
    )
    parser.add_argument("--json", action="store_true", help="print the result as JSON, only that")
    parser.set_defaults(run=_command)


def _fraction(text: str) -> float:
    value = float(text)
    if not 0 < value < 1:
        raise argparse.ArgumentTypeError(f"must be greater than 0 and less than 1, not {text}")
    return value


def _rate(text: str) -> float:
    value = float(text)
    if not 0 < value < float("inf"):
        raise argparse.ArgumentTypeError(f"must be positive and finite, not {text}")
    return value


def _layers(text: str) -> tuple[int, ...]:
    sizes = text.split("-")
    if len(sizes) < 2 or not all(size.isdecimal() and int(size) > 0 for size in sizes):
        raise argparse.ArgumentTypeError(
            f"must be two or more positive numbers joined by -, such as 784-128-10, not {text!r}"
        )
    return tuple(map(int, sizes))


def _command(options: argparse.Namespace) -> int:
    say: Callable[[str], None] = (lambda _: None) if options.json else print
    given = {
        field.name: value
        for field in fields(Settings)
        if (value := getattr(options, field.name)) is not None
    }
    if "data" in given:
        given["data"] = _data_name(given["data"])
    folder = options.output or _default_folder(given)
    settings = _settle(folder, given, options.resume)
    try:
        result = run_training(settings, folder, progress=not options.json, say=say)
    except KeyboardInterrupt:
        again = shlex.join(["siligrad", "train", "--resume", "--output", str(folder)])
        print(f"siligrad: interrupted; this goes on with it: {again}", file=sys.stderr)
        return 130
    if options.json:
        print(json.dumps(result, indent=1))
    return 0


def _data_name(text: str) -> str:
    return text if text == "optdigits" else str(Path(text).resolve())


def _default_folder(given: dict[str, Any]) -> Path:
    if "data" not in given:
        raise DataError(
            "nothing to train on: --data optdigits takes the bundled digits, --data DIR a folder; "
            "--resume --output RUN goes on with a run"
        )
    return Path("build/train") / Path(given["data"]).stem


def _settle(folder: Path, given: dict[str, Any], resume: bool) -> Settings:
    """Return the settings of the run in ``folder``, new or resumed, as they will be recorded."""
    found = _read_settings(folder)
    if found is None:
        if "data" not in given:
            raise DataError(f"{folder} holds no run; to start one there, say --data")
        return replace(Settings(), **given)
    if not resume:
        raise DataError(
            f"{folder} holds a run already: --resume goes on with it, another --output starts anew"
        )
    for name, value in given.items():
        recorded = getattr(found, name)
        if name != "epochs" and value != recorded:
            raise DataError(
                f"--{name} {_spell(value)} is not what the run in {folder} was started with, "
                f"{_spell(recorded)}; leave it out, or start another run with another --output"
            )
    return replace(found, **given)


def _spell(value: Any) -> str:
    return "-".join(map(str, value)) if isinstance(value, tuple) else str(value)


def _read_settings(folder: Path) -> Settings | None:
    path = folder / SETTINGS_FILE
    try:
        recorded = json.loads(path.read_text(encoding="utf-8"))
        return Settings(**recorded | {"layers": tuple(recorded["layers"])})
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise DataError(f"{path} does not describe a run: {error}") from error


def load_data(name: str) -> datasets.Dataset:
    """Load the data set that ``--data`` names, in float32, inputs in -1 .. 1.

    Raises
    ------
    DataError
        If there is none, or it is damaged.
    """
    if name == "optdigits":
        return datasets.optdigits(np.float32)
    path = Path(name)
    try:
        if path.suffix == ".npz" and path.is_file():
            return _scaled(datasets.load_npz(path, dtype=np.float32))
        if not path.is_dir():
            what = "is no folder and no .npz file" if path.exists() else "does not exist"
            raise DataError(f"{path} {what}: --data takes optdigits, a folder or an .npz file")
        train, test = path / "train.csv", path / "test.csv"
        if train.is_file() and test.is_file():
            data = _scaled(datasets.load_csv(train, test, dtype=np.float32))
            return replace(data, name=path.name)
        if not any(path.glob("*-ubyte*")):
            raise DataError(
                f"{path} holds no data: neither IDX files such as train-images-idx3-ubyte.gz nor "
                "train.csv and test.csv"
            )
        return datasets.load_idx_folder(path)
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror or error}") from error


def _scaled(data: datasets.Dataset) -> datasets.Dataset:
    """Divide the inputs by the largest one in training, if that is above 1."""
    largest = np.abs(data.train_images).max(initial=0)
    if not largest > 1:
        return data
    return replace(
        data, train_images=data.train_images / largest, test_images=data.test_images / largest
    )


def run_training(
    settings: Settings,
    folder: Path,
    *,
    progress: bool = True,
    say: Callable[[str], None] = print,
) -> dict[str, Any]:
    """Train, or go on training, the run in ``folder``; return what ``result.json`` says.

    Raises
    ------
    SiligradError
        If the data cannot be loaded or do not fit, the checkpoint in the folder is another run's,
        or the run diverges.
    """
    data = load_data(settings.data)
    settings = _complete(settings, data)
    parts = split(settings, data)
    params = _initial(settings)
    say(
        f"data        {data.name}: {len(parts.labels)} images to train, "
        f"{len(parts.validation_labels)} to validate, {len(data.test_labels)} to test"
    )
    say(
        f"network     {_spell(settings.layers)}: {_count(params)} parameters, {_describe(settings)}"
    )
    _prepare(folder, settings)
    loss, write = LOSSES[settings.loss]

    def objective(params: Any, x: Any, y: Any) -> Any:
        return loss(nn.predict(params, x), y)

    def evaluate(params: Any) -> float:
        return metrics.accuracy(
            nn.predict(params, parts.validation_images), parts.validation_labels
        )

    run = fit(
        objective,
        params,
        parts.images,
        write(parts.labels, data.classes, np.float32),
        optimizer=_optimizer(settings, len(parts.labels) // settings.batch),
        epochs=settings.epochs,
        batch=settings.batch,
        seed=settings.seed,
        evaluate=evaluate,
        patience=settings.patience or None,
        checkpoint=folder / CHECKPOINT_FILE,
        progress=progress,
    )
    accuracy = metrics.accuracy(nn.predict(run.params, data.test_images), data.test_labels)
    digest = _digest(run.params)
    history = [asdict(epoch) for epoch in run.history]
    result = {
        "test_accuracy": accuracy,
        "test_images": len(data.test_labels),
        "parameters_sha256": digest,
        "history": history,
    }
    checkpoint.save(folder / PARAMS_FILE, {"params": run.params}, {"history": history})
    _write_json(folder / RESULT_FILE, result)
    for epoch in run.history:
        say(f"epoch {epoch.number:<5} loss {epoch.loss:.4f}, validation {epoch.score:.2%}")
    say(f"test        {accuracy:.2%} of {len(data.test_labels)} images")
    say(f"parameters  {folder / PARAMS_FILE}, sha256 {digest[:16]}")
    say(f"next        {shlex.join(['siligrad', 'report', str(folder)])}")
    return result


def _complete(settings: Settings, data: datasets.Dataset) -> Settings:
    """Fill in what depends on the data, and refuse what does not fit them."""
    layers = settings.layers or (data.inputs, 128, data.classes)
    if (layers[0], layers[-1]) != (data.inputs, data.classes):
        raise DataError(
            f"--layers {_spell(layers)} must begin with {data.inputs}, the numbers in an image of "
            f"{data.name}, and end with {data.classes}, its classes"
        )
    optimizer = "sgd" if settings.optimizer in ("momentum", "nesterov") else settings.optimizer
    rate = RATES[optimizer, settings.loss]
    if optimizer != settings.optimizer:
        rate /= 8
    return replace(settings, layers=layers, rate=settings.rate or rate)


def split(settings: Settings, data: datasets.Dataset) -> Split:
    """Choose the images to validate with, by the seed alone."""
    count = len(data.train_labels)
    held = round(count * settings.validation)
    if not 0 < held < count:
        raise DataError(
            f"--validation {settings.validation} of {count} images leaves {held} to validate with "
            f"and {count - held} to train on: both need some"
        )
    order = np.random.default_rng((settings.seed, 1)).permutation(count)
    train, validation = np.sort(order[held:]), np.sort(order[:held])
    return Split(
        data.train_images[train],
        data.train_labels[train],
        data.train_images[validation],
        data.train_labels[validation],
    )


def _initial(settings: Settings) -> Params:
    rng = np.random.default_rng((settings.seed, 0))
    return nn.perceptron(rng, settings.layers, dtype=np.float32)


def _optimizer(settings: Settings, steps: int) -> optim.Optimizer:
    rate: float | optim.Schedule = settings.rate
    if settings.halve:
        rate = optim.Halving(settings.rate, every=max(settings.halve * steps, 1))
    if settings.optimizer == "adam":
        return optim.Adam(rate)
    if settings.optimizer == "sgd":
        return optim.Sgd(rate)
    return optim.Momentum(rate, nesterov=settings.optimizer == "nesterov")


def _describe(settings: Settings) -> str:
    halved = f", halved every {settings.halve} epochs" if settings.halve else ""
    return (
        f"{settings.loss}, {settings.optimizer} at {settings.rate:g}{halved}, batch "
        f"{settings.batch}, seed {settings.seed}"
    )


def _prepare(folder: Path, settings: Settings) -> None:
    """Make the folder and record the settings in it."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise SiligradError(f"{folder} cannot be made: {error.strerror or error}") from error
    for name in (PARAMS_FILE, RESULT_FILE):  # they are of the end, which this is not yet
        (folder / name).unlink(missing_ok=True)
    _write_json(folder / SETTINGS_FILE, asdict(settings))


def _write_json(path: Path, content: dict[str, Any]) -> None:
    with replacing(path) as beside:
        beside.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")


def _count(params: Params) -> int:
    return sum(array.size for pair in params for array in pair)


def _digest(params: Params) -> str:
    digest = hashlib.sha256()
    for pair in params:
        for array in pair:
            digest.update(f"{array.dtype}{array.shape}".encode())
            digest.update(np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()


def load_run(folder: Path, data: str | None = None) -> TrainedRun:
    """Load a run from its folder: a finished one, or what an interrupted one has come to.

    Parameters
    ----------
    folder : path
        What ``siligrad train --output`` made.
    data : :class:`str`, optional
        Where the data are now, if they have moved.

    Raises
    ------
    DataError
        If the folder holds no run, or nothing was trained yet.
    """
    settings = _read_settings(folder)
    if settings is None:
        raise DataError(
            f"{folder} holds no run: there is no {SETTINGS_FILE}; siligrad train makes one"
        )
    like = {"params": _initial(settings)}
    for name in (PARAMS_FILE, CHECKPOINT_FILE):
        if (folder / name).is_file():
            trees, metadata = checkpoint.load(folder / name, like)
            break
    else:
        raise DataError(f"the run in {folder} has finished no epoch: there is nothing to see yet")
    loaded = load_data(_data_name(data or settings.data))
    if (loaded.inputs, loaded.classes) != (settings.layers[0], settings.layers[-1]):
        raise DataError(
            f"{loaded.name} has {loaded.inputs} inputs and {loaded.classes} classes, but the run "
            f"in {folder} is of {_spell(settings.layers)}"
        )
    history = tuple(Epoch(**epoch) for epoch in metadata["history"])
    return TrainedRun(settings, loaded, trees["params"], history)
