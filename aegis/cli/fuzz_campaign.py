"""Run a campaign of ``aegis fuzz``, and report it."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from aegis.cli.dask_cluster import dask_executor
from aegis.cli.fuzz_files import (
    FINDINGS_FOLDER,
    read_baseline,
    write_ci_files,
    write_folder,
    write_replay_files,
)
from aegis.cli.fuzz_options import DEFAULT_RUNS
from aegis.cli.fuzz_signals import stopped_by_signals, until_stopped
from aegis.cli.output import Output
from aegis.cli.progress import Live, working
from aegis.errors import PolicyError
from aegis.limits import parse_count, parse_seconds
from aegis.text import count, printable, shell_word

if TYPE_CHECKING:
    from aegis.fuzz.campaign import Campaign
    from aegis.fuzz.continuation import SavedCampaign
    from aegis.fuzz.plan import CampaignPlan
    from aegis.fuzz.worker import WorkerState

__all__ = ["run_campaign"]


def run_campaign(output: Output, plan: CampaignPlan, options: dict[str, Any], saved: SavedCampaign | None) -> int:
    """Run the campaign of a command line, continuing ``saved``, and return the exit code."""
    if options["minimize"] and not options["corpus"]:
        raise click.UsageError("--minimize requires --corpus: it keeps only some cases of a corpus")
    return _CommandCampaign(output, plan, options, saved).go()


class _CommandCampaign:
    """A campaign started by the command."""

    def __init__(
        self, output: Output, plan: CampaignPlan, options: dict[str, Any], saved: SavedCampaign | None
    ) -> None:
        self.output, self.plan, self.options, self.saved = output, plan, options, saved
        self.out: str | None = options["out"] or options["resumed"]
        self.instruments = plan.coverage and not plan.goal

    def go(self) -> int:
        """Run and report the campaign. However it ends, its findings are printed and written."""
        from aegis.fuzz.coverage.summary import coverage_data
        from aegis.fuzz.regular_files import results_folder
        from aegis.fuzz.report import new_findings, to_data, to_text
        from aegis.fuzz.worker import ORACLES, WorkerState

        with working(self.output, "compiling", self.plan.name):
            state = WorkerState(self.plan)  # raises for an artifact that cannot be fuzzed, before processes start
        self.note_layers()
        baseline, campaign = read_baseline(self.options["baseline"]), self.campaign(state)
        folder = None if self.out is None else results_folder(self.out)
        began, live = time.time(), Live(self.output)
        with stopped_by_signals() as stop:
            try:
                with working(self.output, "instrumenting" if self.instruments else "compiling", self.plan.name):
                    campaign.prepare()
                if until_stopped(campaign.run(), live.show):
                    campaign.result.interrupted = True
            except KeyboardInterrupt:  # from prepare()
                campaign.result.interrupted = True
            finally:
                live.clear()
        result, target = campaign.result, state.target
        copies = state.copies if result.chunks else None  # without a chunk, nothing may be instrumented yet
        data = to_data(
            result, target.artifact.kind, target.left_out, exports=target.exports, baseline=baseline,
            folder=self.out or FINDINGS_FOLDER, coverage=coverage_data(result, copies, state.uncovered),
            notes=[*target.notes, *campaign.notes],
        )  # fmt: skip
        try:
            if folder is not None:
                line = [*self.options["line"], self.plan.name]
                command = ["aegis", "fuzz", "--continue", str(folder), *line]
                write_folder(folder, data, campaign, self.plan, " ".join(map(shell_word, command)))
            elif write_replay_files(data):
                self.output.say(f"note: findings that are too long for a command line are in {FINDINGS_FOLDER}")
            sentences = {name: str(vars(oracle)["sentence"]) for name, oracle in ORACLES.items()}
            write_ci_files(data, sentences, sarif=self.options["sarif"], junit=self.options["junit"], began=began)
            self.export(campaign, state)
            self.trace(campaign, state)
        except PolicyError as error:  # print the findings even if they cannot be written
            result.lost.append(str(error))
        new = new_findings(data)
        code = 125 if result.lost else stop.exit_code if result.interrupted and not new else int(bool(new))
        self.output.result(data, to_text(data), code)
        return code

    def note_layers(self) -> None:
        isolation = self.plan.policy.isolation
        if isolation is not None and not self.output.quiet and not self.output.json:
            from aegis.isolation.confine import available

            self.output.note_layers(available(), isolation)

    def campaign(self, state: WorkerState) -> Campaign:
        """Return the campaign that the options describe."""
        from aegis.fuzz.campaign import Campaign
        from aegis.fuzz.corpus import Corpus
        from aegis.fuzz.exchange import import_cases

        options = self.options
        seconds = None if options["seconds"] is None else parse_seconds(options["seconds"], "--time")
        imports, unused = import_cases(state.target, options["imports"])
        if unused:
            self.output.say(f"note: {count(unused, 'file')} of --import fit no export")
        return Campaign(
            self.plan, runs=self.runs(seconds), seconds=seconds, jobs=options["jobs"] or os.cpu_count() or 1,
            executor=dask_executor(options["dask"]), corpus=Corpus(options["corpus"]) if options["corpus"] else None,
            cover=options["minimize"], imports=imports,
            resumed=None if self.saved is None else self.saved.result(self.plan),
        )  # fmt: skip

    def runs(self, seconds: float | None) -> int | None:
        given = self.options["runs"]
        if given is None:
            return None if seconds is not None else 0 if self.options["minimize"] else DEFAULT_RUNS
        if given == "0":  # only the cases of --corpus and --import
            return 0
        return None if given == "none" else parse_count(given, "--runs")

    def export(self, campaign: Campaign, state: WorkerState) -> None:
        """Write the corpus, or without one the test cases of this campaign, for ``--export``."""
        if self.options["export"] is None:
            return
        from aegis.fuzz.exchange import export_cases

        corpus, result = campaign.corpus, campaign.result
        entries = list(result.behaviours.values()) if corpus is None else corpus.merged(result)
        number = export_cases(state.target, state.cases([entry[1] for entry in entries]), self.options["export"])
        self.output.say(f"note: exported {count(number, 'case')} to {printable(self.options['export'])}")

    def trace(self, campaign: Campaign, state: WorkerState) -> None:
        """Write the covered source lines, for ``--coverage-out``."""
        path = self.options["coverage_out"]
        if path is None:
            return
        if state.copies is None:
            reason = state.uncovered or "--coverage off and --find measure none"
            self.output.say(f"note: {printable(path)} is not written, because there is no coverage: {reason}")
            return
        text = state.copies.tracefile(campaign.result.coverage, self.plan.policy.proposals)
        if not text:
            self.output.say(
                f"note: {printable(path)} is not written, because the guest has no line table of DWARF: "
                "compile it with -g, and do not strip it"
            )
            return
        from aegis.fuzz.regular_files import write_regular

        try:
            write_regular(Path(path), text)
        except OSError as error:
            raise PolicyError(f"{printable(path)} cannot be written: {error.strerror or error}") from None
