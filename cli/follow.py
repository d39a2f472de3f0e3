"""A run on a KFP server, as lines: each step's changes, why an attempt failed, and at the end why the run did."""

import time
from typing import Any

from cli import reason, workflow
from cli.kfp_api import KfpApi
from cli.runs import REFUSED_STATUS
from cli.workflow import Attempt, Step
from components.step_resources import NEEDS

POLL_SECONDS = 5.0
FINAL = ("SUCCEEDED", "FAILED", "SKIPPED", "CANCELED")
_LOST_TRIES = 24
# KFP hears of a Workflow's end and of its last nodes at different times; a log comes from the archive a little later.
_SETTLING_POLLS = 3


def follow(api: KfpApi, run_id: str, link: str) -> int:
    """Prints each step's changes until the run ends. Raises what the server does.

    Returns:
        the exit status: 0, 1 failed, 3 the model was refused.
    """
    printer, lost, settling = _Printer(api, run_id), 0, 0
    while True:
        try:
            run, known = api.run(run_id), _workflow(api, run_id)
            lost = 0
        except (OSError, ValueError):  # a server that restarts is not the end of the run
            lost += 1
            if lost > _LOST_TRIES:
                raise
            time.sleep(POLL_SECONDS)
            continue
        printer.show(_steps(run, known), known)
        if run.get("state") in FINAL:
            told = run["state"] == "SUCCEEDED" or printer.culprit or (known is not None and known.terminated)
            if told or settling >= _SETTLING_POLLS:
                return printer.close(run, known, link)
            settling += 1
        time.sleep(POLL_SECONDS)


def _workflow(api: KfpApi, run_id: str) -> workflow.Workflow | None:
    try:
        return workflow.read(api.workflow(run_id))
    except OSError as error:
        if getattr(error, "code", None) in (404, 405, 501):  # a server without v1beta1: its list of tasks has to do
            return None
        raise


def _steps(run: dict[str, Any], known: workflow.Workflow | None) -> list[Step]:
    if known is not None:
        return known.steps(NEEDS)
    tasks = (run.get("run_details") or {}).get("task_details") or ()
    named = [task for task in tasks if task.get("display_name") in NEEDS and task.get("state")]
    # Names repeat there, in loops and for each retry: the newest of them stands for all.
    newest = {task["display_name"]: task for task in sorted(named, key=lambda task: task.get("start_time", ""))}
    return [
        Step((name,), name, task["state"].lower(), "", (), task.get("start_time", "")) for name, task in newest.items()
    ]


class _Printer:
    """Prints what is new since the last look."""

    def __init__(self, api: KfpApi, run_id: str) -> None:
        self._api, self._run_id = api, run_id
        self._states: dict[tuple[str, ...], tuple[str, str]] = {}
        self._failed_pods: set[str] = set()
        self._names: set[str] = set()
        self.culprit: Step | None = None  # the step that failed first
        self._reason = ""
        self._evaluated: Attempt | None = None
        self._served = False

    def show(self, steps: list[Step], known: workflow.Workflow | None) -> None:
        """Prints the steps' changes, and for each pod that failed meanwhile why."""
        for step in steps:
            self._names.add(step.key[-1])
            if step.key[-1] == "evaluate" and step.state == "succeeded" and step.attempts:
                self._evaluated = step.attempts[-1]
            self._served |= step.key[-1] == "serve" and step.state != "skipped"
            for number, attempt in enumerate(step.attempts, 1):
                again = step.state not in ("failed", "terminated") or number < len(step.attempts)
                if attempt.state == "failed" and again and attempt.pod not in self._failed_pods:
                    self._failed_pods.add(attempt.pod)
                    _say(f"{step.name}: attempt {number} failed", self._why(attempt, known))
            waits = reason.waiting(step.waits) if step.waits else ""
            if self._states.get(step.key) == (step.state, waits):
                continue
            self._states[step.key] = (step.state, waits)
            why = self._why(step.attempts[-1], known) if step.state == "failed" and step.attempts else waits
            _say(f"{step.name}: {step.state}", why)
            if step.state == "failed":
                self._blame(step, why)

    def _blame(self, step: Step, why: str) -> None:
        ended = step.attempts[-1].ended if step.attempts else ""
        first = self.culprit.attempts[-1].ended if self.culprit and self.culprit.attempts else ""
        if self.culprit is None or (ended and first and ended < first):
            self.culprit, self._reason = step, why

    def close(self, run: dict[str, Any], known: workflow.Workflow | None, link: str) -> int:
        """Prints how the run ended; the last line is that of the step that failed. Returns the exit status."""
        state = run["state"].lower()
        if state == "succeeded":
            for name in NEEDS:
                if self._names and name not in self._names:  # below a condition that did not hold
                    _say(f"{name}: skipped")
        if known is not None and known.terminated and state == "failed":
            state = "terminated"
        if state == "succeeded" and (refused := self._refusal(known)):
            print(f"run succeeded, and its model must not be served: {link}\n{refused}", flush=True)
            return REFUSED_STATUS
        where = f" at {self.culprit.name}" if self.culprit and state == "failed" else ""
        print(f"run {state}{where}: {link}", flush=True)
        why = self._reason if where else ""
        if state == "failed" and not why:
            message = (known.message if known else "") or (run.get("error") or {}).get("message", "")
            why = f"error: {' '.join(message.split())}" if message else "error: neither KFP nor Argo says why"
        if why:
            print(why, flush=True)
        return 0 if state == "succeeded" else 1

    def _refusal(self, known: workflow.Workflow | None) -> str:
        """The line of the evaluate step that says why the model was refused; empty if it was not."""
        if self._evaluated is None or self._served:
            return ""
        try:
            log = self._api.log(self._run_id, self._evaluated.pod, known.namespace if known else "",
                                self._evaluated.started)  # fmt: skip
        except OSError:
            return ""
        return next((line for line in log.splitlines() if line.startswith("refused: ")), "")

    def _why(self, attempt: Attempt, known: workflow.Workflow | None) -> str:
        namespace = known.namespace if known else ""
        try:
            log = self._api.log(self._run_id, attempt.pod, namespace, attempt.started)
        except OSError:
            log = ""
        hint = f"kubectl -n {namespace or 'kubeflow'} logs {attempt.pod} -c main says why"
        return reason.of(log, attempt.message) or hint


def _say(line: str, more: str = "") -> None:
    print(f"{time.strftime('%H:%M:%S')} {line}" + (f"\n         {more}" if more else ""), flush=True)
