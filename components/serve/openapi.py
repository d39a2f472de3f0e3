"""The OpenAPI document."""

from components.serve.settings import ServerSettings


def document(settings: ServerSettings, labels: list[str]) -> dict:
    """OpenAPI 3.1 for this server."""
    return {"openapi": "3.1.0", "info": {"title": settings.name, "version": "1"}, "paths": {}}
