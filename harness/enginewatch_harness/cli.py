"""The ``enginewatch`` command. Sub-commands are imported when they are called, so that help is quick."""

from __future__ import annotations

import difflib
import importlib
import sys
import traceback

import click

from enginewatch_db import __version__
from enginewatch_db.errors import EnginewatchError, ExitCode

COMMANDS: dict[str, tuple[str, str]] = {
    "init": ("enginewatch_harness.commands.init:init", "Write a commented plan for what this machine has."),
    "doctor": ("enginewatch_harness.commands.doctor:doctor", "Say what is present, what is missing, how to add it."),
    "run": ("enginewatch_harness.commands.run:run", "Build, measure, store and judge the cases of a plan."),
    "load": ("enginewatch_harness.commands.load:load", "Load-test an LLM server: ladder, knee, SLO search; stored."),
    "import": ("enginewatch_harness.commands.import_:import_", "Store the results of other load generators as runs."),
    "collect": ("enginewatch_collector.cli:collect", "Sample telemetry on its own."),
    "ingest": ("enginewatch_harness.commands.ingest:ingest", "Move finished bundles into the store."),
    "judge": ("enginewatch_ci.cli:judge", "Compare the newest session with the baseline and store the verdicts."),
    "gate": ("enginewatch_ci.cli:gate", "Decide whether a change may merge: exit code, Markdown, JUnit."),
    "accept": ("enginewatch_ci.cli:accept", "Make a session the baseline of its plan."),
    "rollback": (
        "enginewatch_harness.commands.rollback:rollback",
        "Write the last good engine of a case into a folder, with all that it needs.",
    ),
    "engines": (
        "enginewatch_harness.commands.engines:engines",
        "List, explain, compare, check and prune built engines.",
    ),
    "nsys": ("enginewatch_harness.commands.nsys:nsys", "Read and scrub reports of Nsight Systems."),
    "schedule": ("enginewatch_harness.commands.schedule:schedule", "Run a plan at its times, for as long as it runs."),
    "dashboard": ("enginewatch_dashboards.cli:dashboard", "Open the dashboard."),
    "demo": ("enginewatch_harness.commands.demo:demo", "Load recorded H200 runs and open the dashboard."),
    "db": ("enginewatch_harness.commands.db:db", "Query, export and rebuild the store."),
}
"""Name → (module:attribute, one line of help); the order is the order of the help text."""


class LazyGroup(click.Group):
    """A group that knows its commands' names and one-line help without importing them."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the names in the order of ``COMMANDS``."""
        del ctx
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import and return a command."""
        del ctx
        if cmd_name not in COMMANDS:
            return None
        module, _, attribute = COMMANDS[cmd_name][0].partition(":")
        command: click.Command = getattr(importlib.import_module(module), attribute)
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Find a command; for a name that there is not, the error says which one is nearest."""
        near = difflib.get_close_matches(args[0], COMMANDS, n=1)
        if near and args[0] not in COMMANDS and not ctx.resilient_parsing:
            ctx.fail(f"No such command {args[0]!r}. Did you mean {near[0]!r}?")
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the table of commands from ``COMMANDS`` alone."""
        del ctx
        with formatter.section("Commands"):
            formatter.write_dl([(name, text) for name, (_, text) in COMMANDS.items()])


@click.group(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(__version__, prog_name="enginewatch")
def enginewatch() -> None:
    """Did inference get slower, why, and what to do: verdicts for TensorRT and LLM deployments.

    \b
    First steps:
      enginewatch demo                  recorded H200 runs in the dashboard, no GPU needed
      enginewatch init                  write a plan for this machine
      enginewatch run enginewatch.toml  measure it, store it, judge it
      enginewatch gate                  exit code 1 when something got slower

    Exit codes: 0 pass, 1 regression, 2 usage, 3 inconclusive or no baseline, 4 machine unfit,
    5 build or benchmark failed, 6 storage, 130 interrupted.
    """


def main(arguments: list[str] | None = None) -> None:
    """Run the command line and end the process with the exit code of the table above."""
    from enginewatch_harness.console import complain, say

    try:
        code = enginewatch.main(args=arguments, standalone_mode=False)
    except click.exceptions.Abort:
        say("enginewatch: interrupted")
        code = ExitCode.INTERRUPTED
    except click.ClickException as error:
        error.show()
        code = ExitCode.USAGE
    except EnginewatchError as error:
        complain(error)
        code = error.exit_code
    except KeyboardInterrupt:
        say("enginewatch: interrupted")
        code = ExitCode.INTERRUPTED
    except BrokenPipeError:
        # The reader of our output (head, less) went away; that is no fault of ours.
        sys.stderr.close()
        code = ExitCode.PASS
    except Exception:  # noqa: BLE001 (process boundary: Python's own exit status 1 would mean "regression" here)
        traceback.print_exc()
        say("enginewatch: this is a bug; please report it with the lines above")
        code = ExitCode.FAILED
    sys.exit(int(code or 0))


if __name__ == "__main__":
    main()
