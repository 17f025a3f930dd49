"""The resources: pydantic models, loading, cross-checks, CRDs and wire formats."""
