Users edit who may watch them (pres-rules) and their contact lists (resource-lists, rls-services, pidf-manipulation) by XCAP at /xcap-root of the HTTP site, with the password of their phone.
