//! Finding and training: supernet, strategies, optimisers, training of the final network.

pub mod supernet;
