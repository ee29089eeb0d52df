"""Run by the Python of an azure-cli environment: shows command lines to the Azure CLI's own argument parser.

Standard input: a JSON list of argument lists. Standard output: a JSON list of what the parser says of each ("" when it
takes it). Nothing is run and nobody is asked: only the command table is loaded and the line parsed.
"""

import contextlib
import io
import json
import sys

from azure.cli.core import get_default_cli
from azure.cli.core.commands import events
from knack.events import EVENT_INVOKER_POST_CMD_TBL_CREATE


def verdict(line: list[str]) -> str:
    """What the parser says of one line."""
    cli = get_default_cli()
    invocation = cli.invocation_cls(
        cli_ctx=cli, parser_cls=cli.parser_cls, commands_loader_cls=cli.commands_loader_cls, help_cls=cli.help_cls
    )
    cli.invocation = invocation
    invocation.commands_loader.load_command_table(line)
    known = invocation.commands_loader.command_table
    command = max((name for name in known if line[: len(name.split())] == name.split()), key=len, default="")
    if not command:
        return f"there is no such command: {' '.join(line[:4])}"
    invocation.data["command_string"] = command
    invocation.commands_loader.command_name = command
    loader = invocation.commands_loader
    cli.raise_event(events.EVENT_INVOKER_PRE_LOAD_ARGUMENTS, commands_loader=loader)
    loader.load_arguments(command)
    cli.raise_event(events.EVENT_INVOKER_POST_LOAD_ARGUMENTS, commands_loader=loader)
    cli.raise_event(EVENT_INVOKER_POST_CMD_TBL_CREATE, commands_loader=loader)
    invocation.parser.load_command_table(invocation.commands_loader)
    said = io.StringIO()
    try:
        with contextlib.redirect_stderr(said), contextlib.redirect_stdout(said):
            parsed = invocation.parser.parse_args(line)
    except SystemExit as ended:
        return said.getvalue().strip() or f"it ended with status {ended.code}"
    return "" if getattr(parsed, "command", "") == command else f"it is parsed as {getattr(parsed, 'command', None)}"


answers = [verdict(line) for line in json.load(sys.stdin)]
print("\n" + json.dumps(answers))
