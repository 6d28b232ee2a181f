"""Back-tests: a request stream and a supply history played against pricing policies, seeded and reproducible.

`scenario` says what is played, `demand_step` and `trace` draw it; `policies` set prices; `simulation` plays one
policy; `metrics` measures it; `runs` spreads seeds over processes; `price_picture` draws prices over time.
"""
