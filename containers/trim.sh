#!/bin/sh
# Takes out of a virtual environment what no step runs: sh trim.sh /opt/venv. docs/containers.md says what each weighs.
set -eu
packages=$(echo "$1"/lib/python3*/site-packages)
"$1"/bin/pip uninstall --quiet --yes pip setuptools wheel 2>/dev/null
cd "$packages"
# Test suites; TensorFlow's folders of that name are part of its API.
find . -path ./tensorflow -prune -o -type d -name tests -print | xargs rm -rf
# Arrow's RPC server, and everybody's C++ headers.
rm -rf pyarrow/libarrow_flight* pyarrow/libarrow_python_flight* pyarrow/_flight* pyarrow/include tensorflow/include
# The Clang that TensorFlow is built with.
rm -rf clang
# 440 services that are not object stores.
if [ -d botocore/data ]; then
    find botocore/data -mindepth 1 -maxdepth 1 -type d ! -name s3 ! -name sts ! -name sso ! -name sso-oidc \
        ! -name signin -exec rm -rf {} +
fi
