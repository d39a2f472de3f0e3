"""Requests to a KFP server that its own client has no method for, or makes only after half a minute of silence."""

import json
import re
import time
import urllib.error
import urllib.request
from dataclasses import dataclass, field
from http.client import HTTPException
from typing import Any
from urllib.parse import quote, urlencode

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

    def text(self, path: str, **query: str) -> str:
        """The body at `path`. Raises OSError."""
        url = f"{self.host.rstrip('/')}/{path}" + (f"?{urlencode(query)}" if query else "")
        headers = {"Authorization": f"Bearer {self.token}"} if self.token else {}
        try:
            with urllib.request.urlopen(urllib.request.Request(url, headers=headers), timeout=SECONDS) as response:
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
