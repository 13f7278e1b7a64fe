//! The ticket lock, its paravirtual slow path, its models and its simulator. Depends on nothing else here but the error.

pub mod check;
pub mod sim;
