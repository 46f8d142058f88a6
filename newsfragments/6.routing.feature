Numbers are translated by `dialplan`, sent to gateways by `dr_rules` with fail-over and probing, and spread over destinations by `dispatcher`; changed rows count at once.
