//! What is known to break systems like this one, each as a test of its own: the name is the scenario.

mod joins;
mod moves;
mod views;
mod writes;
