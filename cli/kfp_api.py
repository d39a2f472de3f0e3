"""Requests to a KFP server that its own client has no method for, or makes only after half a minute of silence."""

import json
import re
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.client import HTTPException
from typing import Any
from urllib.parse import quote, urlencode

from cli.workflow import uncompressed
from components.shared.errors import PipelineError

SECONDS = 15


@dataclass(frozen=True)
class KfpApi:
    """KFP's UI, which hands /apis on, or its API server; `token` is a bearer token, if it asks for one."""

    host: str
    token: str = field(default="", repr=False)

    def get(self, path: str, **query: str) -> Any:
        """The JSON at `path`. Raises OSError (HTTPError among them), and ValueError if it is none."""
        return json.loads(self.text(path, **query))

    def text(self, path: str, method: str = "GET", **query: str) -> str:
        """The body at `path`. Raises OSError."""
        url = f"{self.host.rstrip('/')}/{path}" + (f"?{urlencode(query)}" if query else "")
        headers = {"Authorization": f"Bearer {self.token}"} if self.token else {}
        try:
            request = urllib.request.Request(url, headers=headers, method=method)
            with urllib.request.urlopen(request, timeout=SECONDS) as response:
                return response.read().decode(errors="replace")
        except HTTPException as error:  # a server that is stopped while it answers
            raise ConnectionError(f"{self.host} broke off its answer: {error!r}") from error

    def health(self) -> dict[str, Any]:
        """What /healthz says. Raises PipelineError: nobody is there, it asks for a login, or it is no KFP server."""
        try:
            found = self._healthz()
        except OSError as error:
            raise explained(self.host, error) from error
        except ValueError:  # a page to log in at
            found = None
        if not isinstance(found, dict):
            raise PipelineError(f"{self.host} is no KFP API server, or wants a login: give --token and --namespace")
        if found.get("apiServerReady") is False:
            raise PipelineError(f"{self.host} is KFP's UI, and its API server (ml-pipeline) does not answer: try later")
        return found

    def _healthz(self) -> Any:
        try:
            return self.get("apis/v2beta1/healthz")
        except ConnectionResetError:  # as of a port-forward that has just been made, or a server that is busy
            time.sleep(1)
            return self.get("apis/v2beta1/healthz")

    def run(self, run_id: str) -> dict[str, Any]:
        """The run, with KFP's state of it. Raises OSError, ValueError."""
        return self.get(f"apis/v2beta1/runs/{quote(run_id)}")

    def workflow(self, run_id: str) -> str:
        """The run's Argo Workflow as JSON; empty before Argo has begun. Raises OSError, ValueError."""
        runtime = self.get(f"apis/v1beta1/runs/{quote(run_id)}").get("pipeline_runtime") or {}
        return runtime.get("workflow_manifest", "")

    def workflow_text(self, run_id: str) -> str:
        """The Workflow as text, with its nodes also where Argo keeps them compressed. Raises OSError, ValueError."""
        return uncompressed(self.workflow(run_id))

    def runs(self, namespace: str = "") -> Iterator[dict[str, Any]]:
        """All runs, archived ones too. Raises OSError, ValueError."""
        return self._pages("apis/v2beta1/runs", "runs", namespace)

    def recurring_runs(self, namespace: str = "") -> Iterator[dict[str, Any]]:
        """All recurring runs. Raises OSError, ValueError."""
        return self._pages("apis/v2beta1/recurringruns", "recurringRuns", namespace)

    def delete_run(self, run_id: str) -> None:
        """Makes KFP forget the run, and its cache what the run's steps made. Raises OSError."""
        try:
            self.text(f"apis/v2beta1/runs/{quote(run_id)}", "DELETE")
        except urllib.error.HTTPError as error:
            if error.code != 404:
                raise

    def _pages(self, path: str, name: str, namespace: str) -> Iterator[dict[str, Any]]:
        query = {"page_size": "100"} | ({"namespace": namespace} if namespace else {})
        token = ""
        while True:
            page = self.get(path, **query, **({"page_token": token} if token else {}))
            yield from page.get(name) or ()
            token = page.get("next_page_token", "")
            if not token:
                return

    def log(self, run_id: str, pod: str, namespace: str, started: str) -> str:
        """What the pod printed: from itself or, where it is gone, from Argo's archive. Raises OSError."""
        try:
            query = {"podname": pod, "runid": run_id, "podnamespace": namespace, "createdat": started[:10]}
            return self.text("k8s/pod/logs", **query)
        except OSError:  # the API server itself, which has no such address
            return self.text(f"apis/v1alpha1/runs/{quote(run_id)}/nodes/{quote(pod)}/log")


def version(health: dict[str, Any]) -> tuple[int, int] | None:
    """(2, 17) of what a server's /healthz says; None if it does not tell."""
    tag = str(health.get("apiServerTagName") or health.get("tag_name") or "")
    match = re.match(r"v?(\d+)\.(\d+)", tag)
    return (int(match[1]), int(match[2])) if match else None


def explained(where: str, error: Exception) -> PipelineError:
    """A failed request to a KFP server as one line that says what to do."""
    status = getattr(error, "status", None) or getattr(error, "code", None)
    body = " ".join(str(getattr(error, "body", None) or getattr(error, "reason", None) or error).split())
    if status in (401, 403):
        return PipelineError(f"{where} refuses us ({status}): log in, or give --token and --namespace")
    if unknown := re.search(r'unknown field \\*"(\w+)', body):
        return PipelineError(
            f"{where} does not know the field {unknown[1]} of the pipeline: it is a KFP older than 2.17; upgrade it"
        )
    if "amespace" in body and ("empty" in body or "required" in body):
        return PipelineError(f"{where} serves several users: give --namespace YOURS")
    problem = f"refuses it ({status})" if status else "does not answer as it should"
    return PipelineError(f"{where} {problem}: {body[:300]}")
