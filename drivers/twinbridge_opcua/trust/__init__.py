"""Whom to trust and who we are: certificates, users, and what a refusal means."""
