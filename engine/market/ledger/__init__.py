"""The ledger: what every lease costs whom, in double entry and integer micro-USD.

Every event that moves money carries it: `with_money` adds to the events of a decision the entries that they cause,
`Books.take` posts them when the event is applied, live and on replay alike. An entry's legs sum to zero. A lease's
total is set aside in an escrow of its own when it starts, paid out to suppliers and pots as its seconds start, and
what is left when it ends goes back to the tenant.

    outside ──DEPOSIT──▶ tenant ──ESCROW──▶ escrow of a lease ──SETTLEMENT──▶ suppliers, and pots:
            ◀─WITHDRAWAL─       ◀─REFUND──                                    network fee, burn, make-whole

`check` proves all this from the journal alone and shares no code with the rest.
"""
