"""State: registrar, dialogs, accounting, balancer and the small directories."""
