Every command of OpenSIPS 3.6 for the modules of the reference deployment is there, with events for programs (`event_subscribe`), requests by hand (`t_uac_dlg`, `t_reply`) and `opensips-cli trace`.
