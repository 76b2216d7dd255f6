//! Losses and their repair.
