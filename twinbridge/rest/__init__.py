"""The REST twin API: thin routes over `app.service`."""
