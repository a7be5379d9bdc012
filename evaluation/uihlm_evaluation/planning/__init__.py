"""Which way of asking pays on a link: the figures of a pair, equations, and the choice."""
