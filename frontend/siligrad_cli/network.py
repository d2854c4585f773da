"""The user's own Python file, as ``siligrad compile`` reads it.

A network file is an ordinary Python file that defines

* the function to be compiled, called ``step`` unless ``--function`` says otherwise;
* ``arguments()``, which returns example arguments: a tuple in the function's order, or a dict by
  parameter name, of which every function takes what it names. Their shapes are the program's, their
  values calibrate its formats, and what stays in the device starts from them. If it has a parameter
  ``batch``, ``--batch`` sets it;

and that may define

* ``donate``, ``resident``: names of parameters (one, or a tuple) as :func:`siligrad.compile` takes
  their positions; a dict of these by function's name where the functions of a file differ;
* ``calibration()``, which returns more examples: tuples or dicts like that of ``arguments()``; a
  dict may leave out what does not change.

The file is the user's and is run as Python runs it, with its folder in front of ``sys.path``;
whatever it prints goes to stderr. What goes wrong in it is told as one line that begins with the
user's file and line.
"""

from __future__ import annotations

import inspect
import linecache
import sys
import traceback
import types
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from siligrad.errors import SiligradError

__all__ = ["Network", "NetworkError", "load_network", "telling_the_line"]

_MODULE = "siligrad_network"
"""What the user's file is called among modules; its own name might be taken."""


class NetworkError(SiligradError):
    """A network file that cannot be read, fails, or does not define what it must."""


@dataclass(frozen=True)
class Network:
    """What a network file asks to be compiled.

    Parameters
    ----------
    function
        To be compiled.
    arguments
        Example arguments, in order.
    calibration
        More of them.
    donate, resident
        Positions of the arguments that are donated, and of those that stay.
    """

    function: Callable[..., Any]
    arguments: tuple[Any, ...]
    calibration: tuple[tuple[Any, ...], ...]
    donate: tuple[int, ...]
    resident: tuple[int, ...]


def load_network(path: Path, function: str = "step", batch: int | None = None) -> Network:
    """Run the file at `path` and return what it defines for `function`.

    Raises
    ------
    NetworkError
        If the file cannot be read, an error occurs in it, or it lacks something; one line that
        names file and line.
    """
    with telling_the_line(path):
        defined = _run(path)
        chosen = _function(path, defined, function)
        names = _parameters(path, chosen, function)
        first = _in_order(path, _examples(path, defined, batch), names, function, {})
        known = dict(zip(names, first, strict=True))
        more = defined.get("calibration", list)
        if not callable(more):
            raise NetworkError(f"{path}: calibration must be a function that returns examples")
        calibration = tuple(_in_order(path, item, names, function, known) for item in more())
    return Network(
        chosen,
        first,
        calibration,
        _positions(path, defined, "donate", function, names),
        _positions(path, defined, "resident", function, names),
    )


@contextmanager
def telling_the_line(path: Path) -> Iterator[None]:
    """Turn whatever goes wrong inside into one line, with the user's line that led to it.

    An error of siligrad that names the line already only loses its line breaks. What is printed
    inside goes to stderr: the command's own output may be read by a program.
    """
    try:
        with redirect_stdout(sys.stderr):
            yield
    except (NetworkError, KeyboardInterrupt):
        raise
    except SyntaxError as error:
        line = (error.text or "").strip()
        raise NetworkError(f"{error.filename}:{error.lineno}: {line}: {error.msg}") from error
    except SiligradError as error:
        message, _, at = str(error).partition("\n  at ")  # the line, where tracing knows it
        message = _one_line(f"{at}: {message}" if at else message)
        if str(path) not in message:
            message = f"{_where(path, error)}{message}"
        raise NetworkError(message) from error
    except (Exception, SystemExit) as error:  # whatever the user's code raises
        what = _one_line(str(error))
        kind = type(error).__name__
        raise NetworkError(f"{_where(path, error)}{kind}{': ' * bool(what)}{what}") from error


def _one_line(text: str) -> str:
    return " ".join(line.strip() for line in text.splitlines())


def _where(path: Path, error: BaseException) -> str:
    """Return file, line and code of the innermost frame of the user's file, ending with a colon."""
    frames = traceback.extract_tb(error.__traceback__)
    for frame in reversed(frames):
        if frame.filename == str(path):
            code = linecache.getline(frame.filename, frame.lineno or 0).strip()
            return f"{path}:{frame.lineno}: {code}: "
    return f"{path}: "


def _run(path: Path) -> dict[str, Any]:
    try:
        source = path.read_bytes()
    except OSError as error:
        raise NetworkError(f"{path} cannot be read: {error.strerror or error}") from error
    linecache.checkcache(str(path))
    try:
        code = compile(source, str(path), "exec")
    except (ValueError, UnicodeError) as error:  # zero bytes, an unknown encoding
        raise NetworkError(f"{path} is no Python file: {error}") from error
    module = types.ModuleType(_MODULE)
    module.__file__ = str(path)
    sys.modules[_MODULE] = module  # dataclasses look their module up there
    sys.path.insert(0, str(path.resolve().parent))
    try:
        exec(code, module.__dict__)  # the user's own file, at the user's word
    finally:
        sys.path.pop(0)
    return module.__dict__


def _function(path: Path, defined: Mapping[str, Any], name: str) -> Callable[..., Any]:
    function = defined.get(name)
    if not callable(function):
        there = [
            each
            for each, value in defined.items()
            if isinstance(value, types.FunctionType) and value.__module__ == _MODULE
        ]
        has = ", ".join(there) or "none"
        raise NetworkError(
            f"{path} defines no function {name!r}; it has {has}: --function NAME chooses another"
        )
    return cast("Callable[..., Any]", function)


def _parameters(path: Path, function: Callable[..., Any], name: str) -> list[str]:
    """Return the names of the parameters that must be given, in order."""
    names = []
    for parameter in inspect.signature(function).parameters.values():
        if parameter.default is not parameter.empty:
            break
        if parameter.kind not in (parameter.POSITIONAL_ONLY, parameter.POSITIONAL_OR_KEYWORD):
            raise NetworkError(
                f"{path}: {name} has the parameter {parameter}; only plain ones can be compiled"
            )
        names.append(parameter.name)
    return names


def _examples(path: Path, defined: Mapping[str, Any], batch: int | None) -> Any:
    arguments = defined.get("arguments")
    if not callable(arguments):
        raise NetworkError(
            f"{path} defines no function 'arguments'; it must return example arguments, a tuple "
            "in order or a dict by parameter name"
        )
    if batch is None:
        return arguments()
    if "batch" not in inspect.signature(arguments).parameters:
        raise NetworkError(
            f"{path}: --batch {batch} needs a parameter to set: arguments(batch=16), for example"
        )
    return arguments(batch=batch)


def _in_order(
    path: Path, examples: Any, names: list[str], function: str, known: Mapping[str, Any]
) -> tuple[Any, ...]:
    """Return `examples` as positional arguments; a dict may leave out what is `known`."""
    if isinstance(examples, Mapping):
        examples = {**known, **examples}
        for name in names:
            if name not in examples:
                raise NetworkError(
                    f"{path}: arguments() returns no {name!r}, which {function} takes; it returns "
                    f"{', '.join(map(repr, examples)) or 'nothing'}"
                )
        return tuple(examples[name] for name in names)
    if not isinstance(examples, tuple):
        raise NetworkError(
            f"{path}: examples must be a tuple or a dict of arguments, "
            f"not {type(examples).__name__}"
        )
    if len(examples) != len(names):
        raise NetworkError(
            f"{path}: {len(examples)} example arguments, but {function} takes {len(names)} "
            f"({', '.join(names)})"
        )
    return examples


def _positions(
    path: Path, defined: Mapping[str, Any], constant: str, function: str, names: list[str]
) -> tuple[int, ...]:
    value = defined.get(constant, ())
    if isinstance(value, Mapping):
        value = value.get(function, ())
    if not isinstance(value, str | tuple | list | set | frozenset):
        raise NetworkError(
            f"{path}: {constant} must name parameters of {function}, not be {value!r}"
        )
    chosen = (value,) if isinstance(value, str) else tuple(value)
    for name in chosen:
        if name not in names:
            raise NetworkError(
                f"{path}: {constant} names {name!r}, but {function} takes {', '.join(names)}"
            )
    return tuple(names.index(name) for name in chosen)
