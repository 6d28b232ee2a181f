"""Pods that take part of a GPU, with CPU and memory beside it, placed one by one on nodes that never empty.

**Problem.** Node n has cards of 1,000 milli each, CPU and memory. A pod of shape k takes c_k CPU, m_k memory and
either part of one card (g_k milli) or n_k whole cards, on models it accepts. It must be placed at once if it fits
anywhere; where is the choice. What it destroys for those who come later is its cost.

**Prices.** Let b_k be the money with which shape k has come so far: its pods times their GPUs. The free fleet is
sold in one market (Fisher's, solved by Eisenberg and Gale): maximise Σ_k b_k·log x_k over the numbers of slots x_k
that fit into what is free. Its dual is the price at which shape k's money buys its slots,

    w_k = b_k / x_k.

A shape with few places bids high for them (T4 pods for T4 cards); a shape that fills gaps nobody else can use
finds many slots and bids little. How much is still to come does not enter: more money for all scales every price
alike.

**Value of a node.** V(state) = the most that the bids w pay for what is left of it: which shapes, on which cards,
within its CPU and memory. Relaxing CPU and memory by prices α, β gives an upper bound that separates into cards,

    V(state) = min over (α, β) of  α·cpu + β·memory + Σ_cards h(left on the card; α, β) ,

h an unbounded knapsack on one card. α and β run over a small grid, h is a table, so V of a changed node is a few
additions per grid point. The minimising α is the node's own price of CPU.

**Cost of a placement** = V(before) − V(after): the opportunity cost, in the money of the bids. The pod goes where
it is least; ties to the tighter card, then the first node.

**Clearing.** Frank and Wolfe: the fleet's best answer to the bids gives the slots used, x moves a little towards
them. Steps continue from where the last clearing ended, because the market moves little between two of them.

**What it does not do.** It never refuses a pod that fits, moves nothing, and knows only what has arrived.
"""
