"""What the administrator has to say: how a missing version is got, what may be served, and who is asked first."""
