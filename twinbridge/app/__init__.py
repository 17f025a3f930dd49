"""The pipeline, the trip path, supervision and the service behind REST."""
