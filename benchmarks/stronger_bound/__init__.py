"""A bound that no linear price can prove, one GPU model at a time: programs and branching. `python -m` runs it.

D(p) lets a gang be half served. To see how much of a plan's gap comes from that, the market is split by GPU model
and every gang is made whole again within its model:

    OPT <= Σ_b min(S_b, M_b) + settled          (S_b: the model's share of D, M_b: what is proven of it)

*The split.* Few gangs stand between models, but they tie them all together, so there is one component only. Those
gangs are split by Lagrangian multipliers. A gang that takes one model of several pays λ_i, at most its surplus at
p, outside, and is worth value_i − λ_i in each model that it could use; that it may use only one is relaxed. A gang
that may mix models buys single GPUs, worth μ_i each in every model, and what is left of it,
max(0, value_i − n_i·μ_i), is settled outside; where that would cost more than LOSS_MOST of its value, it pays p
itself for whatever a model sells it, and its surplus at p is settled outside. All are Lagrangian relaxations.
S_b = the regret of the model's sellers + the surplus of its gangs after λ + Σ μ_i's gain at p, which no solution
of the model's program can exceed.

*The program.* All choices that D knows (the relaxed ones: what a plan may use lies in one of them) and all rows of
the model; nothing is pruned by price. Gangs are whole. What it leaves out only raises M_b: replicas are divisible,
nodes of a row are one heap, a supplier's share is free. Gangs of several models that are dearer here than
elsewhere by more than DEARER are divisible, too. Rows that no gang of the program tells apart are merged, with all
their asks. Gangs whose asks alone exceed their value are not in it: dropping them from a plan only raises its
welfare.

M_b is whatever HiGHS has proven when its time is up, plus its tolerance.

*Branching*, for models too large for it (`blocks`, `seats`, `columns`, `branch`). The model with its gangs is a
problem of its own, and prices prove a bound of it just as D. Two things go beyond prices. Fees for *seats*: T
being the rows of a fabric or a site, gangs of at least s GPUs inside T are at most ⌊cap_T / s⌋, and the multiplier
of that is what each pays for its seats. And *leaves*: of some large gangs it is decided whether they are served;
the bound is the largest of all open leaves, each with prices of its own. Every leaf's value is `Block.value`, a
bound at whatever prices and fees; those come from a linear program over whole placements (column generation, the
first leaf) and from the relaxed market, cleared anew. Where gangs are divisible they are so here, too, each within
what it wants.
"""
