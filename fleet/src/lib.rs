//! Simulated meters, seeded
