"""A served model as its Kubernetes objects name it: serve writes these labels and annotations, evaluate finds the
champion by them, and the server itself knows by SMOKE_HEADER which requests are no traffic.

The Service that people call has SERVICE_LABEL and says which versions it knows of. Each version has a Deployment (or a
predictor of KServe) that names its model by URI_ANNOTATION and DIGEST_ANNOTATION.
"""

PREFIX = "museum-classifier/"
SERVICE_LABEL = f"{PREFIX}service"
VERSION_LABEL = f"{PREFIX}version"
# On each version: where its model is, and the digest that it must have (components.artifacts.classifier.digest).
URI_ANNOTATION = f"{PREFIX}model"
DIGEST_ANNOTATION = f"{PREFIX}sha256"
# The KFP run that deployed a version, and when the version came into service.
RUN_ANNOTATION = f"{PREFIX}run"
SINCE_ANNOTATION = f"{PREFIX}since"
# When that run was created, as ISO 8601: of two runs that deploy under one name the newer one wins.
CREATED_ANNOTATION = f"{PREFIX}run-created"
# On the Service that people call: the versions it knows of, and how many pods the main one shall have.
MAIN_ANNOTATION = f"{PREFIX}main"
PREVIOUS_ANNOTATION = f"{PREFIX}previous"
CANARY_ANNOTATION = f"{PREFIX}canary"
MINIMUM_ANNOTATION = f"{PREFIX}replicas"
PODS_ANNOTATION = f"{PREFIX}replicas-before-canary"
# What stands for Service and Deployment with serving=kserve.
KSERVE_KIND = ("serving.kserve.io/v1beta1", "InferenceService")
# Images that come with this header are answered, but are no traffic in which drift could be seen.
SMOKE_HEADER = "X-Smoke-Test"
