"""Runs the function of a verb: imports the user's modules first, and turns errors into one line and an exit code."""

import argparse
import gc
import importlib
import io
import os
import sys
import traceback
from collections.abc import Callable, Sequence
from typing import NoReturn

from serx.cli import interrupts
from serx.cli.output import messages_on_stderr
from serx.errors import ConfigError, SerxError, is_out_of_memory, out_of_memory
from serx.system import end_with_parent

# Environment variable with the modules of `--import`: the processes of a cross-validation or a sweep import them too.
IMPORTS = "SERX_IMPORT"


def run_main(
    main: Callable[[argparse.Namespace], int | None], arguments: argparse.Namespace, computes: bool = False
) -> NoReturn:
    """Calls `main` and exits with the code it returns; a `SerxError` becomes one line and its own exit code.

    Args:
        main: of the verb.
        arguments: its command line.
        computes: whether it needs torch, which is then imported in less time.
    """
    end_with_parent()
    try:
        with messages_on_stderr(arguments):
            if computes:
                import_torch()
            if hasattr(arguments, "imports"):
                import_user_modules(arguments.imports or [])
            code = main(arguments) or 0
    except SerxError as error:
        code = error.exit_code
        if interrupts.exit_code() is None:  # a signal may turn up as another error
            if arguments.debug:
                traceback.print_exc()
            print(f"error: {error}", file=sys.stderr)
    except KeyboardInterrupt:
        code = 130
    except BrokenPipeError:
        sys.stderr.close()
        code = 0
    except BaseException as error:
        if interrupts.exit_code() is not None:
            code = 1
        elif is_out_of_memory(error):
            if arguments.debug:
                traceback.print_exc()
            explained = out_of_memory(
                error, "give fewer or shorter recordings, or lower the sizes in the configuration"
            )
            print(f"error: {explained}", file=sys.stderr)
            code = explained.exit_code
        else:
            raise
    sys.exit(code if interrupts.exit_code() is None or not code else interrupts.exit_code())


def import_torch() -> None:
    """Imports torch, and what most verbs import on top of it, at two thirds of the CPU time.

    What they create stays until the process ends. Python's garbage collector would go through it hundreds of times
    during the import, again during the computation, and twice as the process ends: it is told to leave it alone.
    """
    if "torch" in sys.modules or not gc.isenabled():
        return
    gc.disable()
    try:
        importlib.import_module("serx.checkpoint")
        gc.freeze()
    finally:
        gc.enable()


def print_unencodable_as_escapes() -> None:
    """Where the terminal's encoding lacks a character, prints an escape instead of failing."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def import_user_modules(names: Sequence[str]) -> None:
    """Imports modules from the current folder or the path, and those that a parent process imported.

    Raises:
        ConfigError: a module is missing, or its import fails.
    """
    inherited = [name for name in os.environ.get(IMPORTS, "").split(",") if name]
    modules = list(dict.fromkeys([*inherited, *names]))
    if not modules:
        return
    if os.getcwd() not in sys.path:
        sys.path.insert(0, os.getcwd())
    for name in modules:
        if "/" in name or name.endswith(".py"):
            dotted = name.removesuffix(".py").replace("/", ".")
            raise ConfigError(f"--import {name}: give the module and not its file; write --import {dotted}")
        try:
            importlib.import_module(name)
        except ModuleNotFoundError as error:
            if error.name != name and not name.startswith(f"{error.name}."):
                raise ConfigError(f"--import {name}: it imports {error.name}, which is not installed") from error
            places = f"{os.getcwd()} or among the installed packages"
            raise ConfigError(f"--import {name}: no such module in {places}") from error
        except Exception as error:
            raise ConfigError(f"--import {name}: {type(error).__name__}: {' '.join(str(error).split())}") from error
    os.environ[IMPORTS] = ",".join(modules)
