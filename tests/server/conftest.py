from tests.serve.conftest import classifier_dir, server  # noqa: F401
