#!/bin/sh
# A base image without any registry, from Debian's packages: sh containers/base.sh [NAME]. Needs root and debootstrap.
set -eu
name=${1:-localhost/debian-python:bookworm}
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
debootstrap --variant=minbase --include=python3,python3-venv,ca-certificates bookworm "$folder" >&2
# What apt keeps for itself, and pages that nobody reads in a container.
rm -rf "$folder"/var/cache/apt/* "$folder"/var/lib/apt/lists/* "$folder"/usr/share/doc/* "$folder"/usr/share/man/* \
    "$folder"/usr/share/locale/*
tar -C "$folder" -c . | "${ENGINE:-podman}" import - "$name"
