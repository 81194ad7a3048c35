"""The command line: look at plans, decide about them, validate, check and test settings.

Each command's module is imported when it is called, so that the others start fast.
"""

from __future__ import annotations

import argparse
import importlib
import io
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from include.order_cancel.cli.output import Said, UsageError, counted
from include.order_cancel.errors import OrderCancelError, SettingsError
from include.order_cancel.rows import State
from include.order_cancel.text import printable

Command = Callable[[argparse.Namespace], Said]
PROGRAM = "python -m include.order_cancel"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command. Returns the exit code: 1 for a failure, 2 for a wrong call."""
    given = parser().parse_args(arguments)
    command: Command = given.run
    try:
        said = command(given)
    except SettingsError as error:
        return _failed(_settings_in_short(error, given), 1)
    except OrderCancelError as error:
        return _failed(str(error), 2 if isinstance(error, UsageError) else 1)
    except KeyboardInterrupt:
        return _failed("interrupted", 130)
    return _print(said)


def _print(said: Said) -> int:
    try:
        print(said.text, flush=True)
    except BrokenPipeError:
        # Whoever read it has seen enough; the interpreter must not try to flush once more.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return said.code


def _failed(message: str, code: int) -> int:
    print(f"order_cancel: {printable(message, 2000)}", file=sys.stderr)
    return code


def _settings_in_short(error: SettingsError, given: argparse.Namespace) -> str:
    first, *others = map(str, error.problems)
    flow = getattr(given, "flow", None)
    about = f"flow {flow}: {first}" if flow else first
    return f"{about}; and {counted(len(others), 'more problem')}, see `validate`" if others else about


def parser() -> argparse.ArgumentParser:
    """What the command line understands."""
    root = argparse.ArgumentParser(prog=PROGRAM, description="Order cancel flows, beside the DAGs.")
    commands = root.add_subparsers(metavar="command", required=True)
    _plans(_command(commands, "plans", "looking", "the plans of a flow"))
    _plan(_command(commands, "plan", "looking", "the whole journey of one plan"))
    _validate(_command(commands, "validate", "validating", "every problem of the settings, by field"))
    _check(_command(commands, "check", "checking", "harmless questions: which profile entries do not hold?"))
    _test(commands.add_parser("test", help="a script or the mapping on one document, or golden cases"))
    _resolve(_command(commands, "resolve", "deciding", "say of a plan in doubt whether the ERP has it"))
    for name, words in (
        ("resend", "send a plan that is over once more, with a new key"),
        ("dismiss", "take an open plan out of the flow for good"),
    ):
        _decision(_command(commands, name, "deciding", words), reason_required=True)
    _adopt(
        _command(
            commands,
            "adopt",
            "deciding",
            "say whether the Omnitron of the plans is the Connection's",
        )
    )
    _export(_command(commands, "export", "looking", "a CSV for the bookkeepers"))
    _prune(_command(commands, "prune", "keeping", "take from the journal what the settings keep no longer"))
    _restored(
        _command(commands, "restored", "keeping", "the journal is an older copy: doubt what may be sent")
    )
    return root


def _restored(command: argparse.ArgumentParser) -> None:
    _flow_and_journal(command)
    command.add_argument(
        "--before",
        metavar="TIME",
        help="doubt unknown plans that Omnitron made before: ISO (default: now); the last word counts",
    )


def _prune(command: argparse.ArgumentParser) -> None:
    _flow_and_file(command)
    command.add_argument("--journal", metavar="URL", help="the journal's database, instead of asking Airflow")


def _command(
    commands: argparse._SubParsersAction[argparse.ArgumentParser], name: str, module: str, words: str
) -> argparse.ArgumentParser:
    command = commands.add_parser(name, help=words, description=f"{words[0].upper()}{words[1:]}.")
    command.set_defaults(run=_later(module, name))
    return command


def _later(module: str, name: str) -> Command:
    def run(given: argparse.Namespace) -> Said:
        command: Command = getattr(importlib.import_module(f"include.order_cancel.cli.{module}"), name)
        return command(given)

    return run


def _plans(command: argparse.ArgumentParser) -> None:
    _flow_and_journal(command)
    command.add_argument(
        "--state",
        action="append",
        choices=[*map(str, State), "open"],
        metavar="STATE",
        help=f"only these (may be repeated): {', '.join(State)}; open: all that are not finished",
    )
    command.add_argument("--generations", action="store_true", help="all of them, not the newest only")
    command.add_argument("--json", action="store_true", help="one array with stable keys")


def _plan(command: argparse.ArgumentParser) -> None:
    command.add_argument("pk", metavar="PK", help="the plan's number in Omnitron")
    _flow_and_journal(command)
    command.add_argument("--json", action="store_true", help="one object, with all generations")


def _validate(command: argparse.ArgumentParser) -> None:
    command.add_argument("--flow", help="one flow (default: all that Airflow knows)")
    command.add_argument(
        "--file",
        type=Path,
        action="append",
        metavar="SETTINGS.json",
        help="a file instead of Airflow's Variables; repeated, overlaps of the flows are found too",
    )
    command.add_argument("--schema", action="store_true", help="print the settings' JSON schema")


def _check(command: argparse.ArgumentParser) -> None:
    _flow_and_file(command)
    command.add_argument(
        "--omnitron-url", metavar="URL", help="with --file; login: OMNITRON_LOGIN, _PASSWORD"
    )
    command.add_argument(
        "--erp-url", metavar="URL", help="with --file; login: ERP_LOGIN, ERP_PASSWORD, ERP_EXTRA"
    )


def _test(command: argparse.ArgumentParser) -> None:
    kinds = command.add_subparsers(metavar="what", required=True)
    for name, words, document in (
        ("script", "the script", "the plan, as JSON"),
        ("mapping", "the mapping, step by step", "the document, as JSON"),
        ("response", "the custom response script", "the body of the ERP's answer"),
        ("post", "the post script", "the ERP's answer, or request_data and response_data in an object"),
    ):
        kind = _command(kinds, name, "trying", words)
        _flow_and_file(kind)
        kind.add_argument("--input", type=Path, required=True, metavar="FILE", help=f"{document}; - is stdin")
        kind.add_argument("--attribute", action="append", metavar="k=v", help="an attribute that comes in")
        if name in ("response", "post"):
            kind.add_argument("--request", type=Path, metavar="FILE", help="the body that was sent, as JSON")
    cases = _command(kinds, "cases", "trying", "every golden case below a folder")
    cases.add_argument("folder", type=Path, metavar="DIR")


def _resolve(command: argparse.ArgumentParser) -> None:
    _decision(command, reason_required=False)
    word = command.add_mutually_exclusive_group(required=True)
    word.add_argument("--arrived", action="store_true", help="the ERP has it: only the write-back is due")
    word.add_argument(
        "--not-arrived", action="store_true", help="the ERP has it not: it is sent again, same key"
    )


def _decision(command: argparse.ArgumentParser, *, reason_required: bool) -> None:
    command.add_argument("pk", metavar="PK", help="the plan's number in Omnitron")
    _flow_and_journal(command)
    command.add_argument(
        "--reason", required=reason_required, help="why; kept with the plan, beside your name"
    )
    command.add_argument("--host", help="which Omnitron, where the journal knows several")


def _adopt(command: argparse.ArgumentParser) -> None:
    _flow_and_journal(command)
    command.add_argument(
        "--from", dest="host", required=True, metavar="HOST", help="the Omnitron whose plans are open"
    )
    command.add_argument(
        "--to", metavar="URL", help="the Connection's whole address, instead of asking Airflow"
    )
    command.add_argument("--other", action="store_true", help="it is another one: leave its plans alone")
    command.add_argument("--reason", help="why; kept beside your name")


def _export(command: argparse.ArgumentParser) -> None:
    _flow_and_journal(command)
    command.add_argument(
        "--from", dest="since", required=True, metavar="TIME", help="last moved at or after: ISO"
    )
    command.add_argument("--to", dest="until", required=True, metavar="TIME", help="and before: ISO")


def _flow_and_journal(command: argparse.ArgumentParser) -> None:
    command.add_argument("--flow", required=True)
    command.add_argument("--journal", metavar="URL", help="the journal's database, instead of asking Airflow")


def _flow_and_file(command: argparse.ArgumentParser) -> None:
    command.add_argument("--flow", required=True)
    command.add_argument("--file", type=Path, metavar="SETTINGS.json", help="instead of the flow's Variable")


if __name__ == "__main__":
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(encoding="utf-8")
    sys.exit(main())
