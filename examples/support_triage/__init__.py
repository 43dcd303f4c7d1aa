"""Support triage: e-mails in, answers or decisions out."""
