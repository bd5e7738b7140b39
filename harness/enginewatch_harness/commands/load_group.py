"""``enginewatch load URL`` and ``enginewatch load calibrate`` in one command."""

from __future__ import annotations

import importlib
from typing import Any, cast

import click

SUBCOMMANDS = {"calibrate": "enginewatch_harness.commands.load_calibrate:calibrate"}


class LoadGroup(click.Group):
    """A group whose own arguments are those of a command: the first word is a URL unless it names a sub-command."""

    allow_interspersed_args = True

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the names of the sub-commands."""
        del ctx
        return list(SUBCOMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import and return a sub-command."""
        del ctx
        if cmd_name not in SUBCOMMANDS:
            return None
        module, _, attribute = SUBCOMMANDS[cmd_name].partition(":")
        command: click.Command = getattr(importlib.import_module(module), attribute)
        return command

    def make_context(
        self, info_name: str | None, args: list[str], parent: click.Context | None = None, **extra: object
    ) -> click.Context:
        """Return the context of the sub-command that the first word names, else this command's own."""
        command = self.get_command(click.Context(self), args[0]) if args else None
        if command is not None:
            return command.make_context(f"{info_name} {args[0]}", args[1:], parent=parent, **cast(Any, extra))
        return super().make_context(info_name, args, parent=parent, **cast(Any, extra))

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Parse as a plain command does: what is left over is an error, no sub-command."""
        return click.Command.parse_args(self, ctx, args)

    def invoke(self, ctx: click.Context) -> object:
        """Call the command itself."""
        return click.Command.invoke(self, ctx)

    def format_usage(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write how it is called, in both forms."""
        formatter.write_usage(ctx.command_path, "URL [OPTIONS]")
        formatter.write_usage(ctx.command_path, "calibrate [OPTIONS]")

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the options, and the sub-command last."""
        click.Command.format_options(self, ctx, formatter)
        with formatter.section("Commands"):
            formatter.write_dl([("calibrate", "Find what this host's load generator can drive.")])
