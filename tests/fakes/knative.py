"""What Knative's webhook refuses of a pod with its default settings (config-features untouched).

From pkg/apis/serving/{fieldmask,k8s_validation}.go of knative/serving 1.19 (module version 0.46). The predictor of this
project was given to that very code once: it and this file refuse and accept the same.
"""

from tests.fakes.kube_objects import Object

# serviceAccountName and the like; the last three are KServe's own and never reach Knative.
_POD = {"serviceAccountName", "containers", "volumes", "imagePullSecrets", "enableServiceLinks"}
_POD |= {"automountServiceAccountToken", "minReplicas", "maxReplicas", "canaryTrafficPercent"}
_CONTAINER = {"name", "args", "command", "env", "workingDir", "envFrom", "image", "imagePullPolicy", "livenessProbe"}
_CONTAINER |= {"ports", "readinessProbe", "resources", "securityContext", "startupProbe", "terminationMessagePath"}
_CONTAINER |= {"terminationMessagePolicy", "volumeMounts"}
_SECURITY = {"capabilities", "readOnlyRootFilesystem", "runAsUser", "runAsGroup", "runAsNonRoot", "privileged"}
_SECURITY |= {"allowPrivilegeEscalation", "seccompProfile"}
_PORT_NAMES = ("", "http1", "h2c")
_RESERVED_PORTS = (8008, 8012, 8013, 8022, 9090, 9091)
_VOLUMES = {"secret", "configMap", "projected", "emptyDir"}
_REFERENCES = {"secretKeyRef", "configMapKeyRef"}


def refusals(predictor: Object) -> list[str]:
    """Paths of what the webhook would not take; empty if it takes all."""
    found = [f"must not set the field(s): {name}" for name in sorted(set(predictor) - _POD)]
    if predictor.get("automountServiceAccountToken"):
        found.append("must not set the field(s): automountServiceAccountToken")
    [container] = predictor["containers"]
    return found + _volumes(predictor) + _container(container, predictor)


def _volumes(predictor: Object) -> list[str]:
    mounted = {mount["name"] for each in predictor["containers"] for mount in each["volumeMounts"]}
    volumes = predictor.get("volumes", [])
    found = [f"volume with name {each['name']!r} not mounted" for each in volumes if each["name"] not in mounted]
    return found + [f"volumes.{each['name']}: {kind}" for each in volumes for kind in set(each) - _VOLUMES - {"name"}]


def _container(container: Object, predictor: Object) -> list[str]:
    found = [f"containers[0].{name}" for name in sorted(set(container) - _CONTAINER)]
    found += [f"securityContext.{name}" for name in sorted(set(container.get("securityContext", {})) - _SECURITY)]
    found += [each["name"] for each in container["env"] if set(each.get("valueFrom", {})) - _REFERENCES]
    if len(container["ports"]) != 1:
        found.append("more than one container port is set")
    port = container["ports"][0]
    if port.get("name", "") not in _PORT_NAMES:
        found.append(f"Port name {port['name']} is not allowed")
    if port["containerPort"] in _RESERVED_PORTS:
        found.append(f"{port['containerPort']} is a reserved port")
    for name in ("livenessProbe", "readinessProbe", "startupProbe"):
        asked = container.get(name, {}).get("httpGet", {}).get("port", "")
        if isinstance(asked, str) and asked not in ("", port.get("name", "")):
            found.append(f"{name}.httpGet.port: Probe port must match container port")
    writable = {each["name"] for each in predictor.get("volumes", []) if "emptyDir" in each}
    for mount in container["volumeMounts"]:
        if mount["name"] not in writable and not mount.get("readOnly"):
            found.append(f"volumeMounts.{mount['name']}: volume mount should be readOnly for this type of volume")
    return found
