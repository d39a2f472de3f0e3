"""Why a step failed, in one line: its own `error:` line, what KFP's launcher says, or how its container ended."""

import re

# KFP's driver and launcher write around what the step prints: `F1129 10:01:02.000003       1 main.go:50] …` (glog).
_GLOG = re.compile(r"^(?P<level>[IWEF])\d{4} [\d:.]+ +\d+ \S+:\d+\] (?P<text>.*)$")
_OWN_EXIT = re.compile(r"exit status \d+|signal: \w+")
# Argo's executor prints its own log, and at the end of a command that failed one more line.
_ARGO = re.compile(rf"time=|Error: ({_OWN_EXIT.pattern})$")
_ONLY_A_STATUS = re.compile(r"(main: )?(Error|Completed|Unknown)? ?\(exit code \d+\)(: Error.*)?")
_LAUNCHER = "KFP's launcher could not move the step's data: "
# What the launcher's and driver's texts hold, and what it means for whoever set the store up.
_STORE = (
    (r"NoSuchBucket|bucket does not exist|code=NotFound.*bucket",
     "there is no such bucket: create it, or correct --root or defaultPipelineRoot of the ConfigMap kfp-launcher"),
    (r"InvalidAccessKeyId|SignatureDoesNotMatch|InvalidClientTokenId|AuthFailure",
     "the store does not know the key: correct the Secret that the ConfigMap kfp-launcher names "
     "(mlpipeline-minio-artifact, if it names none)"),
    (r"AccessDenied|StatusCode: 403|Forbidden",
     "the store refuses access: the key of the Secret that the ConfigMap kfp-launcher names may not write there"),
    (r"secrets \\?\"(?P<it>[^\"\\]+)\\?\" not found|[Ff]ailed to get .*credentials? from secret",
     "the Secret that the ConfigMap kfp-launcher names is not there: create it, or name another"),
    (r"no such host|connection refused|i/o timeout|request send failed|deadline exceeded|no route to host|x509|tls:",
     "the store does not answer: correct the endpoint in the ConfigMap kfp-launcher (and its disableSSL)"),
    (r"unrecognized pipeline root|unsupported Cloud bucket",
     "the pipeline root is no URI: give --root one such as s3://bucket/prefix"),
)  # fmt: skip


def of(log: str, message: str) -> str:
    """`error: …` for a pod that failed.

    Args:
        log: what its container printed; empty if that cannot be had.
        message: Argo's word for how the pod ended; may be empty.

    Returns:
        the line; empty if neither says anything.
    """
    lines = [line.strip() for line in re.split(r"\r?\n", log) if line.strip()]
    parsed = [_GLOG.match(line) for line in lines]
    fatal = [match["text"] for match in parsed if match and match["level"] == "F"]
    if fatal and not _OWN_EXIT.search(_last_part(fatal[-1])):
        return f"error: {_of_kfp(fatal[-1])}"
    own = [line for line in lines if line.startswith("error: ")]
    told = "" if _ONLY_A_STATUS.fullmatch(message) else message.removeprefix("main: ")
    if own and not (told and own[-1] == "error: interrupted"):
        return own[-1]
    if told:
        return f"error: {_explained(told)}"
    said = [line for line, match in zip(lines, parsed) if not match and not _ARGO.match(line)]
    return f"error: the step ended unexpectedly: {said[-1]}" if said else ""


def waiting(message: str) -> str:
    """What a pod waits for that may never come, with what to do."""
    return _explained(" ".join(message.split()))


def _last_part(text: str) -> str:
    return text.rpartition(": ")[2]


def _of_kfp(text: str) -> str:
    """The launcher's or driver's words, which wrap one error in another and name files that are gone."""
    what = re.search(r'(output|input) artifact \\?"([^"\\]+)\\?"', text)
    thing = f"{what[1]} {what[2]}: " if what else ""
    for pattern, meaning in _STORE:
        if re.search(pattern, text):
            endpoint = re.search(r'(?:Put|Get|Post|Head) \\?"?(https?://[^/"\\]+)', text)
            bucket = re.search(r'[Bb]ucket \\?"?([a-z0-9][a-z0-9.-]+)', text)
            where = endpoint or bucket
            return f"{_LAUNCHER}{thing}{meaning}" + (f" [{where[1]}]" if where else "")
    return f"KFP itself failed: {_short(text)}"


def _explained(message: str) -> str:
    if "OOMKilled" in message:
        return f"{message}: raise its memory (train_memory_limit for training), or give it less at once"
    if re.search(r"ErrImagePull|ImagePullBackOff|ErrImageNeverPull|InvalidImageName", message):
        return f"{_short(message)}: compile with --digests images.json, --registry or --image-pull-secret"
    if "exceeded quota" in message:
        return f"{_short(message)}: the namespace's ResourceQuota is full: free some of it, or have it raised"
    if "Unschedulable" in message:
        return f"{_short(message)}: add nodes, or ask for less"
    return _short(message)


def _short(text: str, most: int = 400) -> str:
    text = " ".join(text.split())
    return text if len(text) <= most else f"{text[: most // 2]} … {text[-most // 2 :]}"
